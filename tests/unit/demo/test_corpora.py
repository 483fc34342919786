import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest
import tiny
import yaml
from braintuning.demo import corpora
from braintuning.demo.pretraining_corpus import pretraining_stories
from braintuning.demo.stories import STORY_TEXTS, story_text
from braintuning.demo.voices import speak
from braintuning.probes import linear
from braintuning.probes.corpora import aligned
from braintuning.probes.utterance import PARTS
from braintuning.results import REPOSITORY
from braintuning.study import load_study
from sklearn.metrics import f1_score


def test_voices_of_the_parts_are_different_people_and_the_same_every_time():
    made = corpora.speakers(0)
    assert Counter(part for part, _ in made) == corpora.SPEAKERS_OF_PART
    everyone = [voice for _, voice in made]
    assert len({voice.name for voice in everyone}) == len({voice.pitch for voice in everyone}) == len(everyone)
    assert made == corpora.speakers(0) and made != corpora.speakers(1)


@cache
def lines_of(name):
    return tuple(corpora.STAND_INS[name](0))


@pytest.mark.parametrize("name", list(corpora.STAND_INS))
def test_a_stand_in_corpus_shares_no_speaker_and_no_prompt_between_parts(name):
    lines = lines_of(name)
    for what in ("speaker",) if name == "words" else ("speaker", "prompt"):
        found = {
            part: {line.voice.name if what == "speaker" else line.prompt for line in lines if line.part == part}
            for part in PARTS
        }
        assert all(found.values())
        assert not (
            found["train"] & found["validation"]
            or found["train"] & found["test"]
            or found["validation"] & found["test"]
        )
    labels = {part: {line.label for line in lines if line.part == part} for part in PARTS}
    assert labels["train"] == labels["validation"] == labels["test"]
    assert (
        len(labels["train"]) == {"sentences": 1, "words": 35, "sentence types": 3, "prosody": 6, "commands": 46}[name]
    )


def told(stories):
    return {" ".join(story_text(story).split()) for story in stories if (STORY_TEXTS / f"{story}.txt").is_file()}


@pytest.mark.parametrize("path", sorted((REPOSITORY / "data" / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_model_is_tuned_on_a_sentence_that_validates_or_tests_a_probe(path):
    study = load_study(path)
    if not study.probes.tasks:
        return
    heard = told({*study.stories.train, *study.stories.tuning_only, *study.stories.validation})
    for name in set(corpora.STAND_INS) - {"words"}:
        for line in lines_of(name):
            if line.part != "train":
                assert not any(line.text.strip(".?") in text for text in heard), line.text


def test_the_small_models_were_pretrained_on_no_sentence_that_tests_a_probe():
    heard = {" ".join(text.split()) for text in pretraining_stories().values()}
    tested = {line.text.strip(".") for line in corpora.sentences(0) if line.part == "test"}
    assert len(tested) == 60 and not any(sentence in text for sentence in tested for text in heard)


def test_a_stand_in_corpus_is_made_once_and_read_as_aligned_speech(tmp_path, monkeypatch):
    few = [line for line in corpora.prosody(0) if line.label in ("plain", "raised")][:2]
    monkeypatch.setitem(corpora.STAND_INS, "prosody", lambda seed: iter(few))
    monkeypatch.setattr(corpora, "CACHE", tmp_path)
    said = []
    with tiny.listening(said.append):
        folder = corpora.stand_in_corpus("prosody")
        assert corpora.stand_in_corpus("prosody") == folder and len(said) == 1
    plain, raised = aligned.read(folder)
    assert plain.text == raised.text and plain.phones and plain.part == "train"
    above = []
    for utterance in (plain, raised):
        sound = utterance.audio()
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(corpora.LEVEL, rel=1e-3) and np.abs(sound).max() < 0.9
        power = np.abs(np.fft.rfft(sound)) ** 2
        above.append(power[np.fft.rfftfreq(len(sound), 1 / 16_000) > 1000].sum() / power.sum())
    assert above[1] > 2 * above[0]
    few[0] = replace(few[0], part="test")
    with tiny.listening(said.append):
        assert corpora.stand_in_corpus("prosody") != folder and len(said) == 2


def test_effort_tilts_the_spectrum_by_decibels_an_octave():
    for hertz, decibels in ((125, 0), (250, 0), (500, 6), (1000, 12), (4000, 24), (7000, 24)):
        sound = np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)
        assert 20 * np.log10(np.std(corpora.tilted(sound, 6.0)) / np.std(sound)) == pytest.approx(decibels, abs=1e-6)


def test_noise_is_within_six_decibels_of_the_sound():
    sound = np.sin(np.arange(32_000) / 5).astype(np.float32)
    ratios = []
    for seed in range(20):
        noisy = corpora.in_noise(sound, np.random.default_rng(seed))
        ratios.append(10 * np.log10(np.var(sound) / np.var(noisy - sound)))
    assert -6.2 < min(ratios) < -2 and 2 < max(ratios) < 6.2


def test_length_and_level_do_not_give_the_sentence_type_away():
    """A probe on how long and how loud the first sentences of each voice are is within .2 of the chance level."""
    lines = list(corpora.sentence_types(0))
    first = [line for number, line in enumerate(lines) if number % 12 < 3]
    rows, truth = {part: [] for part in PARTS}, {part: [] for part in PARTS}
    for number, line in enumerate(first):
        sound = speak(line.text, line.voice, seed=number).audio
        rows[line.part].append((len(sound), np.std(corpora.levelled(sound))))
        truth[line.part].append([line.label == name for name in ("statement", "question", "list")])
    truth = [np.array(truth[part]) for part in PARTS]
    predicted = linear.fit_classes([np.array(rows[part]) for part in PARTS], truth, True).predicted
    assert f1_score(truth[2], predicted, average="macro") < 1 / 3 + 0.2


def test_statement_question_and_list_are_equally_long():
    lines = list(corpora.sentence_types(1))
    lengths = {
        n: np.array([corpora.spoken_length(x.text) for x in lines if x.label == n]) for n in ("question", "list")
    }
    statements = np.array([corpora.spoken_length(line.text) for line in lines if line.label == "statement"])
    assert np.std(statements) > 3
    for length in lengths.values():
        assert abs(np.mean(length - statements)) < 0.5 and np.median(np.abs(length - statements)) < 1


def test_every_intent_has_phrasings_of_its_own():
    phrasings = yaml.safe_load(corpora.COMMANDS.read_text(encoding="utf-8"))
    everything = [said for some in phrasings.values() for said in some]
    assert len(phrasings) == 46 and {len(some) for some in phrasings.values()} == {8}
    assert len(set(everything)) == len(everything)


def test_jobs_that_need_a_corpus_at_once_make_it_once(tmp_path, monkeypatch):
    written = []

    def write(folder, number, *_):
        time.sleep(0.01)
        written.append(number)
        return {"file": f"{number}.flac"}

    monkeypatch.setattr(corpora, "CACHE", tmp_path)
    monkeypatch.setitem(corpora.STAND_INS, "words", lambda seed: islice(corpora.words(seed), 20))
    monkeypatch.setattr(corpora, "_write", write)
    with ThreadPoolExecutor(3) as pool:
        folders = set(pool.map(corpora.stand_in_corpus, ["words"] * 3))
    assert len(folders) == 1 and written == list(range(20))
