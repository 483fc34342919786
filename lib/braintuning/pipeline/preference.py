"""The stage that asks whether a model's space prefers meaning: every layer of a model on pairs of spoken words."""

import logging
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from braintuning.pipeline.steps import load_model, model_recipe, require_device, weights_from
from braintuning.preference.pairs import choose_pairs, known_words
from braintuning.preference.similarity import pair_similarities, preference_table, word_states
from braintuning.preference.words import SENTENCE, WINDOW_SECONDS, SpokenWord, recorded, synthesised
from braintuning.results import (
    REPOSITORY,
    fingerprint,
    generator,
    inputs_fingerprint,
    is_done,
    load_arrays,
    provenance,
    provenance_columns,
    save_arrays,
    save_table,
)
from braintuning.study import Run, Study

log = logging.getLogger(__name__)

LOUDEST = 32767
HEARD = {"sentence": SENTENCE, "window_seconds": WINDOW_SECONDS}


def words_to_say(study: Study) -> tuple[pd.DataFrame, list[str]]:
    """Pairs of words that a study compares, and all their words."""
    pairs = choose_pairs(study.preference.n_pairs, study.preference.seed)
    return pairs, sorted({*pairs["a"], *pairs["b"]})


def say_words(study: Study) -> list[SpokenWord]:
    """Every word of the study's pairs in every voice, spoken once, by one process at a time, and kept in a file."""
    settings, (_, words) = study.preference, words_to_say(study)
    path = study.results / "preference" / "words.h5"
    recipe = {"stage": "words", **HEARD, "voices": settings.voices, "seed": settings.seed, "words": fingerprint(words)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".words.lock")):
        if not is_done(path, recipe):
            log.info(f"speaking {len(words)} words in {len(settings.voices)} voices")
            said = synthesised(words, settings.voices, settings.seed)
            audio = np.stack([np.rint(word.audio * LOUDEST) for word in said]).astype(np.int16)
            seconds = np.array([word.seconds for word in said])
            save_arrays(path, {"audio": audio, "seconds": seconds}, provenance(recipe))
    stored = load_arrays(path)
    names = [(word, voice) for voice in settings.voices for word in words]
    return [
        SpokenWord(*name, audio.astype(np.float32) / LOUDEST, float(seconds))
        for name, audio, seconds in zip(names, stored["audio"], stored["seconds"], strict=True)
    ]


def recordings_of(study: Study) -> Path | None:
    """Folder of the study's recordings of people; None where it names none, or one that is not on this machine."""
    if study.preference.recordings is None:
        return None
    folder = REPOSITORY / study.preference.recordings
    if folder.is_dir():
        return folder
    log.info(f"{folder}: no such folder of recordings; words of the voices alone")
    return None


def semantic_preference(study: Study, run: Run, device: str = "cpu", recordings: Path | None = None) -> Path:
    """Similarity of each type of word pairs and semantic preference in every layer of a run's model; a table.

    With `recordings`, a folder that `spoken_words.recorded` reads, in words that people said there and not the study's
    voices.
    """
    require_device(device)
    path = study.preference_file(run)
    if recordings:
        path = path.with_name(f"{path.stem}.recorded.h5")
    recipe = {
        "stage": "preference",
        **HEARD,
        "centred": "by speaker",
        "model": model_recipe(study, run),
        "settings": study.preference.model_dump(exclude={"recordings"}),
        "pairs": fingerprint(words_to_say(study)[0].to_numpy().tolist()),
        "recordings": inputs_fingerprint([recordings / "alignments.jsonl"], recordings) if recordings else None,
    }
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    said, pairs = _heard(study, recordings) if recordings else (say_words(study), words_to_say(study)[0])
    encoder = load_model(study, run).to(device)
    similarities = pair_similarities(word_states(encoder, said, device), said, pairs)
    table = preference_table(similarities, pairs, generator(study.preference.seed, "preference", run.name))
    for column, value in enumerate((run.participant or "", run.backbone, run.condition)):
        table.insert(column, ("participant", "backbone", "condition")[column], value)
    carried = provenance(recipe, device=device, weights=weights_from(study, run, encoder))
    save_arrays(path, {"similarities": similarities}, carried)
    save_table(path.with_suffix(".csv"), table.assign(**provenance_columns(study.name, carried)))
    log.info(f"{run.name}: semantic preference of {len(similarities)} layers, {len(pairs)} pairs of words")
    return path


def _heard(study: Study, recordings: Path) -> tuple[list[SpokenWord], pd.DataFrame]:
    """Known words in recordings, and pairs of them."""
    said, speakers = recorded(recordings, known_words()[0]["word"]), defaultdict(set)
    for word in said:
        speakers[word.word].add(word.speaker)
    return said, choose_pairs(study.preference.n_pairs, study.preference.seed, speakers)
