import itertools

import jiwer
import numpy as np
import pytest
import tiny
import torch
from braintuning.probes import asr, scores
from braintuning.probes.utterance import PARTS, Utterance
from corpus_files import noise_utterances

RNG = np.random.default_rng


def test_text_is_written_encoded_and_decoded():
    assert asr.written("It's  half-past 7, Tom!") == "it's half past tom"
    assert asr.written("I don’t") == "i don't"
    numbers = asr.encoded("hello all").tolist()
    framed = [n for number in numbers for n in (number, number, asr.BLANK)]
    assert asr.decoded(framed) == "hello all"
    assert asr.decoded([n for n in framed if n != asr.BLANK]) == "helo al"


def test_word_errors_are_those_of_jiwer():
    truth, heard = ["one two three", "four five"], ["one too three four", "five"]
    counts = asr.errors_and_words(truth, heard)
    assert counts.tolist() == [[2, 3], [1, 2]]
    assert scores.word_accuracy(counts.sum(axis=0)) == pytest.approx(1 - jiwer.wer(truth, heard))


def frames_of_text(text, directions, rng, noise=0.05):
    """Each character is a direction in two frames, with a blank after them."""
    numbers = [n for number in asr.encoded(text).tolist() for n in (number, number, asr.BLANK)]
    return torch.from_numpy(directions[numbers] + noise * rng.standard_normal((len(numbers), 40))).float()


def fitted_head(noise, epochs=60):
    texts = {part: ["the cat sat", "a hat", "that chat", "eat the heat"] * 4 for part in PARTS}
    rng = RNG(0)
    directions = rng.standard_normal((len(asr.CHARACTERS) + 1, 40))
    frames = {part: [frames_of_text(t, directions, rng, noise) for t in some] for part, some in texts.items()}
    head, converged = asr.fit_head(lambda part, i: frames[part][i], texts, 40, [], epochs, 0, "cpu")
    return head, converged, lambda part, i: frames[part][i], texts


def test_the_loss_is_that_of_all_paths_and_a_mean_over_utterances_of_any_length():
    """Minus the log probability of every sequence of numbers that reads as the text, for each character."""
    rng, head, each = RNG(0), torch.nn.Linear(3, len(asr.CHARACTERS) + 1), []
    frames = [torch.from_numpy(rng.standard_normal((n, 3))).float() for n in (5, 3)]
    for of_one, text in zip(frames, ("ab", "a"), strict=True):
        p = head(of_one).softmax(dim=-1).detach().double().numpy()
        paths = itertools.product((asr.BLANK, *set(asr.encoded("ab").tolist())), repeat=len(p))
        reading = [path for path in paths if asr.decoded(path) == text]
        each.append(-np.log(sum(np.prod(p[range(len(p)), path]) for path in reading)) / len(text))
    found = asr._loss(head, frames, [asr.encoded("ab"), asr.encoded("a")])
    assert found.item() == pytest.approx(np.mean(each), rel=1e-5)


def test_characters_that_a_line_can_read_are_recognised():
    head, _, frames, texts = fitted_head(0.05)
    assert scores.word_accuracy(asr._recognised(head, frames, "test", texts).sum(axis=0)) > 0.9


def test_only_the_order_of_utterances_is_drawn():
    directions = RNG(0).standard_normal((len(asr.CHARACTERS) + 1, 40))
    frames = frames_of_text("the cat", directions, RNG(1))
    texts = {part: ["the cat"] for part in PARTS}
    heads = [asr.fit_head(lambda *_: frames, texts, 40, [], 5, seed, "cpu")[0] for seed in (0, 1)]
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=0, atol=0)
    assert heads[0].weight.abs().sum() > 0


def test_what_cannot_be_read_is_no_worse_than_silence_where_it_is_chosen():
    head, converged, frames, texts = fitted_head(30.0, epochs=5)
    assert not converged
    assert scores.word_accuracy(asr._recognised(head, frames, "validation", texts).sum(axis=0)) >= 0


def test_a_bias_of_the_blank_counts_errors_as_the_biased_layer_makes_them():
    head, _, frames, texts = fitted_head(2.0, epochs=5)
    numbers = [asr.encoded(text) for text in texts["validation"]]
    _, errors = asr._validated(head, frames, texts["validation"], numbers)
    assert len(set(errors.values())) > 1
    for bias, found in errors.items():
        with torch.no_grad():
            head.bias[asr.BLANK] += bias
            assert asr._recognised(head, frames, "validation", texts)[:, 0].sum() == found
            head.bias[asr.BLANK] -= bias if bias < 1e3 else 0
            if bias >= 1e3:
                break


def test_a_trunk_is_tuned_without_changing_the_encoder_that_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr(asr, "EPOCHS", 4)
    monkeypatch.setattr(asr, "TUNED_EPOCHS", 4)
    parts = {part: [] for part in PARTS}
    for number, utterance in enumerate(noise_utterances(tmp_path, (8000,) * 6)):
        text = ("on", "no")[number % 2]
        parts[PARTS[number // 2]].append(Utterance(f"s{number}", text, utterance.file, text=text))
    encoder = tiny.encoder()
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    (tuned,), (frozen,) = asr.measure_tuned(parts, encoder, "cpu", 0), asr.measure(parts, encoder, "cpu", 0)
    assert all(torch.equal(before[name], p) for name, p in encoder.named_parameters())
    assert tuned.layer == frozen.layer == encoder.n_layers and tuned.value <= 1
