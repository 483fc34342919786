"""Speech recognition: characters by connectionist temporal classification (Graves et al. 2006) on the last layer.

The trunk stays as it is (`measure`) or is tuned along with the head (`measure_tuned`).
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import jiwer
import numpy as np
import torch
from torch.nn import functional

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.probes.base import RANDOM_DIM, Result, Task, result
from braintuning.probes.features import Store, states
from braintuning.probes.linear import Fitted
from braintuning.probes.scores import word_accuracy
from braintuning.probes.utterance import PARTS, Parts
from braintuning.results import generator

CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"
BLANK = 0
EPOCHS, BATCH, LEARNING_RATE = 200, 8, 3e-3
TUNED_EPOCHS, TRUNK_LEARNING_RATE = 20, 5e-5
PATIENCE = 8
ORDERS = 3
"""Orders of the training utterances, a head each; scores count the errors of all. Nothing else in a head is drawn."""
BLANK_BIASES = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 1e6)
"""Added to the score of a blank; with the last nothing is said, which no model is worse than on the validation part."""
FLAT = 1e-6
"""Of the largest spread: a dimension that spreads less is left as it is."""

Frames = Callable[[int], torch.Tensor]


def written(text: str) -> str:
    """Text in the characters that are recognised: lower case, single spaces, no punctuation but the apostrophe."""
    return " ".join("".join(c if c in CHARACTERS else " " for c in text.lower()).split())


def encoded(text: str) -> torch.Tensor:
    """Numbers of the characters of a text, blank being 0; (characters,) int64."""
    return torch.tensor([CHARACTERS.index(character) + 1 for character in written(text)])


def decoded(numbers: Sequence[int]) -> str:
    """Text of the best number in each frame: repeats are one, blanks none."""
    numbers = np.asarray(numbers)
    starts = np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)]
    return "".join(CHARACTERS[n - 1] for n in numbers[starts & (numbers != BLANK)])


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
    frames: Mapping[str, Frames],
    texts: Mapping[str, Sequence[str]],
    dim: int,
    groups: list[dict],
    epochs: int,
    seed: int,
    device: str,
) -> tuple[torch.nn.Linear, bool]:
    """A linear layer from frames to characters, with the epoch and the bias of its blank that validate best.

    That is the lowest word error rate on the validation part; of equals the one with the lower loss. All characters
    are equally likely to begin with: from random weights most heads ended where hardly a word is right.

    Parameters
    ----------
    frames : mapping of part to callable
        From the number of an utterance to its (frames, dim); may carry a gradient in `train`.
    texts : mapping of part to sequence of str
    dim : int
    groups : list of dict
        More parameters to optimise, with their learning rates; left as they were in the epoch chosen.
    epochs : int
        At most.
    seed : int
        Of the order of the training utterances.
    device : str

    Returns
    -------
    head : Linear
    settled : bool
        Whether neither the loss nor the word errors fell any more for `PATIENCE` epochs.
    """
    head = torch.nn.utils.skip_init(torch.nn.Linear, dim, len(CHARACTERS) + 1, device=device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    moved = [head.weight, head.bias, *(p for group in groups for p in group["params"])]
    optimiser = torch.optim.Adam([{"params": head.parameters(), "lr": LEARNING_RATE}, *groups])
    numbers = {part: [encoded(text).to(device) for text in some] for part, some in texts.items()}
    best, lowest, since = (np.inf, np.inf), np.inf, 0
    for epoch in range(epochs):
        _one_epoch(head, frames["train"], numbers["train"], optimiser, generator(seed, "asr epoch", epoch))
        loss, errors = _validated(head, frames["validation"], texts["validation"], numbers["validation"])
        bias = min(errors, key=errors.get)
        since += 1
        if (errors[bias], loss) < best:
            since = 0 if errors[bias] < best[0] else since
            best, kept, blank = (errors[bias], loss), [p.detach().clone() for p in moved], bias
        if loss < lowest:
            lowest, since = loss, 0
        if since >= PATIENCE:
            break
    with torch.no_grad():
        for parameter, value in zip(moved, kept, strict=True):
            parameter.copy_(value)
        head.bias[BLANK] += blank
    return head, since >= PATIENCE


def _one_epoch(
    head: torch.nn.Linear,
    frames: Frames,
    numbers: Sequence[torch.Tensor],
    optimiser: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> None:
    order = rng.permutation(len(numbers))
    for start in range(0, len(order), BATCH):
        loss = torch.stack([_loss(head, frames(i), numbers[i]) for i in order[start : start + BATCH]]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def _validated(
    head: torch.nn.Linear, frames: Frames, texts: Sequence[str], numbers: Sequence[torch.Tensor]
) -> tuple[float, dict[float, float]]:
    """Mean loss, and word errors under each bias of the blank."""
    losses, errors = [], dict.fromkeys(BLANK_BIASES, 0.0)
    for number, text in enumerate(texts):
        heard = frames(number)
        losses.append(_loss(head, heard, numbers[number]).item())
        scores = head(heard).cpu().numpy()
        spoken = 1 + scores[:, 1:].argmax(axis=1)
        margin = scores[:, BLANK] - scores[:, 1:].max(axis=1)
        for bias in BLANK_BIASES:
            found = decoded(np.where(margin + bias >= 0, BLANK, spoken))
            errors[bias] += errors_and_words([text], [found])[0, 0]
    return float(np.mean(losses)), errors


@torch.no_grad()
def _recognised(head: torch.nn.Module, frames: Frames, texts: Sequence[str]) -> np.ndarray:
    heard = [decoded(head(frames(i)).argmax(dim=-1).tolist()) for i in range(len(texts))]
    return errors_and_words(texts, heard)


def _measured(
    parts: Parts, frames: Mapping[str, Frames], layer: int, dim: int, groups: list[dict], epochs: int, seed: int,
    device: str, orders: int = 1,
) -> list[Result]:  # fmt: skip
    texts = {part: [written(utterance.text) for utterance in parts[part]] for part in PARTS}
    with torch.no_grad():
        n_frames = {part: [len(frames[part](i)) for i in range(len(texts[part]))] for part in PARTS}
    noise = {part: _noise(n_frames[part], seed, part, device) for part in PARTS}
    of_noise, _ = fit_head(noise, texts, RANDOM_DIM, [], epochs, seed, device)
    random_features = float(word_accuracy(_recognised(of_noise, noise["test"], texts["test"]).sum(axis=0)))
    fits = [fit_head(frames, texts, dim, groups, epochs, seed + order, device) for order in range(orders)]
    validation, test = (sum(_recognised(head, frames[p], texts[p]) for head, _ in fits) for p in PARTS[1:])
    settled = all(of_one for _, of_one in fits)
    fitted = Fitted(np.empty(0), float(word_accuracy(validation.sum(axis=0))), np.nan, False, settled)
    nothing_said = float(word_accuracy(errors_and_words(texts["test"], [""] * len(texts["test"])).sum(axis=0)))
    speakers = [utterance.speaker for utterance in parts["test"]]
    baselines = (nothing_said, random_features, np.nan)
    return [result(layer, fitted, word_accuracy, test, speakers, baselines, seed)]


def _noise(n_frames: Sequence[int], seed: int, part: str, device: str) -> Frames:
    def frames(number: int) -> torch.Tensor:
        drawn = generator(seed, "random frames", part, number).standard_normal((n_frames[number], RANDOM_DIM))
        return torch.from_numpy(drawn.astype(np.float32)).to(device)

    return frames


def measure(parts: Parts, encoder: SpeechEncoder, device: str, seed: int, store: Store | None = None) -> list[Result]:
    """1 - word error rate with the trunk as it is; the result of the last layer alone."""
    last = states(encoder, {part: parts[part] for part in PARTS}, "last layer", device, store)
    mean, scale = (torch.from_numpy(found).to(device) for found in standardisation(last["train"]))

    def frames_of(part: str) -> Frames:
        return lambda i: (torch.from_numpy(last[part][i][0]).to(device) - mean) / scale

    frames = {part: frames_of(part) for part in PARTS}
    return _measured(parts, frames, encoder.n_layers, encoder.dim, [], EPOCHS, seed, device, ORDERS)


def standardisation(utterances: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each dimension over all frames, one utterance in memory at a time; (dim,) float32 each.

    Parameters
    ----------
    utterances : sequence of (1, frames, dim) float32
    """
    n = sum(one.shape[1] for one in utterances)
    mean = sum(one[0].sum(axis=0, dtype=np.float64) for one in utterances) / n
    spread = np.sqrt(sum(np.square(one[0] - mean).sum(axis=0) for one in utterances) / n)
    spread[spread <= FLAT * spread.max()] = 1
    return mean.astype(np.float32), spread.astype(np.float32)


def measure_tuned(
    parts: Parts, encoder: SpeechEncoder, device: str, seed: int, store: Store | None = None
) -> list[Result]:
    """As `measure`, the trunk being tuned as well, at a lower learning rate; the encoder given is not changed."""
    tuned = copy.deepcopy(encoder).train()

    def frames_of(part: str) -> Frames:
        return lambda i: tuned(torch.from_numpy(parts[part][i].audio())[None].to(device), layers=[-1])[0, 0]

    frames = {part: frames_of(part) for part in PARTS}
    groups = [{"params": tuned.trainable_parameters(), "lr": TRUNK_LEARNING_RATE}]
    return _measured(parts, frames, encoder.n_layers, encoder.dim, groups, TUNED_EPOCHS, seed, device)


TASK = Task(
    title="Speech recognition",
    metric="1 - WER",
    corpora=("TIMIT", "aligned speech"),
    stand_in="sentences",
    measure=measure,
    keep=lambda utterance: bool(written(utterance.text)) and utterance.label != "SA",
)
