import numpy as np
import torch
from braintuning.alignment import encoding
from braintuning.alignment import layers as alignment
from braintuning.alignment.layers import on_device_if_it_fits, predict_layers, standard_responses
from braintuning.study.settings import Encoding

SETTINGS = Encoding(delays=(1, 2), n_alphas=2, validation_chunk_rows=5, test_skip_rows=1)
ROWS = {"a": 20, "b": 31, "c": 12}


def material():
    rng = np.random.default_rng(0)
    features = {story: rng.standard_normal((3, rows + 2, 4)).astype(np.float32) for story, rows in ROWS.items()}
    responses = {story: rng.normal(3, 2, (rows, 7)).astype(np.float32) for story, rows in ROWS.items()}
    return features, responses


def test_each_story_is_standardised_on_its_own():
    _, responses = material()
    found = standard_responses(responses, ["b", "a"])
    assert found.shape == (51, 7) and found.dtype == np.float32
    for rows, story in ((found[:31], "b"), (found[31:], "a")):
        expected = (responses[story] - responses[story].mean(axis=0)) / responses[story].std(axis=0)
        np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_responses_are_standardised_once_for_all_layers(monkeypatch):
    features, responses = material()
    seen, plain = [], encoding.zscore
    monkeypatch.setattr(encoding, "zscore", lambda data: seen.append(len(data)) or plain(data))
    found = list(predict_layers(features, responses, ["a", "b"], ["c"], SETTINGS))
    assert seen == [20, 31] and [layer.shape for layer in found] == [(11, 7)] * 3
    assert not np.allclose(found[0], found[1])


def test_responses_go_to_a_gpu_where_they_take_little_of_it(monkeypatch):
    responses, moved = np.ones((10, 25), np.float32), []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: moved.append((tuple(tensor.shape), device)))
    for free in (1000 / alignment.SHARE_OF_GPU - 1, 1000 / alignment.SHARE_OF_GPU + 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda n=free: (n, n))
        kept = on_device_if_it_fits(responses, "cuda")
        assert (kept is responses) == (not moved)
    assert moved == [((10, 25), "cuda")]
    assert on_device_if_it_fits(responses, "cpu") is responses
