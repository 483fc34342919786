"""Step before all others: everything that a study uses is found and read, so that nothing is missing later."""

import json
import logging
from pathlib import Path

import numpy as np
import soundfile

from braintuning.alignment import encoding
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.weights import require_weights, resolve, weight_files
from braintuning.cortex.regions import GROUPS
from braintuning.datasets import Dataset, open_dataset
from braintuning.datasets.audio import require_audio
from braintuning.datasets.responses import require_responses
from braintuning.datasets.textgrid import check_within
from braintuning.errors import InputError
from braintuning.lowlevel.acoustic import checked_phones
from braintuning.lowlevel.features import FROM_DICTIONARY, dictionary_note, phones_of
from braintuning.lowlevel.nuisance import spoken_words
from braintuning.pipeline import ceiling, recipes
from braintuning.pipeline.pictures import amounts
from braintuning.pipeline.steps import clip_ends, pretrained
from braintuning.probes.tasks import material
from braintuning.results import atomic_path, listed, require_file
from braintuning.study import Run, Study
from braintuning.timing import SAMPLE_RATE, spacing, to_samples
from braintuning.tuning import controls
from braintuning.tuning.objectives import require_objective

log = logging.getLogger(__name__)

MEAN_OF_REPEATS = 0.9
"""Least median correlation of a story's `data` with the mean of its repeats; 1 where one was made from the other."""
COMPARED_VOXELS = 5000


def check(study: Study) -> Dataset:
    """Find every model and read every file that the study will use; the first thing wrong raises `InputError`.

    Whether every file is here and whole comes first, and models next, since that is quick. Voxels without signal are
    counted, file by file.
    """
    make_listeners(study)
    dataset = open_dataset(study)
    _check_files(study, dataset)
    _check_models(study)
    for note in dataset.check({participant: study.stories_for(participant).all for participant in study.participants}):
        log.info(note)
    if silent := [story for story in study.encoded_stories if study.participants and not spoken_words(dataset, story)]:
        log.info(f"{', '.join(silent)}: no words, so the nuisance baseline is of envelope and position alone")
    for participant in study.participants:
        _check_repeats(study, dataset, participant)
        _check_regions(study, dataset, participant)
        if participant in study.tested:
            _check_lengths(study, dataset, participant)
    for run in study.tuned_runs():
        for story in study.tuning_stories(run).all:
            _check_learnable(study, run, dataset, story)
    if "fig3" in study.figures.notebooks:
        _check_phones(study, dataset)
    return dataset


def check_and_record(study: Study) -> Path:
    """Check what a study uses, tell what was found, and write down for which settings."""
    dataset, path = check(study), study.results / "dataset.json"
    for line in findings(study, dataset):
        log.info(line)
    made = {"root": str(study.root), "participants": dataset.participants, "recipe": recipes.dataset(study).fingerprint}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(made, indent=1))
    return path


def findings(study: Study, dataset: Dataset) -> list[str]:
    """What is told of data that `check` accepts: a line for each story, and that all can be read.

    A story's line has its sound, its words, when the TRs of whom are read, in seconds of the sound, and how far back
    delays reach: a TR, a number of unstored volumes or a start of the sound that is wrong shows here and nowhere else.
    """
    lines, delays = [], study.encoding.delays
    for story in study.stories.all:
        heard = {}
        for participant in study.participants:
            if story in study.stories_for(participant).all:
                times = dataset.tr_times(participant, story)
                heard.setdefault((len(times), times[0], times[-1], spacing(times)), []).append(participant)
        trs = [
            f"{', '.join(people) if len(people) < 4 else f'{len(people)} participants'}: {n} TRs from {first:.1f} to "
            f"{last:.1f} s, predicted from {min(delays) * tr:.1f} to {max(delays) * tr:.1f} s before"
            for (n, first, last, tr), people in heard.items()
        ]
        seconds, n_words = len(dataset.audio(story)) / SAMPLE_RATE, len(spoken_words(dataset, story))
        lines.append(f"{story}: sound from 0 to {seconds:.1f} s, {n_words} words; {'; '.join(trs)}")
    return [*lines, f"study {study.name}: every file that it uses can be read"]


def _check_files(study: Study, dataset: Dataset) -> None:
    """Raise `InputError` where a file is not here or whole, or a corpus lacks what a task needs; no model is loaded."""
    for story in study.stories.all:
        require_audio(dataset.audio_file(story))
        spoken_words(dataset, story)
    for participant in study.participants:
        for story in study.stories_for(participant).all:
            require_responses(dataset.responses_file(participant, story))
    if study.recordings and "fig5" in study.figures.notebooks:
        require_file(study.recordings / "alignments.jsonl")
    for task, name in study.probes.corpora.items():
        if (folder := study.probes.corpus(task)) is None:
            log.info(f"{name}: not here, so {task!r} is measured on synthesised speech")
            continue
        try:
            material(task, folder, study.probes.seed)
        except InputError as error:
            raise InputError(f"study {study.name}: the corpus of {task!r} in `probes`: {error}") from None


def make_listeners(study: Study) -> None:
    """Make the simulated listeners of a study that has them, where they are not there.

    `InputError` where the folder holds data that were not simulated, which are left as they are.
    """
    simulation, marker = study.dataset.simulation, study.root / "simulation.json"
    if simulation is None:
        return
    wanted = {"participants": study.participants, "stories": study.stories.all, "repeated": study.stories.test}
    wanted |= {"dataset": study.dataset.model_dump(include={*recipes.TIMES, "simulation"})}
    wanted = json.loads(json.dumps(wanted))
    if marker.is_file() and wanted | json.loads(marker.read_text()) == wanted:
        return
    if not marker.is_file() and listed(study.root):
        raise InputError(
            f"{study.root}: found data that were not simulated, expected an empty folder for simulated listeners; to "
            f"read these data instead, say `simulation: null` in `dataset` of the study"
        )
    from braintuning.demo.dataset import write_dataset

    people, stories = study.participants, study.stories
    log.info(f"making {len(people)} simulated listeners and {len(stories.all)} stories in {study.root}")
    write_dataset(study.root, people, stories.all, stories.test, study.dataset)


def _check_models(study: Study) -> None:
    """Load each backbone, one after the other, and find whatever else conditions learn from."""
    for name, backbone in study.backbones.items():
        encoder, bases = pretrained(study, Run(name, "pretrained")), set(map(study.base, study.conditions_of(name)))
        _check_fits(study, name, encoder)
        if "stimulus-tuned" in bases:
            require_objective(encoder)
        if "bigslm-tuned" in bases:
            folder, _ = resolve(backbone.teacher)
            require_weights(Path(folder))
            if not weight_files(Path(folder)):
                raise InputError(f"{backbone.teacher}, teacher of {name}: found no whole weights, expected a model")
    if any(study.base(condition) == "lm-tuned" for condition in study.conditions):
        for text_model in study.controls.text_models:
            controls.require_text_model(text_model)


def _check_fits(study: Study, name: str, encoder: SpeechEncoder) -> None:
    """Raise `InputError` where a backbone lacks a layer that the study names, or takes no input as long as it says."""
    named = {"figures: layer": (study.figures.layer,), "low_level: layers": study.low_level.layers}
    for key, layers in named.items():
        for layer in layers:
            if not -encoder.n_layers - 1 <= layer <= encoder.n_layers:
                expected = f"expected {-encoder.n_layers - 1} to {encoder.n_layers}, 0 being the first block's input"
                raise InputError(f"study {study.name}: {name} has no layer {layer} of `{key}`, {expected}")
    inputs = {"features: window_seconds": study.features.window_seconds}
    tuned = [condition for condition in study.conditions_of(name) if study.base(condition) != "pretrained"]
    inputs |= {f"clip_seconds of {condition}": study.tuning_of(condition).clip_seconds for condition in tuned}
    inputs |= {f"context_seconds of {c}": s for c in tuned if (s := study.tuning_of(c).context_seconds)}
    for key, seconds in inputs.items():
        try:
            encoder.n_frames(int(to_samples(seconds)))
        except InputError as error:
            raise InputError(f"study {study.name}: `{key}`: {error}") from None


def _check_learnable(study: Study, run: Run, dataset: Dataset, story: str) -> None:
    """Raise `InputError` where a story has no clips for a run, too few to permute, or no words for a text model."""
    base, n_trs = study.base(run.condition), len(clip_ends(study, run, dataset, story))
    block = study.tuning_of(run.condition).permutation_block_rows
    if recipes.aim_of(base) == "control" and n_trs <= block:
        expected = f"expected more than a block of `permutation_block_rows`, {block}"
        raise InputError(f"{run.name}: found {n_trs} TRs of {story}, {expected}")
    if base == "lm-tuned" and not spoken_words(dataset, story):
        raise InputError(f"{run.name}: found no words in {story}, expected some for a text model to read")


def _check_repeats(study: Study, dataset: Dataset, participant: str) -> None:
    """Raise `InputError` where responses are not the mean of their repeats, or there is nobody to compare with."""
    story = recipes.ceiling(study, participant).stored["story"]
    if dataset.between_people:
        return ceiling.require_others(dataset, participant, story)
    repeats, responses = dataset.repeats(participant, story), dataset.responses(participant, story)
    if len(repeats) < 2:
        path = dataset.responses_file(participant, story)
        raise InputError(f"{path}: found {len(repeats)} presentation of {story}, expected at least 2 for a ceiling")
    some = slice(None, None, max(1, responses.shape[1] // COMPARED_VOXELS))
    r = np.nanmedian(encoding.correlation(responses[:, some], repeats[:, :, some].mean(axis=0)))
    if not r >= MEAN_OF_REPEATS:
        raise InputError(
            f"{dataset.responses_file(participant, story)}: responses correlate at {r:.2f} (median over voxels) with "
            f"the mean of the {len(repeats)} repeats, expected at least {MEAN_OF_REPEATS}, since they are that mean"
        )


def _check_regions(study: Study, dataset: Dataset, participant: str) -> None:
    """Raise `InputError` where figures of regions are asked for, and none of a participant's voxels lies in one."""
    figures, drawn = {"fig2", "fig3"} & {*study.figures.notebooks}, GROUPS["late_language"] + GROUPS["primary_auditory"]
    if figures and not np.isin(labels := dataset.cortex(participant).voxel_labels, drawn).any():
        found = f"found none of the {len(labels)} voxels of {participant} in late language or primary auditory regions"
        expected = f"expected some for {' and '.join(sorted(figures))}; an atlas or coordinates say where regions lie"
        raise InputError(f"study {study.name}: {found}, {expected}")


def _check_lengths(study: Study, dataset: Dataset, participant: str) -> None:
    """Raise `InputError` where a participant's stories are too short for the study's chunks and blocks."""
    settings, stories = study.encoding, study.stories_for(participant)
    n_trs = {story: len(dataset.tr_times(participant, story)) for story in stories.all}
    skipped = settings.test_skip_rows * len(stories.test)
    parts = [("test", stories.test, skipped, "permutation_block_rows")]
    fitted = {"training": stories.train or stories.test, "held-out": stories.held_out}
    if "fig3" in study.figures.notebooks:
        fitted["low-level"] = study.low_level_stories(participant)[0]
    if "figB" in study.figures.notebooks:
        counts = [n_stories for person, _, n_stories in amounts(study) if person == participant]
        fitted |= {f"first {n_stories} training": stories.train[:n_stories] for n_stories in counts}
    parts += [(what, names, 0, "validation_chunk_rows") for what, names in fitted.items() if names]
    for what, names, less, key in parts:
        found, least = sum(n_trs[story] for story in names) - less, 2 * getattr(settings, key)
        if found < least:
            found = f"{found} TRs in the {what} stories of {participant}"
            raise InputError(f"study {study.name}: found {found}, expected at least {least}, twice `{key}`")


def _check_phones(study: Study, dataset: Dataset) -> None:
    """Raise `InputError` naming a story whose phones low-level features cannot take; log those of a dictionary.

    `dataset.check` only notes what is wrong with phone tiers, since other figures need none.
    """
    for story in (*(study.low_level.stories or study.stories.train), *study.stories.test):
        try:
            phones, source = phones_of(dataset, story)
            checked_phones(phones)
            check_within(phones, soundfile.info(dataset.audio_file(story)).duration, dataset.audio_file(story))
        except InputError as error:
            raise InputError(f"story {story}: {error}") from None
        if source == FROM_DICTIONARY:
            log.info(dictionary_note(dataset, story))
