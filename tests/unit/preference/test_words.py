import json

import numpy as np
import soundfile
import soxr
from braintuning.demo.voices import RATE as SPOKEN_RATE
from braintuning.demo.voices import VOICES, speak
from braintuning.preference.words import SENTENCE, WINDOW_SECONDS, recorded, synthesised
from braintuning.results import generator
from tiny import refused

RATE = 16_000


def test_a_synthesised_word_is_in_the_middle_of_its_window():
    said = synthesised(["last", "enormous"], ["clara", "edmund"], seed=0)
    assert [(word.word, word.speaker) for word in said] == [
        ("last", "clara"), ("enormous", "clara"), ("last", "edmund"), ("enormous", "edmund")
    ]  # fmt: skip
    for word in said:
        assert word.audio.shape == (WINDOW_SECONDS * RATE,) and word.audio.dtype == np.float32
        seed = int(generator(0, word.speaker, word.word).integers(2**31))
        speech = speak(SENTENCE.format(word.word), VOICES[word.speaker], seed=seed)
        start, end = next((start, end) for label, start, end in speech.words if label == word.word)
        alone = soxr.resample(speech.audio, SPOKEN_RATE, RATE)[round(start * RATE) : round(end * RATE)]
        found = np.argmax(np.correlate(word.audio, alone, mode="valid"))
        assert word.seconds == end - start and abs(found + len(alone) / 2 - len(word.audio) / 2) <= 2
    assert said[1].seconds > said[0].seconds and said[3].seconds > said[2].seconds


def test_one_seed_gives_one_audio():
    one, again, other = (synthesised(["last"], ["rosa"], seed)[0].audio for seed in (0, 0, 1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_an_unknown_voice_is_named():
    refused(lambda: synthesised(["last"], ["nobody"], 0), "nobody", "clara")


def test_recorded_words_are_in_the_middle_and_speakers_of_few_are_left_out(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE).astype(np.float32)
    lines = []
    for speaker, n_files in (("often", 3), ("seldom", 2)):
        for number in range(n_files):
            audio = np.zeros(4 * RATE, np.float32)
            audio[RATE : round(1.8 * RATE)] = tone[RATE : round(1.8 * RATE)]
            file = f"{speaker}{number}.wav"
            soundfile.write(tmp_path / file, audio, RATE)
            words = [["“LAST”(2)", 1.0, 1.8], ["other", 2.0, 2.5], ["cast", 3.0, 3.5], ["last", 2.0, 3.3]]
            words += [["cast", 3.6, 3.61], ["cast", 3.7, 3.7]]
            lines.append({"file": file, "speaker": speaker, "words": words})
    lines.append({"file": "none.wav", "speaker": "often"})
    (tmp_path / "alignments.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = recorded(tmp_path, ["last", "cast", "never"])
    expected = [("cast", "often", 0.5)] * 3 + [("last", "often", 0.8)] * 3
    assert sorted((word.word, word.speaker, round(word.seconds, 6)) for word in said) == expected
    loud = np.flatnonzero(np.abs(said[0].audio) > 0.1)
    middle = WINDOW_SECONDS / 2
    assert said[0].word == "last"
    assert abs(loud[0] - (middle - 0.4) * RATE) < 80 and abs(loud[-1] - (middle + 0.4) * RATE) < 80


def test_words_after_the_end_of_a_recording_are_named_with_it(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(2 * RATE), RATE)
    words = [["last", at, at + 0.5] for at in (0.0, 0.5, 1.0, 1.5, 2.5)]
    (tmp_path / "alignments.jsonl").write_text(json.dumps({"file": "a.wav", "speaker": "s", "words": words}))
    refused(lambda: recorded(tmp_path, ["last"]), tmp_path / "a.wav", "'last' ends at 3.00 s", "2.00 s")


def test_a_folder_without_alignments_is_named(tmp_path):
    refused(lambda: recorded(tmp_path, ["last"]), tmp_path, "alignments.jsonl")


def test_broken_alignments_are_named_with_file_and_line(tmp_path):
    path = tmp_path / "alignments.jsonl"
    path.write_text('\ufeff\n{"file": "a.wav"}\n{"words": [["last", 0, 1]]}\n', encoding="utf-8")
    refused(lambda: recorded(tmp_path, ["last"]), f"{path}: line 3", "no 'file'")
    for spoilt in (
        {"file": None},
        {"file": 12},
        {"speaker": None},
        {"speaker": ["s"]},
        {"words": [["last", 0, np.nan]]},
    ):
        entry = {"file": "a.wav", "speaker": "s", "words": [["last", 0, 1]]} | spoilt
        path.write_text("\n" + json.dumps(entry))
        refused(lambda: recorded(tmp_path, ["last"]), f"{path}: line 2", f"in {next(iter(spoilt))!r}")
    path.write_text("\n{")
    refused(lambda: recorded(tmp_path, ["last"]), f"{path}: line 2", "not JSON")
