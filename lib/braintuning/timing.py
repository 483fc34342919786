"""The one place that knows time: TR grid, clips, sliding windows, Lanczos resampling, FIR delays."""

import numpy as np
from scipy import sparse

from braintuning.errors import InputError

SAMPLE_RATE = 16_000


def row_times(
    n_rows: int, tr: float, first_volume: int = 10, sound_start: float = 10.0, row_offset: float = 0.0
) -> np.ndarray:
    """Times at which the stored rows of a story were acquired, counted from the start of its sound.

    In ds003020 the scanner starts 10 s before the sound and the first 10 volumes are not stored, so row `i` is volume
    `i + 10`, acquired `(i + 10) * tr` seconds after the first trigger.

    Parameters
    ----------
    n_rows : int
        Stored rows.
    tr : float
        Repetition time in seconds.
    first_volume : int
        Volume that row 0 holds.
    sound_start : float
        Start of the sound in seconds after the first trigger.
    row_offset : float
        Where in a volume's acquisition its time lies, in TRs: 0 its start, 0.5 its middle, 1 its end.

    Returns
    -------
    times : (n_rows,) float64
        Seconds after the sound's start; negative before it.

    Raises
    ------
    InputError
        The TR is not positive.
    """
    if not tr > 0:
        raise InputError(f"TR: found {tr}, expected a positive number of seconds")
    return (np.arange(n_rows) + first_volume + row_offset) * tr - sound_start


def to_samples(times: np.ndarray) -> np.ndarray:
    """Sample indices at 16 kHz nearest to `times` in seconds; int64, same shape."""
    return np.rint(np.asarray(times) * SAMPLE_RATE).astype(np.int64)


def cut(audio: np.ndarray, end: int, n_samples: int) -> np.ndarray:
    """Samples `[end - n_samples, end)` of `audio`, with silence where the recording has not begun or is over.

    Parameters
    ----------
    audio : (samples,) float32
        Mono, 16 kHz.
    end : int
        Sample index one past the last of the cut.
    n_samples : int
        Length of the cut.

    Returns
    -------
    cut : (n_samples,) float32
    """
    out = np.zeros(n_samples, dtype=np.float32)
    start = end - n_samples
    low, high = max(start, 0), min(end, len(audio))
    if low < high:
        out[low - start : high - start] = audio[low:high]
    return out


def windows(audio: np.ndarray, ends: np.ndarray, seconds: float) -> np.ndarray:
    """The audio heard in the `seconds` up to each time: what a model hears to predict a row acquired then.

    Parameters
    ----------
    audio : (samples,) float32
        Mono, 16 kHz.
    ends : (windows,) float
        Seconds after the sound's start; each window ends there to the sample.
    seconds : float
        Length of a window.

    Returns
    -------
    windows : (windows, samples) float32
    """
    n_samples = int(to_samples(seconds))
    return np.stack([cut(audio, end, n_samples) for end in to_samples(ends)])


def window_ends(duration: float, step: float) -> np.ndarray:
    """Ends of sliding windows: every `step` seconds up to `duration`, the first at `step`; float64 seconds."""
    n_windows = int(np.floor(duration / step + 1e-9))
    return np.arange(1, n_windows + 1) * step


def lanczos_weights(new_times: np.ndarray, old_times: np.ndarray, cutoff: float, lobes: int = 3) -> sparse.csr_array:
    """Weights of a Lanczos low-pass filter between two time grids.

    `sinc(f t) * sinc(f t / lobes)` within `lobes` zero crossings and 0 outside, with `f = 2 * cutoff` and the sum not
    normalised (Lanczos 1956; the cut-off convention is that of Huth et al. 2016).

    Parameters
    ----------
    new_times, old_times : (n_new,), (n_old,) float
        Seconds, in any order.
    cutoff : float
        Low-pass frequency in Hz.
    lobes : int
        Zero crossings kept on either side.

    Returns
    -------
    weights : (n_new, n_old) sparse float64
    """
    new_times, old_times = np.asarray(new_times, np.float64), np.asarray(old_times, np.float64)
    reach, order = lobes / (2 * cutoff), np.argsort(old_times, kind="stable")
    low, high = (
        np.searchsorted(old_times, new_times + edge, side, sorter=order)
        for edge, side in ((-reach, "left"), (reach, "right"))
    )
    counts = high - low
    ends = np.cumsum(counts)
    columns = order[np.arange(ends[-1] if len(ends) else 0) + np.repeat(low - ends + counts, counts)]
    x = 2 * cutoff * (np.repeat(new_times, counts) - old_times[columns])
    weights = np.sinc(x) * np.sinc(x / lobes)
    return sparse.csr_array((weights, columns, np.append(0, ends)), shape=(len(new_times), len(old_times)))


def lanczos_resample(
    data: np.ndarray, old_times: np.ndarray, new_times: np.ndarray, tr: float, lobes: int = 3
) -> np.ndarray:
    """Bring features from a fine or irregular time grid to the TR grid.

    Low-pass at the Nyquist rate of the TR grid, `1 / (2 tr)`. Like the field's usual code the filter sums over the old
    samples without normalising, so features must be z-scored afterwards.

    Parameters
    ----------
    data : (n_old, features) float
    old_times, new_times : (n_old,), (n_new,) float
        Seconds.
    tr : float
        Spacing of the new grid in seconds.
    lobes : int
        Zero crossings kept on either side.

    Returns
    -------
    resampled : (n_new, features), dtype of `data`
    """
    if len(data) != len(old_times):
        raise InputError(f"Lanczos: found {len(data)} rows of features at {len(old_times)} times, expected as many")
    weights = lanczos_weights(new_times, old_times, cutoff=1 / (2 * tr), lobes=lobes)
    return (weights @ data).astype(data.dtype)


def delay(features: np.ndarray, delays: tuple[int, ...]) -> np.ndarray:
    """Copies of the features shifted to later rows: a finite impulse response model of the haemodynamic lag.

    Parameters
    ----------
    features : (rows, features) float
        One story; rows before the story are taken as 0.
    delays : tuple of int
        Shifts in rows, 0 or more.

    Returns
    -------
    delayed : (rows, len(delays) * features)
        Delay-major columns: all features at the first delay, then at the second.
    """
    delayed = np.zeros((len(features), len(delays), features.shape[1]), dtype=features.dtype)
    for column, shift in enumerate(delays):
        delayed[shift:, column] = features[: max(len(features) - shift, 0)]
    return delayed.reshape(len(features), -1)
