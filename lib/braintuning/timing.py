"""TR grid, clips, sliding windows, Lanczos resampling, FIR delays: everything about time is here."""

import numpy as np
from scipy import sparse

from braintuning.errors import InputError

SAMPLE_RATE = 16_000
SOUND_START = 10.028
"""Seconds from the first trigger to the start of the audio in ds003020: the median of the eleven trigger logs that were
published of it (10.0274 to 10.0289; github.com/denizenslab/brain-informed-fine-tuning)."""
LOBES = 3
"""Zero crossings of the Lanczos kernel that are kept on either side."""


def row_times(
    n_rows: int, tr: float, first_volume: int = 10, sound_start: float = SOUND_START, row_offset: float = 0.5
) -> np.ndarray:
    """Seconds after the start of the audio at which the stored rows of a story are read; (n_rows,) float64.

    Volume `v` is acquired from `v * tr` to `(v + 1) * tr` seconds after the first trigger. In ds003020 the first 10
    volumes are not stored, so that row `i` is volume `i + 10`, and the audio starts `SOUND_START` after the trigger.

    Parameters
    ----------
    tr
        Repetition time in seconds; `InputError` unless positive.
    first_volume
        Volume that row 0 holds.
    sound_start
        Start of the audio in seconds after the first trigger.
    row_offset
        Where in a volume's acquisition its time lies, in TRs: 0 its start, 0.5 its middle, 1 its end.
    """
    if not tr > 0:
        raise InputError(f"TR: found {tr}, expected a positive number of seconds")
    return (np.arange(n_rows) + first_volume + row_offset) * tr - sound_start


def spacing(times: np.ndarray) -> float:
    """Repetition time of TR times, (TRs,), in seconds; `InputError` with fewer than two."""
    if len(times) < 2:
        raise InputError(f"TR times: found {len(times)}, expected at least two, a TR apart")
    return float((times[-1] - times[0]) / (len(times) - 1))


def to_samples(times: np.ndarray) -> np.ndarray:
    """Sample indices at 16 kHz nearest to `times` in seconds; int64, same shape."""
    return np.rint(np.asarray(times) * SAMPLE_RATE).astype(np.int64)


def cut(audio: np.ndarray, end: int, n_samples: int) -> np.ndarray:
    """Samples `[end - n_samples, end)` of (samples,) audio as float32, with zeros before its start and past its end."""
    out = np.zeros(n_samples, dtype=np.float32)
    start = end - n_samples
    low, high = max(start, 0), min(end, len(audio))
    if low < high:
        out[low - start : high - start] = audio[low:high]
    return out


def windows(audio: np.ndarray, ends: np.ndarray, seconds: float) -> np.ndarray:
    """The `seconds` of (samples,) audio at 16 kHz up to each of (windows,) `ends`; (windows, samples) float32.

    `ends` are seconds after the start of the audio; each window stops at the sample nearest to its end.
    """
    n_samples = int(to_samples(seconds))
    return np.stack([cut(audio, end, n_samples) for end in to_samples(ends)])


def window_ends(duration: float, hop: float, step: float) -> np.ndarray:
    """Ends of sliding windows: every `hop` seconds, and at the last whole `step` of the `duration`; float64 seconds."""
    ends = np.arange(1, int(duration / hop + 1e-9) + 1) * hop
    last = int(duration / step + 1e-9) * step
    return np.append(ends, last) if last > max(ends, default=0.0) + step / 2 else ends


def lanczos_weights(new_times: np.ndarray, old_times: np.ndarray, cutoff: float) -> sparse.csr_array:
    """Weights of a Lanczos low-pass filter between two time grids, in any order; (n_new, n_old) float64.

    `sinc(f t) * sinc(f t / 3)` within 3 zero crossings and 0 outside, with `f = 2 * cutoff`, `cutoff` in Hz, and the
    sum not normalised (Lanczos 1956; the cut-off convention is that of Huth et al. 2016).
    """
    new_times, old_times = np.asarray(new_times, np.float64), np.asarray(old_times, np.float64)
    reach, order = LOBES / (2 * cutoff), np.argsort(old_times, kind="stable")
    low, high = (
        np.searchsorted(old_times, new_times + edge, side, sorter=order)
        for edge, side in ((-reach, "left"), (reach, "right"))
    )
    counts = high - low
    ends = np.cumsum(counts)
    columns = order[np.arange(ends[-1] if len(ends) else 0) + np.repeat(low - ends + counts, counts)]
    x = 2 * cutoff * (np.repeat(new_times, counts) - old_times[columns])
    weights = np.sinc(x) * np.sinc(x / LOBES)
    return sparse.csr_array((weights, columns, np.append(0, ends)), shape=(len(new_times), len(old_times)))


def lanczos_resample(data: np.ndarray, old_times: np.ndarray, new_times: np.ndarray, tr: float) -> np.ndarray:
    """Bring features from a fine or irregular time grid to the TR grid; (n_new, features) in the dtype of `data`.

    Low-pass at the Nyquist rate of the TR grid, `1 / (2 tr)`. Like the field's usual code the filter sums over the old
    samples without normalising, so features must be z-scored afterwards.

    Parameters
    ----------
    data : (n_old, features) float
    old_times, new_times : (n_old,), (n_new,) float
        Seconds.
    """
    if len(data) != len(old_times):
        raise InputError(f"Lanczos: found {len(data)} rows of features at {len(old_times)} times, expected as many")
    weights = lanczos_weights(new_times, old_times, cutoff=1 / (2 * tr))
    return (weights @ data).astype(data.dtype)


def delay(features: np.ndarray, delays: tuple[int, ...]) -> np.ndarray:
    """Copies of (TRs, features) shifted to later rows: a finite impulse response model of the haemodynamic lag.

    `delays` are shifts in rows of one story, before which all is 0. The result, (TRs, len(delays) * features), has all
    features at the first delay, then at the second.
    """
    delayed = np.zeros((len(features), len(delays), features.shape[1]), dtype=features.dtype)
    for column, shift in enumerate(delays):
        delayed[shift:, column] = features[: max(len(features) - shift, 0)]
    return delayed.reshape(len(features), -1)
