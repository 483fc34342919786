"""Speech recognition: characters by connectionist temporal classification (Graves et al. 2006) on the last layer.

The trunk stays as it is (`measure`) or is tuned along with the head (`measure_tuned`).
"""

import copy
from collections.abc import Callable, Sequence

import jiwer
import numpy as np
import torch
from torch.nn import functional

from braintuning.backbones import SpeechEncoder
from braintuning.probes.scores import interval_over_speakers, word_accuracy
from braintuning.probes.states import states
from braintuning.probes.task import Result, Task
from braintuning.probes.utterance import PARTS, Parts, Utterance
from braintuning.seeding import generator

CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"
BLANK = 0
EPOCHS, BATCH, LEARNING_RATE = 40, 8, 3e-3
TUNED_EPOCHS, TRUNK_LEARNING_RATE = 8, 5e-5
PATIENCE = 4

Frames = Callable[[int], torch.Tensor]


def written(text: str) -> str:
    """Text in the characters that are recognised: lower case, single spaces, no punctuation but the apostrophe."""
    return " ".join("".join(c if c in CHARACTERS else " " for c in text.lower()).split())


def encoded(text: str) -> torch.Tensor:
    """Numbers of the characters of a text, blank being 0; (characters,) int64."""
    return torch.tensor([CHARACTERS.index(character) + 1 for character in written(text)])


def decoded(numbers: Sequence[int]) -> str:
    """Text of the best number in each frame: repeats are one, blanks none."""
    kept = [n for place, n in enumerate(numbers) if n != BLANK and (place == 0 or numbers[place - 1] != n)]
    return "".join(CHARACTERS[n - 1] for n in kept)


def errors_and_words(truth: Sequence[str], heard: Sequence[str]) -> np.ndarray:
    """Word errors and words of each utterance; (utterances, 2) float64."""
    rows = []
    for true, found in zip(truth, heard, strict=True):
        output = jiwer.process_words(written(true), written(found))
        rows.append((output.substitutions + output.deletions + output.insertions, len(written(true).split())))
    return np.array(rows, float)


def _loss(head: torch.nn.Module, frames: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    log_probabilities = head(frames).log_softmax(dim=-1)[:, None]
    lengths = torch.tensor([len(frames)]), torch.tensor([len(text)])
    return functional.ctc_loss(log_probabilities, text[None], *lengths, blank=BLANK, zero_infinity=True)


def fit_head(
    frames: dict[str, Frames],
    texts: dict[str, list[torch.Tensor]],
    dim: int,
    groups: list[dict],
    epochs: int,
    seed: int,
    device: str,
) -> tuple[torch.nn.Linear, float, bool]:
    """A linear layer from frames to characters as it was at the lowest validation loss, that loss, and if it settled.

    Parameters
    ----------
    frames : dict of part to callable
        From the number of an utterance to its (frames, dim); may carry a gradient in `train`.
    texts : dict of part to list of (characters,) int64
    dim : int
    groups : list of dict
        More parameters to optimise, with their learning rates.
    epochs : int
    seed : int
    device : str
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(dim, len(CHARACTERS) + 1).to(device)
    optimiser = torch.optim.Adam([{"params": head.parameters(), "lr": LEARNING_RATE}, *groups])
    best, lowest, since = copy.deepcopy(head), np.inf, 0
    moved = [p for group in groups for p in group["params"]]
    kept = [p.detach().clone() for p in moved]
    for epoch in range(epochs):
        order = generator(seed, "asr epoch", epoch).permutation(len(texts["train"]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            loss = torch.stack([_loss(head, frames["train"](i), texts["train"][i]) for i in chosen]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            losses = [_loss(head, frames["validation"](i), text) for i, text in enumerate(texts["validation"])]
        mean, since = torch.stack(losses).mean().item(), since + 1
        if mean < lowest:
            best, lowest, since, kept = copy.deepcopy(head), mean, 0, [p.detach().clone() for p in moved]
        if since >= PATIENCE:
            break
    with torch.no_grad():
        for parameter, value in zip(moved, kept, strict=True):
            parameter.copy_(value)
    return best, lowest, since >= PATIENCE


def _recognised(head: torch.nn.Module, frames: Frames, utterances: Sequence[Utterance]) -> np.ndarray:
    with torch.no_grad():
        heard = [decoded(head(frames(i)).argmax(dim=-1).tolist()) for i in range(len(utterances))]
    return errors_and_words([u.text for u in utterances], heard)


def _results(counts: dict[str, np.ndarray], parts: Parts, layer: int, seed: int, settled: bool) -> list[Result]:
    speakers = [utterance.speaker for utterance in parts["test"]]
    interval = interval_over_speakers(word_accuracy, counts["test"], speakers, generator(seed, "speakers", layer))
    validation = float(word_accuracy(counts["validation"].sum(axis=0)))
    nothing_said = float(
        word_accuracy(errors_and_words([u.text for u in parts["test"]], [""] * len(speakers)).sum(axis=0))
    )
    return [Result(layer, validation, *interval, nothing_said, np.nan, np.nan, settled)]


def measure(parts: Parts, encoder: SpeechEncoder, device: str, seed: int) -> list[Result]:
    """1 - word error rate with the trunk as it is; the result of the last layer alone."""
    last = {
        part: [
            torch.from_numpy(found[-1]).to(device) for found in states(encoder, parts[part], _frames_of_last, device)
        ]
        for part in PARTS
    }
    scale = torch.cat(last["train"]).std(dim=0)
    frames = {part: lambda i, part=part: last[part][i] / scale for part in PARTS}
    texts = {part: [encoded(utterance.text) for utterance in parts[part]] for part in PARTS}
    head, _, settled = fit_head(frames, texts, encoder.dim, [], EPOCHS, seed, device)
    counts = {part: _recognised(head, frames[part], parts[part]) for part in ("validation", "test")}
    return _results(counts, parts, encoder.n_layers, seed, settled)


def _frames_of_last(hidden: torch.Tensor) -> torch.Tensor:
    return hidden[-1:]


def measure_tuned(parts: Parts, encoder: SpeechEncoder, device: str, seed: int) -> list[Result]:
    """As `measure`, the trunk being tuned as well, at a lower learning rate; the encoder given is not changed."""
    tuned = copy.deepcopy(encoder).train()
    sounds = {part: [torch.from_numpy(u.audio())[None].to(device) for u in parts[part]] for part in PARTS}
    frames = {part: lambda i, part=part: tuned(sounds[part][i], layers=[-1])[0, 0] for part in PARTS}
    texts = {part: [encoded(utterance.text) for utterance in parts[part]] for part in PARTS}
    groups = [{"params": tuned.trainable_parameters(), "lr": TRUNK_LEARNING_RATE}]
    head, _, settled = fit_head(frames, texts, encoder.dim, groups, TUNED_EPOCHS, seed, device)
    counts = {part: _recognised(head, frames[part], parts[part]) for part in ("validation", "test")}
    return _results(counts, parts, encoder.n_layers, seed, settled)


TASK = Task(
    title="Speech recognition",
    metric="1 - WER",
    corpora=("TIMIT", "aligned speech"),
    stand_in="sentences",
    measure=measure,
    keep=lambda utterance: bool(written(utterance.text)) and utterance.label != "SA",
)
