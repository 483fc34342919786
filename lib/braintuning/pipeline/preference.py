"""Steps: synthesised words, and semantic preference of a model's layers on pairs of them."""

import logging
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from braintuning.datasets.labels import text_of
from braintuning.errors import InputError
from braintuning.pipeline import recipes, steps
from braintuning.preference.pairs import choose_pairs, known_words
from braintuning.preference.similarity import pair_similarities, preference_table, word_states
from braintuning.preference.words import SENTENCE, WINDOW_SECONDS, SpokenWord, recorded, synthesised
from braintuning.results import (
    fingerprint,
    inputs_fingerprint,
    is_done,
    json_lines,
    load_arrays,
    made_result,
    provenance,
    require_file,
    save_arrays,
)
from braintuning.study import Run, Study

log = logging.getLogger(__name__)

LOUDEST = 32767
PRESENTED = {"sentence": SENTENCE, "window_seconds": WINDOW_SECONDS}


def words_to_say(study: Study) -> tuple[pd.DataFrame, list[str]]:
    """Pairs of words that a study compares, and all their words."""
    pairs = choose_pairs(study.preference.n_pairs, study.preference.seed)
    return pairs, sorted({*pairs["a"], *pairs["b"]})


def synthesise_words(study: Study) -> Path:
    """Every word of the study's pairs in every voice.

    The file holds `audio`, (words, samples) int16 at 16 kHz, and `seconds`, (words,), voice by voice.
    """
    settings, (_, words), path = study.preference, words_to_say(study), study.words_file
    recipe = {**recipes.words(study).stored, **PRESENTED, "words": fingerprint(words)}
    if not is_done(path, recipe):
        log.info(f"synthesising {len(words)} words in {len(settings.voices)} voices")
        said = synthesised(words, settings.voices, settings.seed)
        audio = np.stack([np.rint(word.audio * LOUDEST) for word in said]).astype(np.int16)
        seconds = np.array([word.seconds for word in said])
        save_arrays(path, {"audio": audio, "seconds": seconds}, provenance(recipe))
    return path


def load_words(study: Study) -> list[SpokenWord]:
    """Words that `synthesise_words` left."""
    made_result(study.words_file)
    stored, words = load_arrays(study.words_file), words_to_say(study)[1]
    names = [(word, voice) for voice in study.preference.voices for word in words]
    return [
        SpokenWord(*name, audio.astype(np.float32) / LOUDEST, float(seconds))
        for name, audio, seconds in zip(names, stored["audio"], stored["seconds"], strict=True)
    ]


def semantic_preference(study: Study, run: Run, device: str = "cpu", from_recordings: bool = False) -> Path:
    """Similarity of each type of word pairs and semantic preference in every layer of a run's model; a table.

    With `from_recordings`, in words that people said in the study's folder of recordings and not in synthesised ones.
    """
    steps.require_device(device)
    path, recordings = study.preference_file(run, from_recordings), study.recordings
    if from_recordings and recordings is None:
        raise InputError(f"study {study.name}: found no folder of `recordings` in `preference`, expected one")
    recipe = {
        **recipes.preference(study, run).stored,
        **PRESENTED,
        "centred": "by speaker",
        "intervals": "over words",
        "model": steps.model_recipe(study, run),
        "pairs": fingerprint(words_to_say(study)[0].to_numpy().tolist()),
        "recordings": _recordings_fingerprint(recordings) if from_recordings else None,
    }
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    said, pairs = _recorded(study, recordings) if from_recordings else (load_words(study), words_to_say(study)[0])
    encoder = steps.load_encoder(study, run).to(device)
    similarities = pair_similarities(word_states(encoder, said, device), said, pairs)
    table = preference_table(similarities, pairs)
    owner, weights = (run.participant or "", run.backbone, run.condition), steps.weights_from(study, run, encoder)
    arrays = {"similarities": similarities}
    steps.save_result(path, arrays, table, study, recipe, owner=owner, device=steps.made_on(device), weights=weights)
    log.info(f"{run.name}: semantic preference of {len(similarities)} layers, {len(pairs)} pairs of words")
    return path


def _recordings_fingerprint(folder: Path) -> str:
    """Short SHA-256 of word alignments and of the audio files that they name."""
    alignments = require_file(folder / "alignments.jsonl")
    named = {folder / text_of(entry, "file", where) for where, entry in json_lines(alignments) if entry.get("words")}
    return inputs_fingerprint([alignments, *sorted(named)], folder)


def _recorded(study: Study, recordings: Path) -> tuple[list[SpokenWord], pd.DataFrame]:
    """Known words in recordings, and pairs of them."""
    said, speakers = recorded(recordings, known_words()[0]["word"]), defaultdict(set)
    for word in said:
        speakers[word.word].add(word.speaker)
    return said, choose_pairs(study.preference.n_pairs, study.preference.seed, speakers)
