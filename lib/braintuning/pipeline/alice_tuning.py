"""Joint tuning on real fMRI: nine minutes of Alice tune one model for several participants, the last three test it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braintuning.alignment import encoding, stats
from braintuning.alignment.ceiling import leave_one_out_correlation
from braintuning.alignment.encoding import design_matrix
from braintuning.datasets.alice import REGIONS, STORY, AliceDataset
from braintuning.figures import style as plots
from braintuning.pipeline.alice import detrend
from braintuning.pipeline.steps import extract_features, pretrained, require_device
from braintuning.pipeline.tune import save_model
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
from braintuning.tuning.loop import tune
from braintuning.tuning.model import StoryTargets

FITTED_SECONDS = 540.0
VALIDATED_SECONDS = 60.0
TESTED_SECONDS = 180.0
CONDITIONS = ("pretrained", "multi-brain-tuned", "multi-random-brain-tuned")
TUNED, HELD_OUT, MEANS = "tuned together", "held out", "mean responses"


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
    return {TUNED: tuple(p for p in participants if p not in held_out), HELD_OUT: held_out}


def _run(study: Study, condition: str) -> Run:
    return Run(study.figure_backbone, condition)


def tune_on_alice(study: Study, condition: str, device: str = "cpu") -> Path:
    """Tune one model on the first minutes of all participants who are not held out; the folder of the model.

    Responses are detrended and z-scored within the minutes that fit. The random control learns from the same responses
    with blocks of rows moved.
    """
    require_device(device)
    dataset, run = AliceDataset(study.root, study.dataset.tr), _run(study, condition)
    path, participants = study.model_folder(run), groups_of(dataset.participants)[TUNED]
    recipe = {
        "stage": "tune", "run": run.name, "participants": participants, "settings": study.tuning.model_dump(),
        "backbone": study.backbones[run.backbone].model_dump(), "high_pass": study.encoding.high_pass_seconds,
        "seconds": [FITTED_SECONDS, VALIDATED_SECONDS], "train": [STORY], "validation": [STORY],
        "inputs": inputs_fingerprint([dataset.audio_file(), *dataset.files(participants)], dataset.root),
    }  # fmt: skip
    if is_done(path, recipe):
        return path
    times, parts = dataset.tr_times(), parts_of(dataset.tr_times())

    fitted = {p: _detrended(study, dataset, p, parts["fitted"]).astype(np.float32) for p in participants}

    def material(part: str) -> StoryTargets:
        rows, targets = parts[part], []
        for participant in participants:
            responses = fitted[participant][np.searchsorted(parts["fitted"], rows)]
            if condition == "multi-random-brain-tuned":
                rng = generator(study.tuning.seed, "permute", participant, part)
                responses = responses[permute_blocks(len(rows), study.tuning.permutation_block_rows, rng)]
            targets.append(responses)
        return StoryTargets(dataset.audio(), times[rows], tuple(targets))

    encoder = pretrained(study, run)
    train, validation = {STORY: material("train")}, {STORY: material("validation")}
    checkpoint = path.parent / f".{path.name}.{fingerprint(recipe)}.checkpoint"
    model, history = tune(encoder, train, validation, study.tuning, device=device, checkpoint=checkpoint)
    carried = provenance(recipe, device=device, weights=encoder.weights_from, dataset=study.title)
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
    for condition in CONDITIONS:
        if condition != "pretrained":
            tune_on_alice(study, condition, device)
        features_file = extract_features(study, _run(study, condition), device)
        for layer, features in enumerate(load_arrays(features_file)[STORY]):
            predicted = _predict(study, design_matrix(features, study.encoding.delays), parts, fitted, device)
            r = encoding.correlation(predicted, tested.reshape(len(tested), -1))
            scores = pd.DataFrame({"r": r, "noise_ceiling": ceiling.ravel()}, index=index).reset_index()
            carried = provenance_of(features_file)
            tables.append(scores.assign(condition=condition, layer=layer, **provenance_columns(study.name, carried)))
    table = pd.concat(tables, ignore_index=True)
    group_of_name = {name: group for group, names in group_of.items() for name in names}
    table.insert(0, "group", table["participant"].map(group_of_name).fillna(MEANS))
    save_table(study.figures_folder / "alice_joint.csv", table)
    return table


def _with_means(responses: np.ndarray, members: Sequence[np.ndarray]) -> np.ndarray:
    """Responses, (rows, participants, regions), and after them the mean of each group of participants."""
    return np.concatenate([responses, *(responses[:, some].mean(axis=1, keepdims=True) for some in members)], axis=1)


def _predict(
    study: Study, design: np.ndarray, parts: Mapping[str, np.ndarray], fitted: np.ndarray, device: str
) -> np.ndarray:
    """Predicted responses to the tested rows, each of participants and regions a column."""
    train_x, test_x = (
        detrend(design[parts[part]], study.dataset.tr, study.encoding.high_pass_seconds).astype(np.float32)
        for part in ("fitted", "test")
    )
    train_y = fitted.reshape(len(fitted), -1).astype(np.float32)
    rng = generator(study.encoding.seed, "splits")
    return encoding.predict(train_x, train_y, test_x, study.encoding, rng, device)


def differences(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Each tuned model minus the pretrained one at the last layer, within each group, region by region and in the mean.

    Returns
    -------
    DataFrame
        condition, group, roi (`all`: mean over regions), n_participants, difference, low, high (95 % interval over
        participants), p (signed rank), q (false discovery rate over all rows).
    """
    last = table[(table["layer"] == table["layer"].max()) & (table["group"] != MEANS)]
    mean = last.groupby(["condition", "group", "participant"], as_index=False)["r"].mean().assign(roi="all")
    wide = pd.concat([last, mean]).pivot(index=["group", "roi", "participant"], columns="condition", values="r")
    rows = []
    for condition in CONDITIONS[1:]:
        for (group, roi), of_group in (wide[condition] - wide["pretrained"]).groupby(level=["group", "roi"]):
            low, high = stats.bootstrap_interval(of_group.to_numpy(), generator(seed, condition, group, roi))
            row = {"condition": condition, "group": group, "roi": roi, "n_participants": len(of_group)}
            row |= {"difference": of_group.mean(), "low": low, "high": high, "p": stats.signed_rank_p(of_group)}
            rows.append(row)
    found = pd.DataFrame(rows)
    return found.assign(q=stats.false_discovery_q(found["p"].to_numpy()))


def draw(table: pd.DataFrame) -> Figure:
    """Mean over regions for those who tuned, those held out and the mean of each; region by region for the held out."""
    fig = Figure(figsize=(7.2, 2.8), layout="constrained")
    left, right = fig.subplots(1, 2, width_ratios=[1.5, 2.4])
    last = table[table["layer"] == table["layer"].max()]
    mean = last.groupby(["condition", "group", "participant"], as_index=False)["r"].mean()
    plots.condition_bars(left, mean.rename(columns={"group": "backbone"}), "r", (TUNED, HELD_OUT, MEANS), CONDITIONS)
    left.set(title="mean over six regions", ylabel="r, last three minutes")
    held_out = last[last["group"] == HELD_OUT].drop(columns="group").rename(columns={"roi": "backbone"})
    plots.condition_bars(right, held_out, "r", REGIONS, CONDITIONS)
    right.set_title("held-out participants, region by region")
    plots.condition_legend(fig, CONDITIONS, loc="outside upper center")
    return fig
