from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError, MissingTier
from braintuning.lowlevel.nuisance import NUISANCE, envelope, nuisance_features, position, word_rate

TR = 1.7
TIMES = 0.4 + TR * np.arange(-2, 25)


def kernel(distance, tr=TR):
    """Lanczos kernel with three lobes, a zero crossing a TR."""
    x = distance / tr
    return np.sinc(x) * np.sinc(x / 3) if abs(x) < 3 else 0.0


def words_at(starts):
    return [Interval("word", float(start), float(start) + 0.2) for start in starts]


def test_word_rate_is_the_sum_of_a_kernel_at_every_words_start():
    starts = np.random.default_rng(0).uniform(0, 40, 90)
    found = word_rate(words_at(starts), TIMES, TR)
    expected = [sum(kernel(time - start) for start in starts) / TR for time in TIMES]
    assert found.shape == (len(TIMES), 1) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("order", [1, -1])
def test_a_steady_rate_is_in_words_a_second_whatever_the_order_of_words(order):
    found = word_rate(words_at(np.arange(-20, 80, 0.25)[::order]), TIMES, TR)
    np.testing.assert_allclose(found, 4.0, rtol=0.02)


def test_words_far_away_count_for_nothing():
    assert not word_rate(words_at([1000.0]), TIMES, TR).any()


def test_envelope_is_the_root_mean_square_of_each_hundredth_second():
    audio = tiny.sound(3, 30.0).astype(np.float32)[: 16_000 * 30 - 77]
    frames = [audio[start : start + 160] for start in range(0, len(audio) - 159, 160)]
    rms = [np.sqrt(np.mean(np.float64(frame) ** 2)) for frame in frames]
    expected = [sum(kernel(t - 0.01 * (k + 0.5)) * r for k, r in enumerate(rms)) * 0.01 / TR for t in TIMES]
    found = envelope(audio, TIMES, TR)
    assert found.shape == (len(TIMES), 1) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


def test_envelope_of_a_steady_tone_is_its_root_mean_square_and_of_silence_nothing():
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(16_000 * 60) / 16_000).astype(np.float32)
    inside = envelope(tone, np.arange(10.0, 50.0, TR), TR)
    np.testing.assert_allclose(inside, 0.5 / np.sqrt(2), rtol=0.02)
    assert not envelope(tone[:0], TIMES, TR).any() and not envelope(0 * tone, TIMES, TR).any()
    np.testing.assert_allclose(envelope(tone, np.array([500.0]), TR), 0)


def test_position_runs_from_start_to_end_of_the_audio_with_its_square():
    found = position(np.array([-1.0, 0.0, 15.0, 30.0]), 30.0)
    np.testing.assert_allclose(found, [[-16 / 15, 256 / 225], [-1, 1], [0, 0], [1, 1]], rtol=1e-6)


class Voices:
    """Stories of a tone, some without words."""

    tr = TR

    def __init__(self, seconds, wordless=(), empty=()):
        self.seconds, self.wordless, self.empty = seconds, wordless, empty

    def audio(self, story):
        return tiny.sound(1, self.seconds[story]).astype(np.float32)

    def words(self, story):
        if story in self.wordless:
            raise MissingTier(f"{story}: no tier")
        return [] if story in self.empty else words_at(np.arange(1.0, self.seconds[story], 0.6))


def test_a_storys_features_depend_on_no_other_story():
    grids = {"a": TIMES, "b": TIMES[:20]}
    both, names = nuisance_features(Voices({"a": 45.0, "b": 33.0}), grids)
    alone, _ = nuisance_features(Voices({"a": 45.0}), {"a": TIMES})
    longer, _ = nuisance_features(Voices({"b": 500.0, "a": 45.0}), {"b": np.arange(0, 490, TR), "a": TIMES})
    assert names == NUISANCE and both["a"].shape == (27, 4) and both["b"].shape == (20, 4)
    np.testing.assert_array_equal(both["a"], alone["a"])
    np.testing.assert_array_equal(both["a"], longer["a"])
    assert both["b"][:, 2].max() == pytest.approx(2 * TIMES[19] / 33 - 1)


@pytest.mark.parametrize("lacking", [{"wordless": ("b",)}, {"empty": ("b",)}])
def test_without_the_words_of_one_story_none_has_a_word_rate(lacking):
    grids = {"a": TIMES, "b": TIMES[:20]}
    found, names = nuisance_features(Voices({"a": 45.0, "b": 33.0}, **lacking), grids)
    whole, _ = nuisance_features(Voices({"a": 45.0, "b": 33.0}), grids)
    assert names == ("envelope", "position")
    for story in grids:
        np.testing.assert_array_equal(found[story], whole[story][:, 1:])


def test_a_broken_file_of_words_is_no_story_without_words():
    def broken(story):
        raise InputError("a.TextGrid: cut off")

    voices = Voices({"a": 45.0})
    dataset = SimpleNamespace(tr=TR, audio=voices.audio, words=broken)
    tiny.refused(lambda: nuisance_features(dataset, {"a": TIMES}), "cut off")
