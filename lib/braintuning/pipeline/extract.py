"""Step: layer activations of models on the TR grid."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from braintuning.alignment.features import story_features
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.datasets import Dataset, open_dataset
from braintuning.pipeline import recipes
from braintuning.pipeline.steps import load_encoder, made_on, model_recipe, require_device, weights_from
from braintuning.results import fingerprint, inputs_fingerprint, is_done, provenance, save_arrays
from braintuning.study import Run, Study

log = logging.getLogger(__name__)

MODELS_AT_ONCE = 12
"""Models held at a time when one pass over the audio serves several."""


def extract_layers(study: Study, runs: Sequence[Run], device: str = "cpu") -> list[Path]:
    """Features of every story that alignment needs, from every layer of the models of some runs.

    A story's array is (layers + 1, lead + TRs, dim): `lead` TRs before the first stored one, for the delays. Models
    with the same front end are read in one pass over the audio, `MODELS_AT_ONCE` at a time. The audio of all stories
    is held in memory, 4 bytes a sample: 46 MB for 12 minutes.
    """
    require_device(device)
    dataset = open_dataset(study)
    waiting = [run for run in runs if not is_done(study.features_file(run), _recipe(study, run, dataset))]
    while waiting:
        encoders: dict[Run, SpeechEncoder] = {}
        for run in waiting:
            encoder = load_encoder(study, run).to(device)
            if not encoders or encoders[waiting[0]].same_front_end(encoder):
                encoders[run] = encoder
            if len(encoders) == MODELS_AT_ONCE:
                break
        _extract(study, encoders, dataset, device)
        waiting = [run for run in waiting if run not in encoders]
    return [study.features_file(run) for run in runs]


def _recipe(study: Study, run: Run, dataset: Dataset) -> dict:
    recipe = recipes.extract(study, run).stored
    times = [dataset.tr_times(story).tolist() for story in recipe["stories"]]
    audio = [dataset.audio_file(story) for story in recipe["stories"]]
    return {
        **recipe,
        "model": model_recipe(study, run),
        "times": fingerprint([*times, max(study.encoding.delays), dataset.tr]),
        "inputs": inputs_fingerprint(audio, dataset.root),
    }


def _extract(study: Study, encoders: dict[Run, SpeechEncoder], dataset: Dataset, device: str) -> None:
    stories, features = study.encoded_stories, {run: {} for run in encoders}
    lead = dataset.tr * np.arange(-max(study.encoding.delays), 0)
    grids = [np.concatenate([times[0] + lead, times]) for times in map(dataset.tr_times, stories)]
    audio = [dataset.audio(story) for story in stories]
    read = story_features(list(encoders.values()), audio, grids, dataset.tr, study.features, device)
    for number, (story, of_story) in enumerate(zip(stories, read, strict=True), 1):
        for run, of_run in zip(encoders, of_story, strict=True):
            features[run][story] = of_run
            log.info(f"{run.name}: {story}, {number} of {len(stories)}")
    for run, encoder in encoders.items():
        weights = weights_from(study, run, encoder)
        made = provenance(_recipe(study, run, dataset), device=made_on(device), weights=weights)
        save_arrays(study.features_file(run), features[run], made)
