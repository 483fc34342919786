"""Steps of the Alice studies: one story's region time courses, encoded in blocks or by a jointly tuned model."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from nilearn.signal import clean

from braintuning.alignment import encoding
from braintuning.alignment.ceiling import group_mean_ceiling, leave_one_out_correlation
from braintuning.alignment.encoding import design_matrix
from braintuning.alignment.features import story_features
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.datasets.alice import REGIONS, STORY, AliceDataset
from braintuning.pipeline.card import save_model
from braintuning.pipeline.recipes import ALICE_CONDITIONS, HELD_OUT, MEANS, TUNED_TOGETHER, aim_of
from braintuning.pipeline.steps import (
    load_encoder,
    made_on,
    model_recipe,
    pretrained,
    recipe_of,
    require_device,
    weights_from,
)
from braintuning.results import (
    fingerprint,
    generator,
    inputs_fingerprint,
    is_done,
    load_arrays,
    provenance,
    provenance_columns,
    provenance_of,
    save_table,
)
from braintuning.study import Run, Study
from braintuning.tuning.controls import permute_blocks
from braintuning.tuning.loop import brain_tune
from braintuning.tuning.model import StoryTargets

log = logging.getLogger(__name__)

GROUP = "group"
FITTED_SECONDS = 540.0
VALIDATED_SECONDS = 60.0
TESTED_SECONDS = 180.0


def detrend(courses: np.ndarray, tr: float, high_pass_seconds: float) -> np.ndarray:
    """Regress out a discrete cosine basis up to `1 / high_pass_seconds` Hz with nilearn, and z-score.

    Parameters
    ----------
    courses : (TRs, columns) float
        Responses, or the features that predict them: both must lose the same frequencies (Lindquist et al. 2019).
    tr, high_pass_seconds : float
        Seconds.

    Returns
    -------
    detrended : (TRs, columns) float
    """
    options = {"filter": "cosine", "high_pass": 1 / high_pass_seconds, "t_r": tr, "detrend": False}
    return clean(courses, standardize="zscore_sample", **options)


def word_rate(dataset: AliceDataset) -> np.ndarray:
    """Words that began within the TR before each row: the simplest model of a listener; (TRs, 1) float64."""
    times = dataset.tr_times()
    edges = np.append(times - dataset.tr, times[-1])
    counts, _ = np.histogram([word.start for word in dataset.words()], edges)
    return counts[:, None].astype(np.float64)


def align_alice(study: Study, run: Run, device: str = "cpu") -> Path:
    """Predict every participant and their mean from every layer, block by block, and write `alignment.csv`.

    Columns: participant (or `group`), roi, layer, r, noise_ceiling, and provenance. A participant's noise ceiling is
    the correlation with the mean of all others; the group's is that of a mean of as many participants.
    """
    require_device(device)
    features_file = study.features_file(run)
    recipe_of(features_file)
    dataset = AliceDataset(study.root, study.dataset.tr)
    for reason in dataset.left_out.values():
        log.info(f"left out: {reason}")
    high_pass = study.encoding.high_pass_seconds
    responses = np.stack([detrend(dataset.responses(p), dataset.tr, high_pass) for p in dataset.participants])
    rows = []
    for layer, features in enumerate(load_arrays(features_file)[STORY]):
        design = detrend(design_matrix(features, study.encoding.delays), dataset.tr, high_pass)
        rows += [
            (*row[:2], layer, *row[2:]) for row in score_design(design, dataset.participants, responses, study, device)
        ]
    table = pd.DataFrame(rows, columns=["participant", "roi", "layer", "r", "noise_ceiling"])
    carried = provenance({"stage": "align_alice", "encoding": study.encoding.model_dump()}, device=made_on(device))
    carried["weights"] = provenance_of(features_file)["weights"]
    path = study.figures_folder / "alignment.csv"
    save_table(path, table.assign(**provenance_columns(study.name, carried), seed=study.encoding.seed))
    return path


def score_design(
    design: np.ndarray, participants: tuple[str, ...], responses: np.ndarray, study: Study, device: str = "cpu"
) -> list[tuple[str, str, float, float]]:
    """Cross-validated correlation of a design with each participant and with their mean, beside its ceiling.

    Parameters
    ----------
    design : (TRs, features) float
    participants : tuple of str
    responses : (participants, TRs, regions) float
    study : Study
    device : str

    Returns
    -------
    rows : list of (participant or `group`, roi, r, noise_ceiling)
    """
    everyone = np.concatenate([responses, responses.mean(axis=0)[None]])
    ceilings = np.concatenate([leave_one_out_correlation(responses), group_mean_ceiling(responses)[None]])
    together = everyone.transpose(1, 0, 2).reshape(len(design), -1)
    rng = generator(study.encoding.seed, "splits")
    gap = max(study.encoding.delays)
    r = encoding.score_blocks(design.astype(np.float32), together, study.encoding, rng, gap, device)
    r = r.reshape(ceilings.shape)
    names = (*participants, GROUP)
    return [(p, roi, r[i, j], ceilings[i, j]) for i, p in enumerate(names) for j, roi in enumerate(REGIONS)]


def parts_of(times: np.ndarray) -> dict[str, np.ndarray]:
    """Rows that tune, that say when to stop, that fit encoding models (both of these), and that test; indices int64."""
    stop, last = FITTED_SECONDS - VALIDATED_SECONDS, times[-1] - TESTED_SECONDS
    return {
        "train": np.flatnonzero(times <= stop),
        "validation": np.flatnonzero((times > stop) & (times <= FITTED_SECONDS)),
        "fitted": np.flatnonzero(times <= FITTED_SECONDS),
        "test": np.flatnonzero(times > max(last, FITTED_SECONDS)),
    }


def groups_of(participants: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Participants who tune, and every third, beginning with the second, who is held out."""
    held_out = tuple(participants[1::3])
    return {TUNED_TOGETHER: tuple(p for p in participants if p not in held_out), HELD_OUT: held_out}


def _run(study: Study, condition: str) -> Run:
    return Run(study.figure_backbone, condition)


def tune_on_alice(study: Study, condition: str, device: str = "cpu") -> Path:
    """Tune one model on the first minutes of all participants who are not held out; the folder of the model.

    Responses are detrended and z-scored within the minutes that fit. The random control learns from the same responses
    with blocks of TRs moved.
    """
    require_device(device)
    dataset, run = AliceDataset(study.root, study.dataset.tr), _run(study, condition)
    path, participants = study.model_folder(run), groups_of(dataset.participants)[TUNED_TOGETHER]
    recipe = {
        "stage": "tune", "run": run.name, "participants": participants, "settings": study.tuning.model_dump(),
        "backbone": study.backbones[run.backbone].model_dump(), "high_pass": study.encoding.high_pass_seconds,
        "seconds": [FITTED_SECONDS, VALIDATED_SECONDS], "train": [STORY], "validation": [STORY],
        "inputs": inputs_fingerprint([dataset.audio_file(), *dataset.files(participants)], dataset.root),
        "aim": aim_of(condition),
    }  # fmt: skip
    if is_done(path, recipe):
        return path
    times, parts = dataset.tr_times(), parts_of(dataset.tr_times())
    ends = times + (study.tuning.clip_ends - dataset.row_offset) * dataset.tr
    fitted = {p: _detrended(study, dataset, p, parts["fitted"]).astype(np.float32) for p in participants}

    def material(part: str) -> StoryTargets:
        rows, targets = parts[part], []
        for participant in participants:
            responses = fitted[participant][np.searchsorted(parts["fitted"], rows)]
            if condition == "multi-random-brain-tuned":
                rng = generator(study.tuning.seed, "permute", participant, part)
                responses = responses[permute_blocks(len(rows), study.tuning.permutation_block_rows, rng)]
            targets.append(responses)
        return StoryTargets(dataset.audio(), ends[rows], tuple(targets))

    encoder = pretrained(study, run)
    train, validation = {STORY: material("train")}, {STORY: material("validation")}
    checkpoint = path.parent / f".{path.name}.{fingerprint(recipe)}.checkpoint"
    model, history = brain_tune(
        encoder, train, validation, study.tuning,
        device=device, checkpoint=checkpoint, aim=recipe["aim"],
    )  # fmt: skip
    carried = provenance(recipe, device=made_on(device), weights=encoder.weights_from, dataset=study.title)
    save_model(path, model, np.arange(len(REGIONS)), history, carried, condition)
    checkpoint.unlink(missing_ok=True)
    return path


def _detrended(study: Study, dataset: AliceDataset, participant: str, rows: np.ndarray) -> np.ndarray:
    return detrend(dataset.responses(participant)[rows], dataset.tr, study.encoding.high_pass_seconds)


def align_on_last_minutes(study: Study, device: str = "cpu") -> pd.DataFrame:
    """Tune, then score pretrained model, joint model and its random control on the last minutes of everybody.

    Encoding models of a participant are fitted to the first nine minutes, for those held out as well. The mean response
    of each group, in which less is noise, is scored like a participant: group `MEANS`, participant the group's name.

    Returns
    -------
    DataFrame
        condition, group, participant, roi, layer, r, noise_ceiling (correlation with the mean of all others in the
        tested minutes; of a group's mean with that of the other), provenance.
    """
    dataset, tables = AliceDataset(study.root, study.dataset.tr), []
    parts, group_of = parts_of(dataset.tr_times()), groups_of(dataset.participants)
    fitted, tested = (
        np.stack([_detrended(study, dataset, p, parts[part]) for p in dataset.participants], axis=1)
        for part in ("fitted", "test")
    )
    ceiling = leave_one_out_correlation(tested.transpose(1, 0, 2))
    members = [np.isin(dataset.participants, names) for names in group_of.values()]
    fitted, tested = (_with_means(responses, members) for responses in (fitted, tested))
    ceiling = np.vstack([ceiling, *[encoding.correlation(tested[:, -2], tested[:, -1])] * 2])
    index = pd.MultiIndex.from_product([[*dataset.participants, *group_of], REGIONS], names=["participant", "roi"])
    for condition in ALICE_CONDITIONS:
        if condition != "pretrained":
            tune_on_alice(study, condition, device)
        run = _run(study, condition)
        encoder = load_encoder(study, run)
        recipe = {"stage": "alice jointly", "model": model_recipe(study, run), "encoding": study.encoding.model_dump()}
        recipe |= {"features": study.features.model_dump()}
        recipe |= {
            "inputs": inputs_fingerprint([dataset.audio_file(), *dataset.files(dataset.participants)], dataset.root)
        }
        carried = provenance(recipe, device=made_on(device), weights=weights_from(study, run, encoder))
        for layer, features in enumerate(_features(study, encoder.to(device), dataset, device)):
            predicted = _predict(study, design_matrix(features, study.encoding.delays), parts, fitted, device)
            r = encoding.correlation(predicted, tested.reshape(len(tested), -1))
            scores = pd.DataFrame({"r": r, "noise_ceiling": ceiling.ravel()}, index=index).reset_index()
            tables.append(scores.assign(condition=condition, layer=layer, **provenance_columns(study.name, carried)))
    table = pd.concat(tables, ignore_index=True)
    group_of_name = {name: group for group, names in group_of.items() for name in names}
    table.insert(0, "group", table["participant"].map(group_of_name).fillna(MEANS))
    save_table(study.figures_folder / "alice_joint.csv", table)
    return table


def _features(study: Study, encoder: SpeechEncoder, dataset: AliceDataset, device: str) -> np.ndarray:
    """Features of the story; (layers + 1, lead + TRs, dim) float32."""
    times, tr = dataset.tr_times(), dataset.tr
    lead = times[0] + tr * np.arange(-max(study.encoding.delays), 0)
    read = story_features([encoder], [dataset.audio()], [np.concatenate([lead, times])], tr, study.features, device)
    return next(read)[0]


def _with_means(responses: np.ndarray, members: Sequence[np.ndarray]) -> np.ndarray:
    """Responses, (TRs, participants, regions), and after them the mean of each group of participants."""
    return np.concatenate([responses, *(responses[:, some].mean(axis=1, keepdims=True) for some in members)], axis=1)


def _predict(
    study: Study, design: np.ndarray, parts: Mapping[str, np.ndarray], fitted: np.ndarray, device: str
) -> np.ndarray:
    """Predicted responses to the tested TRs, each of participants and regions a column."""
    train_x, test_x = (
        detrend(design[parts[part]], study.dataset.tr, study.encoding.high_pass_seconds).astype(np.float32)
        for part in ("fitted", "test")
    )
    train_y = fitted.reshape(len(fitted), -1).astype(np.float32)
    rng = generator(study.encoding.seed, "splits")
    return encoding.predict(train_x, train_y, test_x, study.encoding, rng, device)
