from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.datasets.textgrid import Interval
from braintuning.demo.phone_probe import (
    Recording,
    accuracy,
    frame_phones,
    probe_table,
    real_recordings,
    real_split,
    synthesised_recordings,
    write_card,
)
from braintuning.demo.pretraining import Pretraining, save_small
from braintuning.demo.pretraining_corpus import held_out_speakers, real_speakers
from braintuning.demo.voices import VOICES
from braintuning.errors import InputError
from braintuning.lowlevel.phones import PHONES

MODELS = Path(__file__).resolve().parents[3] / "data" / "models"


def encoder(seed=0):
    config = Pretraining("hubert", layers=2, dim=16, conv_dim=(8,) * 7).model_config()
    return SpeechEncoder.from_config(config, seed=seed)


def vowels(speaker, seed, phones=("IY", "AA", "S")):
    """Each phone is a sound of its own: two tones or noise, 0.1 s each, with silence between."""
    rng, time = np.random.default_rng(seed), np.arange(1600) / 16_000
    parts, intervals = [], []
    for place in range(60):
        phone = phones[rng.integers(len(phones))]
        tones = {"IY": np.sin(2 * np.pi * 2300 * time), "AA": np.sin(2 * np.pi * 700 * time)}
        parts += [tones.get(phone, rng.standard_normal(1600)), np.zeros(800)]
        intervals.append(Interval(phone, place * 0.15, place * 0.15 + 0.1))
    audio = (np.concatenate(parts) * 0.1 + rng.standard_normal(60 * 2400) * 1e-3).astype(np.float32)
    return Recording(speaker, audio, frame_phones(intervals, len(audio)))


def test_frame_phones_by_hand():
    phones = [Interval("SIL", 0.0, 0.05), Interval("AH0", 0.05, 0.1), Interval("t", 0.1, 0.135)]
    labels = frame_phones(phones, 16_000)
    assert len(labels) == 49
    centres = 0.0125 + 0.02 * np.arange(49)
    expected = np.where((centres >= 0.05) & (centres < 0.1), PHONES.index("AH"), -1)
    expected[(centres >= 0.1) & (centres < 0.135)] = PHONES.index("T")
    assert np.array_equal(labels, expected)
    assert len(frame_phones(phones, 399)) == 0 and len(frame_phones(phones, 400)) == 1


def test_frames_are_those_of_a_model():
    for n_samples in (400, 719, 720, 16_123):
        assert len(frame_phones([], n_samples)) == encoder().n_frames(n_samples)


def test_accuracy_of_planted_classes():
    rng = np.random.default_rng(0)
    phones, means = rng.integers(5, size=1000), rng.standard_normal((5, 8)) * 30
    states = means[phones] + rng.standard_normal((1000, 8))
    assert accuracy(states[:500], phones[:500], states[500:], phones[500:]) == 1.0
    flipped = (phones[500:] + 1) % 5
    assert accuracy(states[:500], phones[:500], states[500:], flipped) == 0.0
    assert accuracy(rng.standard_normal((500, 8)), phones[:500], states[500:], phones[500:]) < 0.5


def test_table_finds_phones_in_sound_and_not_in_shuffled_labels():
    train, test = [vowels("a", 0), vowels("b", 1)], [vowels("c", 2)]
    table = probe_table({"random": encoder()}, train, test, n_train=500, n_test=300)
    assert table.features.tolist() == ["commonest phone", "MFCC and deltas", "random", "random", "random"]
    assert table.layer.tolist() == [-1, -1, 0, 1, 2]
    assert table.accuracy[1] > 0.95
    labels = test[0].phones[test[0].phones != -1]
    assert table.accuracy[0] in [pytest.approx((labels == phone).mean()) for phone in np.unique(labels)]
    assert (table.test_speakers == 1).all() and (table.train_frames == 500).all()
    rng = np.random.default_rng(0)
    shuffled = [replace(r, phones=np.where(r.phones == -1, -1, rng.permutation(r.phones.clip(0)))) for r in train]
    wrong = probe_table({}, shuffled, test, n_train=500, n_test=300)
    assert wrong.accuracy[1] < 0.7


def test_same_frames_every_time():
    train, test = [vowels("a", 0)], [vowels("c", 2)]
    tables = [probe_table({"random": encoder()}, train, test, seed=s, n_train=200, n_test=100) for s in (1, 1)]
    pd.testing.assert_frame_equal(*tables)


def test_bad_input():
    with pytest.raises(InputError, match="speaker a in training and in test"):
        probe_table({}, [vowels("a", 0)], [vowels("a", 1)])
    with pytest.raises(InputError, match="no frame with a phone"):
        probe_table({}, [vowels("a", 0)], [])


def test_synthesis_is_labelled_piece_by_piece():
    text = "The old man walked home. " * 8
    recordings = synthesised_recordings([text], [VOICES["judith"]], seed=0)
    assert len(recordings) >= 2 and {r.speaker for r in recordings} == {"judith"}
    assert all(len(r.audio) <= 160_000 for r in recordings)
    for recording in recordings:
        centres = np.arange(len(recording.phones)) * 320 + 200
        level = np.array([np.square(recording.audio[c - 100 : c + 100]).mean() for c in centres])
        spoken = recording.phones != -1
        assert level[spoken].mean() > 20 * level[~spoken].mean()


def test_held_out_speakers_are_never_in_training(shared):
    folder = shared / "data" / "librispeech"
    train, test = real_split(folder)
    trained, unseen = {u.speaker for u in train}, {u.speaker for u in test}
    assert not trained & unseen
    assert len(unseen) > 45
    assert not trained & held_out_speakers(real_speakers(folder))
    assert sum(u.file.parent.name == "test-other" for u in test) >= 49
    assert not trained & {"1688", "2033", "2609", "3080", "367"}
    recording = real_recordings(test[:1])[0]
    assert recording.speaker == test[0].speaker and 0.3 < (recording.phones != -1).mean() < 1


@pytest.mark.parametrize("name", ["hubert-small", "wav2vec2-small"])
def test_shipped_models_beat_random_weights_and_mfcc(name):
    table = pd.read_csv(MODELS / name / "probe.csv")
    real = table[table.speech == "real"]
    best = real.groupby("features").accuracy.max()
    assert set(real.layer) == set(range(-1, 7))
    assert best["pretrained"] > best["random weights"]
    assert best["pretrained"] > best["MFCC and deltas"]


def test_card_says_what_was_measured(tmp_path):
    settings = Pretraining("hubert", layers=2, dim=16, conv_dim=(8,) * 7, steps=(720, 720), batch_size=4)
    save_small(encoder(), tmp_path / "tiny")
    log = [{"round": r, "step": s, "loss": 5 / r - s / 720, "seconds": 60.0} for r in (1, 2) for s in (360, 720)]
    train, test = [vowels("a", 0)], [vowels("c", 2)]
    probe = probe_table({"pretrained": encoder()}, train, test, n_train=200, n_test=100).assign(speech="real")
    write_card(tmp_path / "tiny", settings, log, probe, "nothing much.")
    card = (tmp_path / "tiny" / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    assert "Heard: 4.0 h of sound in clips, in 4 min" in card and "nothing much." in card
    assert "then of its layer 4. Of a loss on units, 50% is on frames that are not masked." in card
    assert "| 1 | 720 | 4.50 | 4.00 |" in card and "| 2 | 720 | 2.00 | 1.50 |" in card
    assert f"| pretrained | 2 | {100 * probe.accuracy.iloc[-1]:.1f} |" in card
    assert all(len(line) <= 120 for line in card.splitlines() if not line.startswith(("Settings", "-")))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "tiny" / "probe.csv"), probe, atol=1e-4)
    assert len(pd.read_csv(tmp_path / "tiny" / "log.csv")) == 4
