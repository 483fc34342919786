"""Speech recognition: characters from the last layer, by connectionist temporal classification (Graves et al. 2006).

The trunk is frozen (`measure`) or tuned along with the head (`measure_tuned`).
"""

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import jiwer
import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import autocast
from braintuning.probes.base import RANDOM_DIM, Result, Task, result
from braintuning.probes.features import Store, states
from braintuning.probes.linear import Fitted
from braintuning.probes.scores import sums_of_speakers, word_accuracy
from braintuning.probes.utterance import PARTS, Parts
from braintuning.results import generator

CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"
BLANK = 0
EPOCHS, BATCH, LEARNING_RATE = 200, 8, 3e-3
TUNED_EPOCHS, TRUNK_LEARNING_RATE = 20, 5e-5
PATIENCE = 8
ORDERS = 3
"""Orders of the training utterances, in which heads differ; the score is over the errors of all heads."""
BLANK_BIASES = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 1e6)
"""Added to the score of a blank. The last gives empty text, so that no model does worse than that in validation."""

Frames = Callable[[str, int], torch.Tensor]
"""From a part and the number of an utterance in it to frames (frames, dim)."""


def written(text: str) -> str:
    """Text in the characters that are recognised: lower case, single spaces, no punctuation but the apostrophe."""
    return " ".join("".join(c if c in CHARACTERS else " " for c in text.lower().replace("’", "'")).split())


def encoded(text: str) -> torch.Tensor:
    """Numbers of a text's characters, from 1; (characters,) int64."""
    return torch.tensor([CHARACTERS.index(character) + 1 for character in written(text)])


def decoded(numbers: Iterable[int]) -> str:
    """Text of the best number of each frame: repeats are merged, blanks removed."""
    return "".join(CHARACTERS[number - 1] for number, _ in itertools.groupby(numbers) if number != BLANK)


def errors_and_words(truth: Sequence[str], recognised: Sequence[str]) -> np.ndarray:
    """Number of word errors and of words in each utterance; (utterances, 2) float64."""
    pairs = [jiwer.process_words(written(one), written(other)) for one, other in zip(truth, recognised, strict=True)]
    return np.array([(p.substitutions + p.deletions + p.insertions, len(p.references[0])) for p in pairs], float)


def _loss(head: torch.nn.Module, frames: Sequence[torch.Tensor], texts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over utterances of the loss for each character."""
    log_probabilities = pad_sequence([head(of_one).log_softmax(dim=-1) for of_one in frames])
    lengths = (torch.tensor([len(one) for one in some]) for some in (frames, texts))
    return functional.ctc_loss(log_probabilities, torch.cat(texts), *lengths, blank=BLANK, zero_infinity=True)


def fit_head(
    frames: Frames,
    texts: Mapping[str, Sequence[str]],
    dim: int,
    groups: list[dict],
    epochs: int,
    seed: int,
    device: str,
) -> tuple[torch.nn.Linear, bool]:
    """Linear layer from frames to characters, at the epoch and blank bias with the fewest validation word errors.

    Ties go to the lower loss. All weights start at zero: from random weights most heads ended with hardly a word right.
    The second value returned says whether neither loss nor word errors decreased for `PATIENCE` of at most `epochs`.

    Parameters
    ----------
    frames
        Those of the training part may carry a gradient.
    texts
        By part.
    groups
        Further parameters to optimise, with their learning rates; they are left as in the chosen epoch.
    seed
        Of the order of the training utterances.
    """
    head = torch.nn.utils.skip_init(torch.nn.Linear, dim, len(CHARACTERS) + 1, device=device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    tuned = [head.weight, head.bias, *(p for group in groups for p in group["params"])]
    optimiser = torch.optim.Adam([{"params": head.parameters(), "lr": LEARNING_RATE}, *groups])
    numbers = {part: [encoded(text).to(device) for text in some] for part, some in texts.items()}
    best, lowest, since = (np.inf, np.inf), np.inf, 0
    for epoch in range(epochs):
        order = generator(seed, "asr epoch", epoch).permutation(len(numbers["train"]))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            optimiser.zero_grad()
            _loss(head, [frames("train", i) for i in batch], [numbers["train"][i] for i in batch]).backward()
            optimiser.step()
        loss, errors = _validated(head, frames, texts["validation"], numbers["validation"])
        bias = min(errors, key=errors.get)
        since += 1
        if (errors[bias], loss) < best:
            since = 0 if errors[bias] < best[0] else since
            best, kept, blank = (errors[bias], loss), [p.detach().clone() for p in tuned], bias
        if loss < lowest:
            lowest, since = loss, 0
        if since >= PATIENCE:
            break
    with torch.no_grad():
        for parameter, value in zip(tuned, kept, strict=True):
            parameter.copy_(value)
        head.bias[BLANK] += blank
    return head, since >= PATIENCE


@torch.no_grad()
def _validated(
    head: torch.nn.Linear, frames: Frames, texts: Sequence[str], numbers: Sequence[torch.Tensor]
) -> tuple[float, dict[float, float]]:
    """Mean loss, and word errors with each bias of the blank."""
    losses, errors = [], dict.fromkeys(BLANK_BIASES, 0.0)
    for number, text in enumerate(texts):
        found = frames("validation", number)
        losses.append(_loss(head, [found], [numbers[number]]).item())
        scores = head(found).cpu().numpy()
        character = 1 + scores[:, 1:].argmax(axis=1)
        margin = scores[:, BLANK] - scores[:, 1:].max(axis=1)
        for bias in BLANK_BIASES:
            recognised = decoded(np.where(margin + bias >= 0, BLANK, character))
            errors[bias] += errors_and_words([text], [recognised])[0, 0]
    return float(np.mean(losses)), errors


@torch.no_grad()
def _recognised(head: torch.nn.Module, frames: Frames, part: str, texts: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Word errors and words of each utterance of a part."""
    found = [decoded(head(frames(part, i)).argmax(dim=-1).tolist()) for i in range(len(texts[part]))]
    return errors_and_words(texts[part], found)


def _measured(
    parts: Parts, frames: Frames, encoder: SpeechEncoder, groups: list[dict], epochs: int, seed: int, device: str,
    orders: int = 1,
) -> list[Result]:  # fmt: skip
    """The last layer's result; its baselines are empty text and noise of the same number of frames."""
    texts = {part: [written(utterance.text) for utterance in parts[part]] for part in PARTS}
    n_frames = {part: [encoder.n_frames(len(utterance.audio())) for utterance in parts[part]] for part in PARTS}

    def noise(part: str, i: int) -> torch.Tensor:
        drawn = generator(seed, "random frames", part, i).standard_normal((n_frames[part][i], RANDOM_DIM))
        return torch.from_numpy(drawn.astype(np.float32)).to(device)

    of_noise, _ = fit_head(noise, texts, RANDOM_DIM, [], epochs, seed, device)
    random_features = float(word_accuracy(_recognised(of_noise, noise, "test", texts).sum(axis=0)))
    fits = [fit_head(frames, texts, encoder.dim, groups, epochs, seed + order, device) for order in range(orders)]
    validation, test = (sum(_recognised(head, frames, part, texts) for head, _ in fits) for part in PARTS[1:])
    converged = all(of_one for _, of_one in fits)
    fitted = Fitted(np.empty(0), float(word_accuracy(validation.sum(axis=0))), np.nan, False, converged)
    empty_text = float(word_accuracy(errors_and_words(texts["test"], [""] * len(texts["test"])).sum(axis=0)))
    totals = sums_of_speakers(test, [utterance.speaker for utterance in parts["test"]])
    return [result(encoder.n_layers, fitted, word_accuracy, totals, (empty_text, random_features, np.nan))]


def measure(parts: Parts, encoder: SpeechEncoder, device: str, seed: int, store: Store | None = None) -> list[Result]:
    """1 - word error rate of the last layer, with the trunk frozen."""
    last, scaler = states(encoder, parts, "last layer", device, store), StandardScaler()
    for of_one in last["train"]:
        scaler.partial_fit(of_one[0].astype(np.float64))
    mean, scale = (torch.from_numpy(found.astype(np.float32)).to(device) for found in (scaler.mean_, scaler.scale_))

    def frames(part: str, i: int) -> torch.Tensor:
        return (torch.from_numpy(last[part][i][0]).to(device) - mean) / scale

    return _measured(parts, frames, encoder, [], EPOCHS, seed, device, ORDERS)


def measure_tuned(
    parts: Parts, encoder: SpeechEncoder, device: str, seed: int, store: Store | None = None
) -> list[Result]:
    """As `measure`, with a copy of the trunk tuned at a lower learning rate."""
    tuned = copy.deepcopy(encoder).train()

    def frames(part: str, i: int) -> torch.Tensor:
        audio = torch.from_numpy(parts[part][i].audio())[None].to(device)
        with autocast(device):
            return tuned(audio, layers=[-1])[0, 0].float()

    groups = [{"params": tuned.trainable_parameters(), "lr": TRUNK_LEARNING_RATE}]
    return _measured(parts, frames, encoder, groups, TUNED_EPOCHS, seed, device)


TASK = Task(
    "Speech recognition",
    corpora=("TIMIT", "LibriSpeech", "aligned speech"),
    stand_in="sentences",
    measure=measure,
    metric="1 - WER",
    kind="last layer",
    keep=lambda utterance: bool(written(utterance.text)) and utterance.label != "SA",
)
