"""Step: layer activations of models on the TR grid."""

import logging
from collections.abc import Sequence
from pathlib import Path

from braintuning import timing
from braintuning.alignment.features import at_trs, tokens
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.datasets import Dataset, open_dataset
from braintuning.pipeline import recipes, steps
from braintuning.results import inputs_fingerprint, is_done, provenance, save_arrays
from braintuning.study import Run, Study

log = logging.getLogger(__name__)

MODELS_AT_ONCE = 12
"""Models held at a time when one pass over the audio serves several."""


def extract_layers(study: Study, runs: Sequence[Run], device: str = "cpu") -> list[Path]:
    """Features of every story that alignment needs, from every layer of the models of some runs.

    A story's array is (layers + 1, lead + TRs, dim): `lead` TRs before the first stored one, for the delays. Windows
    are encoded once a story and resampled to the TRs of everybody compared, see `steps.Grid`. Models with the same
    front end are read in one pass over the audio, `MODELS_AT_ONCE` at a time. The audio of all stories is held in
    memory, 4 bytes a sample: 46 MB for 12 minutes.
    """
    steps.require_device(device)
    dataset = open_dataset(study)
    asked = {run: _recipe(study, run, dataset) for run in runs}
    waiting = [run for run in runs if not is_done(study.features_file(run), asked[run])]
    while waiting:
        encoders: dict[Run, SpeechEncoder] = {}
        for run in waiting:
            encoder = steps.load_encoder(study, run).to(device)
            if not encoders or encoders[waiting[0]].same_front_end(encoder):
                encoders[run] = encoder
            if len(encoders) == MODELS_AT_ONCE:
                break
        _extract(study, encoders, asked, dataset, device)
        waiting = [run for run in waiting if run not in encoders]
    return [study.features_file(run) for run in runs]


def _recipe(study: Study, run: Run, dataset: Dataset) -> dict:
    recipe = recipes.extract(study, run).stored
    audio = [dataset.audio_file(story) for story in recipe["stories"]]
    return {
        **recipe,
        "model": steps.model_recipe(study, run),
        "times": steps.grids_fingerprint(steps.grids_of(study, run, dataset)),
        "inputs": inputs_fingerprint(audio, dataset.root),
    }


def _extract(
    study: Study, encoders: dict[Run, SpeechEncoder], asked: dict[Run, dict], dataset: Dataset, device: str
) -> None:
    grids, features = {run: steps.grids_of(study, run, dataset) for run in encoders}, {run: {} for run in encoders}
    stories = [story for story in study.encoded_stories if any(story in found for found in grids.values())]
    files = {story: dataset.audio_file(story) for story in stories}
    first = {file: story for story, file in reversed(files.items())}  # parts of a recording are one pass
    sounds = {file: dataset.audio(story) for file, story in first.items()}
    passes, done = tokens(list(encoders.values()), [*sounds.values()], study.features, device), 0
    for file, (of_file, token_times) in zip(sounds, passes, strict=True):
        for story in [story for story in stories if files[story] == file]:
            done += 1
            for run, layers in zip(encoders, of_file, strict=True):
                for grid in grids[run].get(story, ()):
                    resampled = at_trs(layers, token_times, grid.read, timing.spacing(grid.read))
                    features[run] |= dict.fromkeys(grid.names, grid.filtered(resampled))
                log.info(f"{run.name}: {story}, {done} of {len(stories)}")
    for run, encoder in encoders.items():
        weights = steps.weights_from(study, run, encoder)
        made = provenance(asked[run], device=steps.made_on(device), weights=weights)
        save_arrays(study.features_file(run), features[run], made)
