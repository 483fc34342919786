"""A study in memory: tuning and alignment as the pipeline does them, without dataset, pipeline and their packages."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from braintuning.alignment.correlation import correlation
from braintuning.alignment.encoding import predict_layers, scored_trs
from braintuning.alignment.features import at_trs, tokens
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.results import generator
from braintuning.study.settings import Encoding, Features, Tuning
from braintuning.timing import SAMPLE_RATE, spacing
from braintuning.tuning.loop import brain_tune
from braintuning.tuning.model import StoryTargets
from braintuning.tuning.objectives import objective
from transformers import Wav2Vec2Config


@dataclass(frozen=True)
class Job:
    """A model to tune: its name, the folder it starts from or a shape for random weights, and what it learns from."""

    name: str
    backbone: str | Wav2Vec2Config
    settings: Tuning
    train: Mapping[str, StoryTargets]
    validation: Mapping[str, StoryTargets]
    aim: str = "learn"
    pad_to_30s: bool | None = None

    def encoder(self, device: str) -> SpeechEncoder:
        """The encoder before tuning."""
        if isinstance(self.backbone, Wav2Vec2Config):
            return SpeechEncoder.from_config(self.backbone, seed=self.settings.seed).to(device)
        return SpeechEncoder.from_pretrained(self.backbone, pad_to_30s=self.pad_to_30s).to(device)


@dataclass(frozen=True)
class Listener:
    """What encoding models of a participant are fitted to and tested on, by story.

    `times` are those of the delays' leading TRs and of the TRs of `responses`, (TRs, voxels); `ceiling` is (voxels,).
    """

    audio: Mapping[str, np.ndarray]
    times: Mapping[str, np.ndarray]
    responses: Mapping[str, np.ndarray]
    train: tuple[str, ...]
    test: tuple[str, ...]
    ceiling: np.ndarray
    features: Features
    encoding: Encoding


def tuned(job: Job, device: str) -> tuple[SpeechEncoder, list[dict], float]:
    """The tuned encoder, its losses epoch by epoch, and the seconds that it took."""
    encoder, start = job.encoder(device), time.perf_counter()
    own = None
    if not next(iter(job.train.values())).of_each:
        own = objective(encoder, [story.audio for story in job.train.values()], seed=job.settings.seed)
    model, history = brain_tune(
        encoder, job.train, job.validation, job.settings, device=device, objective=own, aim=job.aim
    )
    return model.encoder, history, time.perf_counter() - start


def aligned(encoder: SpeechEncoder, listener: Listener, device: str) -> tuple[np.ndarray, float, float]:
    """Alignment of every layer, (layers + 1, voxels), and the seconds of its features and of its encoding models."""
    start, stories = time.perf_counter(), (*listener.train, *listener.test)
    times = [listener.times[story] for story in stories]
    sounds = [listener.audio[story] for story in stories]
    passes = tokens([encoder], sounds, listener.features, device)
    features = {
        story: at_trs(layers, token_times, trs, spacing(times[0]))
        for story, trs, ((layers,), token_times) in zip(stories, times, passes, strict=True)
    }
    read = time.perf_counter()
    layers = predict_layers(features, listener.responses, listener.train, listener.test, listener.encoding, device)
    truth = scored_trs(listener.responses, listener.test, listener.encoding)
    r = np.stack([correlation(predicted, truth) for predicted in layers])
    return r / listener.ceiling, read - start, time.perf_counter() - read


def planted(settings: Tuning, n_stories: int, n_trs: int, n_voxels: int, tr: float = 2.0) -> tuple[dict, Listener]:
    """Stories of a voice that is hoarse or clear, high or low by TR, and a listener whose voxels follow that 4 s later.

    Half of the variance of a voxel is noise. Of the stories, two or more, the last one is tested on and the one before
    it validates. Gives back training and validation stories by these two names, and the listener.
    """
    weights = generator(0, "planted", "weights").standard_normal((2, n_voxels)) / np.sqrt(2)
    lead, targets, audio, times, responses = 4, {}, {}, {}, {}
    for number in range(n_stories):
        name, rng = f"story {number}", generator(0, "planted", number)
        state = rng.standard_normal((lead + n_trs + 1, 2))
        state = (state[1:] + state[:-1]) / np.sqrt(2)
        follows = np.roll(state, 2, axis=0)[lead:] @ weights + rng.standard_normal((n_trs, n_voxels))
        samples = np.repeat(1 / (1 + np.exp(-2 * state)), round(tr * SAMPLE_RATE), axis=0)
        phase = 2 * np.pi * np.cumsum(100 + 150 * samples[:, 1]) / SAMPLE_RATE
        hoarse, clear = rng.standard_normal(len(samples)), np.sin(phase[:, None] * [1, 2, 3, 5]).sum(axis=1)
        audio[name] = (0.2 * samples[:, 0] * hoarse + 0.1 * (1 - samples[:, 0]) * clear).astype(np.float32)
        times[name] = tr * (np.arange(lead + n_trs) + 0.5)
        responses[name] = ((follows - follows.mean(axis=0)) / follows.std(axis=0)).astype(np.float32)
        targets[name] = StoryTargets(audio[name], times[name][lead:] + tr / 2, responses[name])
    *train, validation, test = targets
    encoding = Encoding(test_skip_rows=0)
    features = Features(hop_seconds=settings.clip_seconds / 5)
    listener = Listener(audio, times, responses, tuple(train), (test,), np.ones(n_voxels), features, encoding)
    return {"train": {name: targets[name] for name in train}, "validation": {validation: targets[validation]}}, listener
