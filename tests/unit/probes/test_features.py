import numpy as np
import pytest
import soundfile
import tiny
import torch
from braintuning.probes import features
from corpus_files import noise_utterances
from tiny import refused


@pytest.mark.parametrize("family", ["hubert", "whisper"])
def test_an_utterance_is_the_mean_of_its_own_frames_whatever_else_is_in_the_batch(tmp_path, family):
    encoder, heard = tiny.encoder(family), noise_utterances(tmp_path, (8000, 12_345, 8000, 16_000))
    found = features.states(encoder, {"test": heard})["test"]
    for utterance, state in zip(heard, found, strict=True):
        with torch.no_grad():
            alone = encoder(torch.from_numpy(utterance.audio())[None])[:, 0].mean(dim=1).numpy()
        np.testing.assert_allclose(state[:, 0], alone, atol=1e-5)


def test_an_utterance_shorter_than_a_frame_is_named(tmp_path):
    short = noise_utterances(tmp_path, (300,))
    refused(lambda: features.states(tiny.encoder(), {"test": short}), "0.wav", "300 samples")


def test_a_model_hears_each_set_of_utterances_once_for_all_kinds_and_divisions(tmp_path, monkeypatch):
    everything, encoder = noise_utterances(tmp_path, (8000, 12_345, 8000, 16_000, 9000)), tiny.encoder()
    store = features.Store(tmp_path / "store", {"model": 1}, tuple(features.KINDS))
    divided = {"train": everything[:3], "test": everything[3:]}
    other = {"train": everything[2:], "test": everything[:2]}
    plain = {kind: features.states(encoder, divided, kind) for kind in features.KINDS}
    first = features.states(encoder, divided, "mean", store=store)
    monkeypatch.setattr(features, "passes", None)
    for kind, expected in plain.items():
        found = features.states(encoder, divided, kind, store=store)
        for part in divided:
            for one, another in zip(found[part], expected[part], strict=True):
                np.testing.assert_array_equal(one, another)
    swapped = features.states(encoder, other, "mean", store=store)
    np.testing.assert_array_equal(swapped["test"][1], first["train"][1])
    with pytest.raises(TypeError):
        features.states(encoder, divided, store=features.Store(tmp_path / "store", {"model": 2}))
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setenv("BRAINTUNING_PRECISION", "bfloat16")
        features.states(encoder, divided, store=store)
    soundfile.write(everything[0].file, np.zeros(8001), 16_000)
    with pytest.raises(TypeError):
        features.states(encoder, divided, "mean", store=store)


def test_lengths_of_another_rate_are_those_of_the_resampled_audio(tmp_path):
    heard = noise_utterances(tmp_path, range(16_000, 16_010), rate=32_000)
    stored = features.Store(tmp_path / "store", 0)
    for store in (None, stored):
        found = features.states(tiny.encoder(), {"test": heard}, "last layer", store=store)["test"]
        assert [one.shape[1] for one in found] == [tiny.encoder().n_frames(len(u.audio())) for u in heard]


def test_what_was_read_longest_ago_makes_room(tmp_path, monkeypatch):
    encoder = tiny.encoder()
    store = features.Store(tmp_path / "store", 0)
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    sets = [{"test": noise_utterances(tmp_path / str(number), (8000 + number,) * 3)} for number in range(3)]
    features.states(encoder, sets[0], store=store)
    size = store.file("mean", sets[0]["test"], "cpu").stat().st_size
    monkeypatch.setattr(features, "MOST_BYTES", 2 * size)
    for utterances in (sets[1], sets[0], sets[2]):
        features.states(encoder, utterances, store=store)
    assert [store.file("mean", some["test"], "cpu").is_file() for some in sets] == [True, False, True]


def test_no_more_than_a_batch_of_audio_is_read_at_a_time(tmp_path, monkeypatch):
    read, everything = [], noise_utterances(tmp_path, (8000, 9000, 10_000))
    monkeypatch.setattr(features.Utterance, "audio", lambda self: read.append(self) or np.zeros(8000, np.float32))
    for number, _ in enumerate(features.passes(tiny.encoder(), everything, ("mean",)), 1):
        assert len(read) == number
