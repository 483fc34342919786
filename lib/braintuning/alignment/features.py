"""Layer activations over sliding windows."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch

from braintuning import timing
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.fast import Kernels, compile_blocks, kept_kernels
from braintuning.backbone.precision import autocast
from braintuning.errors import InputError
from braintuning.study.settings import Features

PAPER = Features()
MOST_ON_DEVICE = 256 << 20
"""Bytes of a story's tokens that wait on the device before they are copied from it together."""
Tokens = tuple[list[np.ndarray], np.ndarray]


class _Windows:
    """Windows over a story, and the tokens that the encoders compute from them."""

    def __init__(self, audio: np.ndarray, settings: Features) -> None:
        self.audio = torch.from_numpy(audio)
        seconds, step = len(audio) / timing.SAMPLE_RATE, settings.step_seconds
        self.ends = timing.window_ends(seconds, settings.hop_seconds, step)
        if not len(self.ends):
            raise InputError(f"audio: found {len(audio)} samples, expected at least {step:g} s, a step of the windows")
        lengths = np.minimum(self.ends, settings.window_seconds)
        n_tokens = np.rint(np.minimum(np.diff(self.ends, prepend=0), lengths) / step).astype(int)
        kinds = list(zip(lengths, n_tokens, strict=True))
        self.of_kind = {kind: list(group) for kind, group in groupby(range(len(kinds)), kinds.__getitem__)}
        self._on_device: list[list[torch.Tensor]] = []
        self._kept, self._times = list[list[np.ndarray]](), list[np.ndarray]()

    def cut(self, number: int, length: float) -> torch.Tensor:
        """Audio of a window, on the story's device."""
        end = int(timing.to_samples(self.ends[number]))
        return self.audio[end - int(timing.to_samples(length)) : end]

    def add(self, new: list[torch.Tensor], times: np.ndarray) -> None:
        """Append each encoder's tokens, (layers + 1, tokens, dim)."""
        self._on_device.append(new)
        self._times.append(times)
        if len(self._on_device) * sum(tokens.nbytes for tokens in new) > MOST_ON_DEVICE:
            self.fetch()

    def fetch(self) -> None:
        """Copy the tokens from the device, in float32."""
        if self._on_device:
            of_each = zip(*self._on_device, strict=True)
            self._kept.append([torch.cat(pieces, dim=1).float().cpu().numpy() for pieces in of_each])
        self._on_device = []

    def tokens(self) -> Tokens:
        """All tokens of each encoder, and their times."""
        self.fetch()
        return [np.concatenate(pieces, axis=1) for pieces in zip(*self._kept, strict=True)], np.concatenate(self._times)


def tokens(
    encoders: Sequence[SpeechEncoder], sounds: Sequence[np.ndarray], settings: Features, device: str = "cpu"
) -> Iterator[Tokens]:
    """Tokens of all layers every `step_seconds`, each from a window that ends less than `hop_seconds` later.

    A window holds the last `window_seconds` of audio, or all of it at the start of the story; the last one ends with
    the audio. With `hop_seconds == step_seconds` every token is the last of its own window, as in the paper; with a
    longer hop tokens have heard up to `hop_seconds - step_seconds` of sound that comes after them. The front end, which
    all encoders share (see `SpeechEncoder.same_front_end`), runs once for them. The windows at the start of each story,
    which are shorter and all of different length, are computed first, batched across stories; then the full windows,
    story by story, with audio and tokens kept on the device.

    Yields
    ------
    tokens : list of (layers + 1, n_tokens, dim) float32
        Of each encoder, for one story after the other.
    times : (n_tokens,) float64
        Seconds after the start of the audio.
    """
    stories, kernels = [_Windows(audio, settings) for audio in sounds], {}
    for encoder in encoders:
        compile_blocks(encoder.model)
    for kind in sorted({kind for story in stories for kind in story.of_kind if kind[0] < settings.window_seconds}):
        _compute(encoders, [story for story in stories if kind in story.of_kind], kind, settings, device, kernels)
    for story in stories:
        story.fetch()
    while stories:
        story = stories.pop(0)
        for kind in [kind for kind in story.of_kind if kind[0] == settings.window_seconds]:
            story.audio = story.audio.to(device)
            _compute(encoders, [story], kind, settings, device, kernels)
        yield story.tokens()


def _compute(
    encoders: Sequence[SpeechEncoder],
    stories: Sequence[_Windows],
    kind: tuple[float, int],
    settings: Features,
    device: str,
    kernels: Kernels,
) -> None:
    """Add to each story the tokens of its windows of one kind (seconds, tokens at the end), batched across stories."""
    first, (length, n_tokens) = encoders[0], kind
    n_frames = first.n_frames(int(timing.to_samples(length)))
    back = np.rint(np.arange(n_tokens)[::-1] * settings.step_seconds / first.frame_seconds).astype(np.int64)
    back = back[back < n_frames]
    frames = torch.from_numpy(n_frames - 1 - back).to(device)
    windows = [(story, number) for story in stories for number in story.of_kind[kind]]
    with torch.no_grad(), kept_kernels(kernels), autocast(device):
        for start in range(0, len(windows), settings.batch_size):
            batch = windows[start : start + settings.batch_size]
            front = first.front_end(torch.stack([story.cut(number, length) for story, number in batch]).to(device))
            hidden = [encoder.trunk(front, frames=frames) for encoder in encoders]
            for story, group in groupby(range(len(batch)), key=lambda place: batch[place][0]):
                places = list(group)
                mine = slice(places[0], places[-1] + 1)
                times = story.ends[[number for _, number in batch[mine]], None] - back * first.frame_seconds
                story.add([states[:, mine].flatten(1, 2) for states in hidden], times.ravel())


def at_trs(layers: np.ndarray, token_times: np.ndarray, times: np.ndarray, tr: float) -> np.ndarray:
    """Tokens of every layer, (layers + 1, tokens, dim), resampled to TRs; (layers + 1, TRs, dim), times in seconds."""
    return np.stack([timing.lanczos_resample(layer, token_times, times, tr) for layer in layers])


def extract_features(
    encoder: SpeechEncoder,
    audio: np.ndarray,
    times: np.ndarray,
    tr: float,
    settings: Features = PAPER,
    device: str = "cpu",
) -> np.ndarray:
    """Hidden states of every layer at a story's TRs: tokens from sliding windows, resampled by a Lanczos filter.

    Parameters
    ----------
    encoder : SpeechEncoder
        On `device`.
    audio : (samples,) float32
        Mono, 16 kHz.
    times, tr : (TRs,) float, float
        Times of the TRs in seconds after the start of the audio, and the interval between them.
    settings : Features
        Length, hop and step of the windows in seconds, and windows per batch; the paper's by default.

    Returns
    -------
    features : (layers + 1, TRs, dim) float32
        Not z-scored; `encoding.design_matrix` z-scores and delays them.

    Examples
    --------
    >>> features = bt.extract_features(encoder, audio, times=np.arange(10, 60, 2.0), tr=2.0)
    """
    (((layers,), token_times),) = tokens([encoder], [audio], settings, device)
    return at_trs(layers, token_times, times, tr)
