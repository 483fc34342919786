import json

import numpy as np
import soundfile
from braintuning.spoken_words import WINDOW_SECONDS, recorded, synthesised
from tiny import refused

RATE = 16_000


def test_a_spoken_word_stands_in_the_middle_of_its_window():
    said = synthesised(["last", "enormous"], ["clara", "edmund"], seed=0)
    assert [(word.word, word.speaker) for word in said] == [
        ("last", "clara"), ("enormous", "clara"), ("last", "edmund"), ("enormous", "edmund")
    ]  # fmt: skip
    for word in said:
        assert word.audio.shape == (WINDOW_SECONDS * RATE,) and word.audio.dtype == np.float32
        half, middle = round(word.seconds / 2 * RATE), len(word.audio) // 2
        inside = np.sqrt(np.mean(word.audio[middle - half : middle + half] ** 2))
        assert inside > 1.2 * np.sqrt(np.mean(word.audio**2))
    assert said[1].seconds > said[0].seconds and said[3].seconds > said[2].seconds


def test_one_seed_gives_one_sound():
    one, again, other = (synthesised(["last"], ["rosa"], seed)[0].audio for seed in (0, 0, 1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_an_unknown_voice_is_named():
    refused(lambda: synthesised(["last"], ["nobody"], 0), "nobody", "clara")


def test_recorded_words_come_from_different_speakers(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE).astype(np.float32)
    lines = []
    for number in range(4):
        audio = np.zeros(4 * RATE, np.float32)
        audio[RATE : 2 * RATE] = tone[RATE : 2 * RATE]
        soundfile.write(tmp_path / f"{number}.wav", audio, RATE)
        words = [["LAST(2)", 1.0, 2.0], ["other", 2.0, 2.5], ["last", 3.0, 3.5]]
        lines.append({"file": f"{number}.wav", "speaker": f"s{number // 2}", "words": words})
    lines.append({"file": "none.wav", "speaker": "s9"})
    (tmp_path / "alignments.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = recorded(tmp_path, ["last", "never"], per_word=3, seed=0)
    assert sorted((word.word, word.speaker, word.seconds) for word in said) == [
        ("last", "s0", 1.0),
        ("last", "s1", 1.0),
    ]
    loud = np.flatnonzero(np.abs(said[0].audio) > 0.1)
    middle = WINDOW_SECONDS / 2
    assert abs(loud[0] - (middle - 0.5) * RATE) < 80 and abs(loud[-1] - (middle + 0.5) * RATE) < 80
    assert len(recorded(tmp_path, ["last"], per_word=1, seed=0)) == 1


def test_a_folder_without_alignments_is_named(tmp_path):
    refused(lambda: recorded(tmp_path, ["last"], 1, 0), tmp_path, "alignments.jsonl")
