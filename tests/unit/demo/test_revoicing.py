"""Words spoken at times that are given: oracles are the labels, which explain the sound best where they are."""

import json
from itertools import pairwise

import h5py
import numpy as np
import pytest
from braintuning.datasets.textgrid import Interval
from braintuning.demo import revoicing
from braintuning.demo.revoicing import LONGEST_GAP, ROOM, phrases, revoice, revoiced, timed_stories
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.demo.voices import VOICES, speak
from braintuning.lowlevel.acoustic import power_spectrum
from braintuning.lowlevel.phones import without_stress
from tiny import refused

RATE = 16_000
TEXT = """Sam saw six small seals asleep on a sandy shore, and we cannot stay, said the doctor, though the boats had
gone and nobody minded as far as anybody could tell. Birds circled over the rocks while my sister sang so softly that
sleep seized every one of us before the moon came up behind the lighthouse."""


def moved(intervals, rng):
    """The same labels at other times: every word begins anew, some after a pause, and is 0.6 to 1.6 times as long."""
    words, phones, now = [], [], 0.7
    for word in intervals.words:
        inside = [p for p in intervals.phones if word.start - 1e-6 <= p.start and p.end <= word.end + 1e-6]
        now += rng.choice([0.0, 0.05, 0.5], p=[0.6, 0.2, 0.2])
        factor = rng.uniform(0.6, 1.6)
        phones += [Interval(p.label, *(now + factor * (t - word.start) for t in p[1:])) for p in inside]
        words.append(Interval(word.label, now, now + factor * (word.end - word.start)))
        now = words[-1].end
    return words, phones, now + 1.5


@pytest.fixture(scope="module")
def story():
    return moved(speak(TEXT, VOICES["clara"], seed=0), np.random.default_rng(5))


@pytest.fixture(scope="module", params=["clara", "edmund", "winnie"])
def spoken(story, request):
    return revoice(*story, VOICES[request.param])


def rms(audio):
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


def explained(audio, phones, shift):
    """Share of the variance of the spectrum that phones explain if all of them were `shift` seconds later."""
    bands, times = power_spectrum(audio)
    labels = np.full(len(times), "", "<U2")
    for phone in phones:
        labels[(times >= phone.start + shift) & (times < phone.end + shift)] = without_stress(phone.label)
    heard = bands[labels != ""]
    left = sum(np.sum((x - x.mean(axis=0)) ** 2) for x in (bands[labels == one] for one in set(labels) - {""}))
    return 1 - left / np.sum((heard - heard.mean(axis=0)) ** 2)


def test_every_phone_is_heard_at_its_time(story, spoken):
    shifts = np.arange(-0.06, 0.061, 0.01)
    found = [explained(spoken[0], story[1], shift) for shift in shifts]
    assert abs(shifts[np.argmax(found)]) < 0.015
    assert max(found) > 1.3 * explained(spoken[0], story[1], 0.3)


def test_words_are_loud_and_pauses_are_quiet_but_nowhere_silent(story, spoken):
    (words, _, seconds), (audio, unspoken) = story, spoken
    assert unspoken == 0 and abs(len(audio) - seconds * RATE) <= 1 and np.abs(audio).max() <= 1
    loud = rms(np.concatenate([audio[round(w.start * RATE) : round(w.end * RATE)] for w in words]))
    assert loud == pytest.approx(0.06, rel=0.03)
    gaps = [(a.end + 0.06, b.start - 0.06) for a, b in pairwise(words) if b.start - a.end > 0.3]
    assert len(gaps) > 3
    for start, end in [*gaps, (0.0, words[0].start - 0.06)]:
        quiet = audio[round(start * RATE) : round(end * RATE)]
        assert 0.3 * ROOM < rms(quiet) < loud / 30


def test_a_word_with_other_phones_than_the_text_to_speech_says_keeps_its_edges(story):
    words, _, seconds = story
    audio, _ = revoice(words, [], seconds, VOICES["clara"])
    late = next(w for before, w in pairwise(words) if w.start - before.end > 0.4)
    onset = round((late.start + 0.03) * RATE)
    assert rms(audio[onset : onset + 800]) > 5 * rms(audio[round((late.start - 0.3) * RATE) :][:800])


def test_what_cannot_be_said_is_left_silent_and_counted(story):
    words, phones, seconds = story
    number = next(i for i, (a, b) in enumerate(pairwise(words), 1) if b.start - a.end > 0.4)
    dirty = [w._replace(label="w8t#") if i == number else w for i, w in enumerate(words)]
    dirty[3] = dirty[3]._replace(label="")
    audio, unspoken = revoice(dirty, phones, seconds, VOICES["clara"])
    assert unspoken == 2
    middle = round((words[number].start + 0.06) * RATE), round((words[number].end - 0.06) * RATE)
    clean, _ = revoice(words, phones, seconds, VOICES["clara"])
    assert rms(audio[slice(*middle)]) < rms(clean[slice(*middle)]) / 20
    refused(lambda: revoice([dirty[number]], [], 9.0, VOICES["clara"]), "none of 1", "expected English words")


def test_a_label_of_two_words_is_said_within_its_interval(story):
    words, phones, seconds = story
    joined = [words[0]._replace(label=f"{words[0].label} {words[1].label}", end=words[1].end), *words[2:]]
    audio, unspoken = revoice(joined, phones, seconds, VOICES["clara"])
    assert unspoken == 0
    shifts = np.arange(-0.06, 0.061, 0.01)
    assert abs(shifts[np.argmax([explained(audio, phones, shift) for shift in shifts])]) < 0.015


def test_phrases_end_at_pauses_and_at_words_that_cannot_be_said():
    starts = np.cumsum([0, 0.3, 0.3, 0.3 + LONGEST_GAP + 0.01, 0.3, 0.3])
    labels = ["one", "two", "three", "four", "5%", "six"]
    words = [Interval(label, t, t + 0.3) for label, t in zip(labels, starts.tolist(), strict=True)]
    assert [[w.label for w in p] for p in phrases(words)] == [["one", "two", "three"], ["four"], ["six"]]
    assert [len(p) for p in phrases([Interval("word", 0.3 * i, 0.3 * i + 0.3) for i in range(60)])] == [25, 25, 10]


def test_one_seed_one_sound(story, spoken):
    first, again = (revoice(*story, VOICES["rosa"], seed=3)[0] for _ in range(2))
    assert first.tobytes() == again.tobytes()


@pytest.fixture
def copy(tmp_path, story):
    """A folder with TextGrids and volumes of two stories."""
    words, phones, seconds = story
    for name in ("first", "second"):
        write_textgrid(tmp_path / "TextGrids" / f"{name}.TextGrid", {"phone": phones, "word": words}, seconds)
    (tmp_path / "respdict.json").write_text(json.dumps({"first": 40, "second": 41, "third": 9}))
    return tmp_path


def test_stories_are_found_in_a_folder_of_textgrids_and_in_a_copy_of_the_dataset(copy, tmp_path):
    found = timed_stories(copy, ["second"])["second"]
    assert found.n_volumes == 41 and found.textgrid == copy / "TextGrids" / "second.TextGrid"
    for name in ("derivative", "derivatives"):
        inside = tmp_path / f"ds-{name}" / name
        inside.mkdir(parents=True)
        for part in ("TextGrids", "respdict.json"):
            (inside / part).symlink_to(copy / part)
        assert timed_stories(inside.parent, ["second"])["second"].words == found.words


def test_what_is_missing_is_named(copy):
    refused(lambda: timed_stories(copy / "nowhere", ["first"]), "nowhere", "no such folder", "textgrids", "make data")
    refused(lambda: timed_stories(copy, ["fourth"]), "respdict.json", "fourth", "expected")
    refused(lambda: timed_stories(copy, ["third"]), "third.TextGrid", "expected")
    for wrong in ("{", "[1, 2]", '{"first": "40"}', '{"first": 40.5}', '{"first": NaN}', '{"first": null}'):
        (copy / "respdict.json").write_text(wrong)
        refused(lambda: timed_stories(copy, ["first"]), "respdict.json", "found", "expected")
    (copy / "respdict.json").write_text('{"first": 40.0}')
    assert timed_stories(copy, ["first"])["first"].n_volumes == 40


def test_stories_are_spoken_once_and_kept(copy, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(revoicing, "CACHE", tmp_path / "cache")
    stories = timed_stories(copy, ["first", "second"])
    given = dict.fromkeys(stories, 45.0), dict.fromkeys(stories, VOICES["clara"])
    files = revoiced(stories, *given)
    with h5py.File(files["first"]) as file:
        kept, unspoken = file["audio"][:], file.attrs["unspoken"]
    timed = stories["first"]
    audio, expected = revoice(timed.words, timed.phones, 45.0, VOICES["clara"])
    np.testing.assert_array_equal(kept, np.round(audio * 32767).astype(np.int16))
    assert unspoken == expected == 0
    before = {story: path.stat().st_mtime_ns for story, path in files.items()}
    assert revoiced(stories, *given) == files
    assert {story: path.stat().st_mtime_ns for story, path in files.items()} == before
    other = revoiced({"first": timed}, {"first": 46.0}, given[1])
    assert other["first"] != files["first"]
    assert not list((tmp_path / "cache" / "revoiced").glob(".partial*"))
