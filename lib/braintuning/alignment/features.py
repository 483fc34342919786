"""Features of stories: what every layer of a speech model holds as they are heard."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import torch

from braintuning import timing
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.fast import Kernels, kept_kernels
from braintuning.backbone.precision import autocast
from braintuning.study.settings import Features

MOST_ON_DEVICE = 256 << 20
"""Bytes of a story's tokens that wait on the device before they are copied from it together."""
Tokens = tuple[list[np.ndarray], np.ndarray]


def _tokens_of_window(window: float, hop: float, step: float, frame_seconds: float) -> np.ndarray:
    n_tokens = round(min(hop, window) / step)
    return np.rint(np.arange(n_tokens)[::-1] * step / frame_seconds).astype(np.int64)


class _Windows:
    """Windows over a story, and the tokens that the encoders read from them."""

    def __init__(self, audio: np.ndarray, settings: Features) -> None:
        self.audio = torch.from_numpy(audio)
        self.ends = timing.window_ends(len(audio) / timing.SAMPLE_RATE, settings.hop_seconds)
        lengths = np.minimum(self.ends, settings.window_seconds)
        self.of_length = {length: list(group) for length, group in groupby(range(len(lengths)), lengths.__getitem__)}
        self._on_device: list[list[torch.Tensor]] = []
        self._kept: list[list[np.ndarray]] = []
        self._times: list[np.ndarray] = []

    def cut(self, number: int, length: float) -> torch.Tensor:
        """The sound of a window, where the story is."""
        end = int(timing.to_samples(self.ends[number]))
        return self.audio[end - int(timing.to_samples(length)) : end]

    def add(self, read: list[torch.Tensor], times: np.ndarray) -> None:
        """Take what each encoder read, (layers + 1, tokens, dim), after what it read before."""
        self._on_device.append(read)
        self._times.append(times)
        if len(self._on_device) * sum(tokens.nbytes for tokens in read) > MOST_ON_DEVICE:
            self.fetch()

    def fetch(self) -> None:
        """Take the tokens off the device, in float32."""
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
    """Tokens of all layers every `step_seconds`, each from a window that ends at most `hop_seconds` later.

    A window holds the last `window_seconds` of sound, or all of it before that much has been heard. With
    `hop_seconds == step_seconds` every token is the last of its own window, as in the paper. The front end, which all
    encoders share, runs once for them. The short windows at the start of the stories, each of another length, are
    read first and for all stories at once; the rest story by story, whose sound and tokens stay on the device.

    Parameters
    ----------
    encoders : sequence of SpeechEncoder
        With the same front end, see `SpeechEncoder.same_front_end`.
    sounds : sequence of (samples,) float32
        Mono, 16 kHz; a story each.
    settings : Features
    device : str

    Yields
    ------
    tokens : list of (layers + 1, n_tokens, dim) float32
        Of each encoder, for one story after the other.
    times : (n_tokens,) float64
        Seconds after the sound's start.
    """
    stories, kernels = [_Windows(audio, settings) for audio in sounds], {}
    read = partial(_read, encoders, settings=settings, device=device, kernels=kernels)
    for length in sorted({length for story in stories for length in story.of_length} - {settings.window_seconds}):
        read([story for story in stories if length in story.of_length], length)
    for story in stories:
        story.fetch()
    while stories:
        story = stories.pop(0)
        if settings.window_seconds in story.of_length:
            story.audio = story.audio.to(device)
            read([story], settings.window_seconds)
        yield story.tokens()


def _read(
    encoders: Sequence[SpeechEncoder],
    stories: Sequence[_Windows],
    length: float,
    settings: Features,
    device: str,
    kernels: Kernels,
) -> None:
    """Add to each story the tokens of its windows of one length, a few windows of whichever story at a time."""
    first = encoders[0]
    n_frames = first.n_frames(int(timing.to_samples(length)))
    back = _tokens_of_window(length, settings.hop_seconds, settings.step_seconds, first.frame_seconds)
    back = back[back < n_frames]
    frames = torch.from_numpy(n_frames - 1 - back).to(device)
    every = [(story, number) for story in stories for number in story.of_length[length]]
    keeping = kept_kernels(kernels)
    with torch.no_grad(), keeping, autocast(device):
        for start in range(0, len(every), settings.batch_size):
            batch = every[start : start + settings.batch_size]
            front = first.front_end(torch.stack([story.cut(number, length) for story, number in batch]).to(device))
            read = [encoder.trunk(front, frames=frames) for encoder in encoders]
            for story, group in groupby(range(len(batch)), key=lambda place: batch[place][0]):
                places = list(group)
                ends = story.ends[[batch[place][1] for place in places]]
                mine = slice(places[0], places[-1] + 1)
                story.add(
                    [hidden[:, mine].flatten(1, 2) for hidden in read],
                    (ends[:, None] - back * first.frame_seconds).ravel(),
                )


def story_features(
    encoders: Sequence[SpeechEncoder],
    sounds: Sequence[np.ndarray],
    times: Sequence[np.ndarray],
    tr: float,
    settings: Features,
    device: str = "cpu",
) -> Iterator[list[np.ndarray]]:
    """Features of all layers on the TR grid, story by story.

    Parameters
    ----------
    encoders : sequence of SpeechEncoder
        With the same front end.
    sounds : sequence of (samples,) float32
        Mono, 16 kHz; a story each.
    times : sequence of (rows,) float
        Of each story, seconds after the sound's start, `tr` apart.
    tr : float
        Seconds.
    settings : Features
    device : str

    Yields
    ------
    features : list of (layers + 1, rows, dim) float32
        Of each encoder.
    """
    for (fine, fine_times), rows in zip(tokens(encoders, sounds, settings, device), times, strict=True):
        yield [np.stack([timing.lanczos_resample(layer, fine_times, rows, tr) for layer in layers]) for layers in fine]
