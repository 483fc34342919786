"""Step: tune a model; what each condition learns from."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from braintuning.alignment.mask import used_voxels, voxels_in_use
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.weights import weights_fingerprint
from braintuning.datasets import Dataset, open_dataset
from braintuning.pipeline import recipes
from braintuning.pipeline.card import save_model
from braintuning.pipeline.steps import clip_ends, made_on, pretrained, require_device
from braintuning.results import (
    fingerprint,
    generator,
    inputs_fingerprint,
    is_done,
    listed,
    load_arrays,
    made_result,
    on_disk,
    provenance,
    scratch_folder,
)
from braintuning.study import Run, Study
from braintuning.timing import to_samples
from braintuning.tuning import controls
from braintuning.tuning.controls import permute_blocks
from braintuning.tuning.joint import CommonCortex, common_cortex
from braintuning.tuning.loop import brain_tune, joined_processes
from braintuning.tuning.model import StoryTargets
from braintuning.tuning.objectives import objective

log = logging.getLogger(__name__)

Targets = dict[str, StoryTargets]
Keep = Callable[[np.ndarray, str], np.ndarray]
"""Takes targets and a name, and gives back the same numbers, in a file perhaps."""


def tune_model(study: Study, run: Run, device: str = "cpu", max_memory: float | None = None) -> Path:
    """Tune a run's model and save it as a folder that plain transformers loads, with its head and loss history.

    Processes that `torchrun` started tune it together. `max_memory`: see `brain_tune`.
    """
    require_device(device)
    processes = joined_processes(device)
    dataset, path = open_dataset(study), study.model_folder(run)
    recipe = tuning_recipe(study, run, dataset)
    if is_done(path, recipe):
        return path
    encoder = pretrained(study, run).to(device)
    settings, condition = study.tuning_of(run.condition), study.base(run.condition)
    checkpoint = path.parent / f".{path.name}.{fingerprint(recipe)}.checkpoint"
    processes.wait_for_everyone()
    with scratch_folder(path.with_name(f"{path.name}-{processes.process_index}")) as scratch:
        train, validation = learning_material(
            study, run, dataset, lambda targets, name: on_disk(targets, scratch / f"{name}.npy"), device
        )
        heads = None
        if condition == "stimulus-tuned":
            audio = [_of_clips(study, story, settings.clip_seconds) for story in train.values()]
            heads = objective(encoder, audio, settings.seed)
        model, history = brain_tune(
            encoder, train, validation, settings,
            device=device, checkpoint=checkpoint, objective=heads, scratch=scratch, max_memory=max_memory,
            aim=recipe["aim"],
        )  # fmt: skip
    if processes.is_main_process:
        made = provenance(recipe, device=made_on(device), weights=encoder.weights_from, dataset=study.title)
        save_model(path, model, _head_columns(study, run, dataset), history, made, condition)
        checkpoint.unlink(missing_ok=True)
    processes.wait_for_everyone()
    return path


def tuning_recipe(study: Study, run: Run, dataset: Dataset) -> dict:
    """Everything that decides a run's weights."""
    recipe, base, backbone = recipes.tune(study, run).stored, study.base(run.condition), study.backbones[run.backbone]
    stories = recipe["train"] + recipe["validation"]
    files = [dataset.audio_file(story) for story in stories]
    files += [dataset.responses_file(participant, s) for participant in recipe["participants"] for s in stories]
    spoken = fingerprint([list(map(tuple, dataset.words(s))) for s in stories]) if base == "lm-tuned" else None
    texts = [Path(name) for name in study.controls.text_models if base == "lm-tuned" and Path(name).is_dir()]
    fingerprints = [inputs_fingerprint(filter(Path.is_file, listed(folder)), folder) for folder in texts]
    return {
        **recipe,
        "weights": weights_fingerprint(backbone.name),
        "teacher": weights_fingerprint(backbone.teacher) if base == "bigslm-tuned" else None,
        "words": spoken,
        **({"texts": fingerprints} if fingerprints else {}),
        "clips": fingerprint([to_samples(clip_ends(study, run, dataset, story)).tolist() for story in stories]),
        "head": fingerprint(_head_columns(study, run, dataset).tolist()),
        "inputs": inputs_fingerprint(files, dataset.root),
    }


def learning_material(
    study: Study, run: Run, dataset: Dataset, keep: Keep = lambda targets, name: targets, device: str = "cpu"
) -> tuple[Targets, Targets]:
    """Audio and targets of the training and of the validation stories of a run, by story.

    `keep` is given each array of targets with a name for it; a larger speech model, if the run needs one, runs on
    `device`.
    """
    stories, base, common = study.tuning_stories(run), study.base(run.condition), None
    if base in ("bigslm-tuned", "lm-tuned"):
        targets = {story: (of_story,) for story, of_story in _distilled(study, run, dataset, device).items()}
    elif base == "stimulus-tuned":
        targets = dict.fromkeys(stories.train + stories.validation, ())
    else:
        targets, common = None, _shared_head(study, run, dataset)

    def material(story: str) -> StoryTargets:
        found = responses_of(study, run, dataset, story, common) if targets is None else targets[story]
        kept = tuple(keep(of_one, f"{story}-{number}") for number, of_one in enumerate(found))
        repeats = presentations(study, run, dataset, story, common) if story in stories.validation else ()
        return StoryTargets(dataset.audio(story), clip_ends(study, run, dataset, story), kept, repeats)

    return {story: material(story) for story in stories.train}, {story: material(story) for story in stories.validation}


def presentations(
    study: Study, run: Run, dataset: Dataset, story: str, common: CommonCortex | None
) -> tuple[np.ndarray, ...]:
    """Responses to each presentation of a validation story, of each participant that a run is tuned on.

    Of a mean over participants theirs are the presentations; else only the story that noise ceilings are measured on
    is known to have some. There are none for a run that learns something else than these responses.
    """
    people = study.tuned_on(run)
    if study.base(run.condition) not in ("brain-tuned", "multi-brain-tuned"):
        return ()
    if study.joint_responses == "mean" and len(people) > 1:
        return (np.stack([common.responses(dataset, participant, story) for participant in people]),)
    measured = {recipes.ceiling(study, participant).stored["story"] for participant in people}
    if measured != {story} or dataset.between_people:
        return ()
    return tuple(common.repeats(dataset, participant, story) for participant in people)


def responses_of(study: Study, run: Run, dataset: Dataset, story: str, common: CommonCortex) -> tuple[np.ndarray, ...]:
    """Responses of each participant that a run is tuned on, at common points; for the random control reordered.

    All in the same order, so that components which participants share are those of the treatment. With
    `joint_responses: mean` of their mean alone, which has the same minimum of a squared error.
    """
    settings = study.tuning_of(run.condition)
    found = {participant: common.responses(dataset, participant, story) for participant in study.tuned_on(run)}
    if len(found) > 1 and study.joint_responses == "mean":
        found = {"mean": np.mean([*found.values()], axis=0)}
    if study.base(run.condition) in ("random-brain-tuned", "multi-random-brain-tuned"):
        for name, responses in found.items():
            rng = generator(settings.seed, "permute", "everyone" if len(found) > 1 else name, story)
            found[name] = responses[permute_blocks(len(responses), settings.permutation_block_rows, rng)]
    return tuple(found.values())


def _shared_head(study: Study, run: Run, dataset: Dataset) -> CommonCortex:
    """What the head of a run predicts: the used voxels of its participant, or points that its participants share."""
    participants = study.tuned_on(run)
    for participant in participants:
        made_result(study.ceiling_file(participant))
    measured = {participant: load_arrays(study.ceiling_file(participant)) for participant in participants}
    by_ceiling = study.encoding.mask_by == "ceiling"
    in_use = {p: voxels_in_use(arrays, study.encoding) for p, arrays in measured.items()}
    return common_cortex(
        {participant: dataset.cortex(participant) for participant in participants},
        {p: arrays["ceiling"] if by_ceiling else np.where(in_use[p], 1.0, 0.0) for p, arrays in measured.items()},
        study.encoding.ceiling_threshold if by_ceiling else 0.5,
        {participant: arrays["broken"] for participant, arrays in measured.items()},
    )


def _head_columns(study: Study, run: Run, dataset: Dataset) -> np.ndarray:
    """Numbers of the voxels or common points that the head predicts, or just of its targets.

    The controls that learn from other models have as many targets as the first participant has used voxels, or as the
    study says; stimulus-tuning has none.
    """
    if study.base(run.condition) == "stimulus-tuned":
        return np.arange(0)
    if study.tuned_on(run):
        return _shared_head(study, run, dataset).points
    return np.arange(study.controls.n_targets or int(used_voxels(study, study.participants[0]).sum()))


def _distilled(study: Study, run: Run, dataset: Dataset, device: str) -> dict[str, np.ndarray]:
    """Targets of a control that learns from other models; {story: (TRs, targets)}."""
    stories, settings = study.tuning_stories(run), study.tuning_of(run.condition)
    names, clip = stories.train + stories.validation, settings.clip_seconds
    ends = {story: clip_ends(study, run, dataset, story) for story in names}
    if study.base(run.condition) == "bigslm-tuned":
        backbone = study.backbones[run.backbone]
        teacher = SpeechEncoder.from_pretrained(backbone.teacher, pad_to_30s=backbone.pad_to_30s).to(device)
        log.info(f"{run.name}: states of {teacher.name}, {len(names)} stories")
        states = {s: controls.speech_states(teacher, dataset.audio(s), ends[s], settings, device) for s in names}
    else:
        log.info(f"{run.name}: states of {', '.join(study.controls.text_models)}, {len(names)} stories")
        states = {}
        for story in names:
            given = dataset.words(story), ends[story], clip, device
            states[story] = np.hstack([controls.text_states(model, *given) for model in study.controls.text_models])
    rng = generator(settings.seed, "projection", run.name)
    return controls.projected(states, stories.train, len(_head_columns(study, run, dataset)), rng)


def _of_clips(study: Study, story: StoryTargets, clip_seconds: float) -> np.ndarray:
    """Audio of a story; of a part of a recording what its clips hear: its audio has the tested minutes as well."""
    heard = slice(*to_samples(np.maximum([story.times[0] - clip_seconds, story.times[-1]], 0)).tolist())
    return story.audio[heard if study.dataset.recordings else slice(None)]
