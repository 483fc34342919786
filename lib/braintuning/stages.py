"""The stages of a study: each writes its result to its path, and does nothing if that result is there already."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from braintuning import encoding
from braintuning.alignment import region_table, score_layers
from braintuning.backbones import SpeechEncoder
from braintuning.datasets import open_dataset
from braintuning.datasets.interface import Dataset
from braintuning.errors import InputError
from braintuning.extract import story_features
from braintuning.files import atomic_path, on_disk, scratch_folder
from braintuning.results import (
    fingerprint,
    inputs_fingerprint,
    is_done,
    load_arrays,
    provenance,
    provenance_columns,
    provenance_of,
    save_arrays,
    save_table,
)
from braintuning.seeding import generator
from braintuning.study import Run, Study
from braintuning.targets import permute_blocks
from braintuning.tuning import StoryTargets, TunedModel, tune

Report = Callable[[str], None]


def require_device(device: str) -> str:
    """Return `device` if this machine has it, else raise `InputError`."""
    if device not in ("cpu", "cuda"):
        raise InputError(f"device: found {device!r}, expected 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: found no CUDA GPU that torch can use, expected one for 'cuda'; use 'cpu'")
    return device


def prepare(study: Study, report: Report = print) -> Dataset:
    """Open the study's dataset, making the simulated listeners first where a study has them and they are not there."""
    simulation = study.dataset.simulation
    wanted = {
        "participants": study.participants,
        "stories": study.stories.all,
        "tr": study.dataset.tr,
        "settings": simulation.model_dump() if simulation else None,
    }
    marker = study.root / "simulation.json"
    if simulation and not (marker.is_file() and json.loads(marker.read_text()) == json.loads(json.dumps(wanted))):
        from braintuning.simulated_dataset import write_dataset

        report(
            f"making {len(study.participants)} simulated listeners and {len(study.stories.all)} stories in {study.root}"
        )
        write_dataset(
            study.root, study.participants, study.stories.all, study.stories.test, study.dataset.tr, simulation
        )
    return open_dataset(study)


def check(study: Study, report: Report = print) -> Dataset:
    """Open the dataset and read everything that the study will use; the first thing wrong raises `InputError`."""
    dataset = prepare(study, report)
    dataset.check({participant: study.stories_for(participant).all for participant in study.participants})
    for participant in study.participants:
        dataset.repeats(participant, _ceiling_story(study, participant))
    for run in study.runs():
        if run.condition == "pretrained":
            _pretrained(study, run)
    return dataset


def measure_ceiling(study: Study, participant: str, report: Report = print) -> Path:
    """Noise ceiling of every voxel of a participant, from the repeats of the story that the study names."""
    dataset, path = prepare(study, report), study.ceiling_file(participant)
    story = _ceiling_story(study, participant)
    recipe = {
        "stage": "ceiling",
        "participant": participant,
        "story": story,
        "skip_rows": _skipped(study, story),
        "inputs": inputs_fingerprint([dataset.responses_file(participant, story)], dataset.root),
    }
    if not is_done(path, recipe):
        repeats = dataset.repeats(participant, story)[:, _skipped(study, story) :]
        ceiling = encoding.noise_ceiling(repeats)
        save_arrays(path, {"ceiling": ceiling}, provenance(recipe))
        above = int((ceiling > study.encoding.ceiling_threshold).sum())
        report(
            f"{participant}: {above} of {len(ceiling)} voxels above {study.encoding.ceiling_threshold}, from {story}"
        )
    return path


def _ceiling_story(study: Study, participant: str) -> str:
    return getattr(study.stories_for(participant), study.encoding.mask_from)[0]


def used_voxels(study: Study, participant: str) -> np.ndarray:
    """Whether each voxel's noise ceiling is above the study's threshold; (voxels,) bool."""
    ceiling = load_arrays(study.ceiling_file(participant))["ceiling"]
    used = np.nan_to_num(ceiling) > study.encoding.ceiling_threshold
    if not used.any():
        raise InputError(
            f"{study.ceiling_file(participant)}: no voxel has a noise ceiling above {study.encoding.ceiling_threshold}"
        )
    return used


def _skipped(study: Study, story: str) -> int:
    return study.encoding.test_skip_rows if story in study.stories.test else 0


def _pretrained(study: Study, run: Run) -> SpeechEncoder:
    backbone = study.backbones[run.backbone]
    return SpeechEncoder.from_pretrained(backbone.name, pad_to_30s=backbone.pad_to_30s)


def load_model(study: Study, run: Run) -> SpeechEncoder:
    """The encoder of a run, from its pretrained weights or from where tuning left it."""
    if run.condition == "pretrained":
        return _pretrained(study, run)
    folder = study.model_folder(run)
    if not folder.is_dir():
        raise InputError(f"{folder}: this model has not been tuned yet, expected the result of stage 'tune'")
    return SpeechEncoder.from_pretrained(str(folder), pad_to_30s=study.backbones[run.backbone].pad_to_30s)


def _model_recipe(study: Study, run: Run) -> dict[str, Any]:
    recipe = {"run": run.name, "backbone": study.backbones[run.backbone].model_dump()}
    if run.condition != "pretrained":
        made = provenance_of(study.model_folder(run))
        recipe["tuned"] = fingerprint(made["recipe"]) if made else None
    return recipe


def story_targets(
    study: Study, run: Run, dataset: Dataset, story: str, used: np.ndarray, scratch: Path | None = None
) -> StoryTargets:
    """Sound and targets of one story for a run: the responses, or for the random control the same in another order.

    With a `scratch` folder the targets stay in a file there, so that one story at a time is in memory.
    """
    responses = dataset.responses(run.participant, story, used)
    if run.condition == "random-brain-tuned":
        rng = generator(study.tuning.seed, "permute", run.participant, story)
        responses = responses[permute_blocks(len(responses), study.tuning.permutation_block_rows, rng)]
    targets = on_disk(responses, scratch / f"{story}.npy") if scratch else responses
    return StoryTargets(dataset.audio(story), dataset.tr_times(story), targets)


def tune_model(study: Study, run: Run, device: str = "cpu", report: Report = print) -> Path:
    """Tune a run's model and save it as a folder that plain transformers loads, with its head and loss history."""
    require_device(device)
    dataset = prepare(study, report)
    measure_ceiling(study, run.participant, report)
    path, used = study.model_folder(run), used_voxels(study, run.participant)
    stories = study.stories_for(run.participant)
    files = [
        f
        for s in stories.train + stories.validation
        for f in (dataset.audio_file(s), dataset.responses_file(run.participant, s))
    ]
    recipe = {
        "stage": "tune",
        "run": run.name,
        "backbone": study.backbones[run.backbone].model_dump(),
        "settings": study.tuning.model_dump(),
        "train": stories.train,
        "validation": stories.validation,
        "voxels": fingerprint(np.flatnonzero(used).tolist()),
        "inputs": inputs_fingerprint(files, dataset.root),
    }
    if is_done(path, recipe):
        return path
    encoder = _pretrained(study, run)
    checkpoint = path.parent / f".{path.name}.{fingerprint(recipe)}.checkpoint"
    with scratch_folder(path) as scratch:
        train, validation = (
            {story: story_targets(study, run, dataset, story, used, scratch) for story in names}
            for names in (stories.train, stories.validation)
        )
        model, history = tune(
            encoder, train, validation, study.tuning, device=device, checkpoint=checkpoint, report=report
        )
    _save_model(path, model, used, history, provenance(recipe, device=device, weights=encoder.weights_from))
    checkpoint.unlink(missing_ok=True)
    return path


def _save_model(path: Path, model: TunedModel, used: np.ndarray, history: list[dict], carried: dict) -> None:
    with atomic_path(path) as folder:
        model.cpu().encoder.save_pretrained(folder)
        head = {name: tensor.detach().contiguous() for name, tensor in model.head.state_dict().items()}
        save_file({**head, "voxels": torch.from_numpy(np.flatnonzero(used))}, folder / "head.safetensors")
        pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
        (folder / "provenance.json").write_text(json.dumps(carried, indent=1, default=str))


def extract_features(study: Study, run: Run, device: str = "cpu", report: Report = print) -> Path:
    """Features of every story that alignment needs, from every layer of a run's model.

    A story's array is (layers + 1, lead + rows, dim): `lead` rows before the first stored one, for the delays.
    """
    require_device(device)
    dataset, path = prepare(study, report), study.features_file(run)
    stories = study.stories.train + study.stories.test
    lead = max(study.encoding.delays)
    recipe = {
        "stage": "extract",
        "model": _model_recipe(study, run),
        "settings": study.features.model_dump(exclude={"batch_size"}),
        "times": fingerprint([dataset.tr_times(story).tolist() for story in stories] + [lead, dataset.tr]),
        "stories": stories,
        "inputs": inputs_fingerprint([dataset.audio_file(s) for s in stories], dataset.root),
    }
    if is_done(path, recipe):
        return path
    encoder = load_model(study, run).to(device)
    features = {}
    for number, story in enumerate(stories, 1):
        times = dataset.tr_times(story)
        times = np.concatenate([times[0] - dataset.tr * np.arange(lead, 0, -1), times])
        features[story] = story_features(encoder, dataset.audio(story), times, dataset.tr, study.features, device)
        report(f"{run.name}: {story}, {number} of {len(stories)}")
    weights = _weights_from(study, run, encoder)
    save_arrays(path, features, provenance(recipe, device=device, weights=weights))
    return path


def _weights_from(study: Study, run: Run, encoder: SpeechEncoder) -> str:
    made = provenance_of(study.model_folder(run))
    return made["weights"] if made else encoder.weights_from


def align(study: Study, participant: str, run: Run, device: str = "cpu", report: Report = print) -> Path:
    """Score every layer of a run's model on a participant's responses to the test story, voxel by voxel and by region.

    The scores file holds `r` and `alignment` (r over the noise ceiling), (layers + 1, voxels) float32, NaN where the
    ceiling is below the threshold. The CSV beside it holds the means over each region group.
    """
    require_device(device)
    dataset, path = prepare(study, report), study.scores_file(participant, run)
    measure_ceiling(study, participant, report)
    features_file = extract_features(study, run, device, report)
    used, ceiling = used_voxels(study, participant), load_arrays(study.ceiling_file(participant))["ceiling"]
    stories = study.stories_for(participant)
    used_stories = stories.train + stories.test
    recipe = {
        "stage": "align",
        "participant": participant,
        "features": fingerprint(provenance_of(features_file)["recipe"]),
        "ceiling": fingerprint(provenance_of(study.ceiling_file(participant))["recipe"]),
        "settings": study.encoding.model_dump(),
        "train": stories.train,
        "test": stories.test,
        "inputs": inputs_fingerprint([dataset.responses_file(participant, s) for s in used_stories], dataset.root),
    }
    table_path = path.with_suffix(".csv")
    if is_done(path, recipe) and table_path.is_file():
        return path
    responses = {story: dataset.responses(participant, story, used) for story in used_stories}
    correlations = score_layers(load_arrays(features_file), responses, stories, study.encoding, device)
    r = np.full((len(correlations), len(used)), np.nan, np.float32)
    r[:, used] = correlations
    alignment = (r / np.where(used, ceiling, np.nan)).astype(np.float32)
    model = provenance_of(features_file)
    carried = provenance(recipe, device=device, weights=model["weights"])
    save_arrays(path, {"r": r, "alignment": alignment, "ceiling": ceiling}, carried)
    table = region_table(alignment, dataset.cortex(participant).voxel_labels)
    table.insert(0, "participant", participant)
    table.insert(1, "backbone", run.backbone)
    table.insert(2, "condition", run.condition)
    save_table(table_path, table.assign(**provenance_columns(study.name, carried), seed=study.tuning.seed))
    report(f"{participant}: {run.name} aligned, {used.sum()} voxels")
    return path
