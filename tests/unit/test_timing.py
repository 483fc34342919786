from fractions import Fraction

import numpy as np
import pytest
from braintuning.errors import InputError
from braintuning.timing import (
    SAMPLE_RATE,
    cut,
    delay,
    lanczos_resample,
    lanczos_weights,
    row_times,
    spacing,
    to_samples,
    window_ends,
    windows,
)


@pytest.fixture(scope="module")
def oracles(shared):
    with np.load(shared / "data" / "oracles" / "reference_numerics.npz") as file:
        return dict(file)


START = Fraction("10.028")


def sample_of_row(row, tr, offset):
    """Sample at which a row is read, in exact arithmetic: volume row + 10, sound 10.028 s after the trigger."""
    return round(((row + 10 + Fraction(offset)) * Fraction(tr) - START) * SAMPLE_RATE)


@pytest.mark.parametrize("tr", ["2.0045", "1.49", "2"])
def test_trap_rows_and_volumes_off_by_the_trim(tr):
    starts = np.array([float(volume * Fraction(tr) - START) for volume in (10, 11, 12)])
    np.testing.assert_allclose(row_times(3, float(tr)), starts + float(tr) / 2, rtol=0, atol=1e-12)
    for offset in (0.0, 0.5, 1.0):
        read = starts + offset * float(tr)
        np.testing.assert_allclose(row_times(3, float(tr), row_offset=offset), read, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tr", [2.0045, 1.49, 0.72])
def test_the_spacing_of_times_is_the_tr(tr):
    assert spacing(row_times(291, tr)) == pytest.approx(tr, abs=1e-12)
    with pytest.raises(InputError, match="TR times: found 1, expected at least two"):
        spacing(row_times(1, tr))


@pytest.mark.parametrize("tr", ["2.0045", "1.49"])
@pytest.mark.parametrize("row", [0, 7, 299])
@pytest.mark.parametrize("before", [1, SAMPLE_RATE, 10 * SAMPLE_RATE])
@pytest.mark.parametrize("offset", ["0", "0.5", "1"])
def test_trap_windows_cut_at_whole_seconds(tr, row, before, offset):
    end = sample_of_row(row, tr, offset)
    audio = np.zeros(700 * SAMPLE_RATE, np.float32)
    if end >= before:
        audio[end - before] = 1
    audio[end] = 2
    clip = windows(audio, row_times(row + 1, float(tr), row_offset=float(offset))[-1:], 10.0)[0]
    expected = np.zeros(10 * SAMPLE_RATE, np.float32)
    if end >= before:
        expected[-before] = 1
    np.testing.assert_array_equal(clip, expected)


def test_times_go_to_the_nearest_sample():
    assert to_samples([0.29, 1.1, -0.1, 10.045]).tolist() == [4640, 17600, -1600, 160720]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (-3, [0, 0, 0, 0]),
        (0, [0, 0, 0, 0]),
        (2, [0, 0, 1, 2]),
        (5, [2, 3, 4, 5]),
        (7, [4, 5, 0, 0]),
        (20, [0, 0, 0, 0]),
    ],
)
def test_silence_before_and_after_the_sound(end, expected):
    assert cut(np.arange(1, 6, dtype=np.float32), end, 4).tolist() == expected


def test_tr_must_be_positive():
    with pytest.raises(InputError, match="TR"):
        row_times(3, 0)


@pytest.mark.parametrize(
    ("duration", "hop", "step", "expected"),
    [
        (1.0, 0.1, 0.1, np.arange(1, 11) / 10),
        (0.35, 0.1, 0.1, [0.1, 0.2, 0.3]),
        (7.0, 2.0, 2.0, [2, 4, 6]),
        (7.0, 2.0, 0.5, [2, 4, 6, 7]),
        (7.09, 3.5, 0.1, [3.5, 7]),
        (1.99, 8.0, 0.1, [1.9]),
        (0.05, 8.0, 0.1, []),
    ],
)
def test_sliding_windows_fill_the_story_and_no_more(duration, hop, step, expected):
    assert window_ends(duration, hop, step) == pytest.approx(expected)


def test_lanczos_agrees_with_the_reference(oracles):
    found = lanczos_resample(oracles["lanczos_data"], oracles["lanczos_times"], oracles["lanczos_new_times"], tr=2.0045)
    np.testing.assert_allclose(found, oracles["lanczos_out"], atol=1e-12)


@pytest.mark.parametrize(("period", "gain"), [(60.0, 1.0), (12.0, 1.0), (2.5, 0.0), (0.9, 0.0)])
def test_lanczos_keeps_slow_sines_and_drops_those_above_nyquist(period, gain):
    tr, step = 2.0045, 0.1
    old, new = np.arange(0, 400, step), np.arange(20, 380, tr)
    found = lanczos_resample(np.sin(2 * np.pi * old / period)[:, None], old, new, tr)[:, 0] * step / tr
    np.testing.assert_allclose(found, gain * np.sin(2 * np.pi * new / period), atol=0.06)


@pytest.mark.parametrize(("n_new", "n_old"), [(7, 200), (40, 3), (5, 0), (0, 4)])
def test_lanczos_weights_are_those_of_every_pair_of_times(n_new, n_old):
    lobes, rng = 3, np.random.default_rng(0)
    new, old = rng.uniform(-5, 60, n_new), rng.uniform(0, 50, n_old)
    expected = np.zeros((n_new, n_old))
    for i, here in enumerate(new):
        for j, there in enumerate(old):
            x = (here - there) / 2.0045
            if abs(x) <= lobes:
                expected[i, j] = lobes * np.sin(np.pi * x) * np.sin(np.pi * x / lobes) / (np.pi * x) ** 2
    found = lanczos_weights(new, old, cutoff=1 / (2 * 2.0045))
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-12)
    assert found.nnz == np.count_nonzero(expected)


def test_lanczos_refuses_rows_without_times():
    with pytest.raises(InputError, match="3 rows of features at 4 times"):
        lanczos_resample(np.zeros((3, 2)), np.arange(4), np.arange(2), 1.0)


def test_delays_agree_with_the_reference(oracles):
    np.testing.assert_array_equal(delay(oracles["delay_in"], (1, 2, 3, 4)), oracles["delay_1_to_4_out"])


@pytest.mark.parametrize("delays", [(0,), (4,), (0, 2, 3), (3, 1), (5, 6, 100), ()])
def test_delays_are_shifts_even_longer_than_the_story(delays):
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    found = delay(x, delays)
    assert found.shape == (5, 2 * len(delays))
    assert found.dtype == x.dtype
    for row in range(5):
        for column, shift in enumerate(delays):
            expected = x[row - shift] if row >= shift else [0, 0]
            assert found[row, 2 * column : 2 * column + 2].tolist() == list(expected)
