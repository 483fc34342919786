"""Figure C1: gain in alignment against minutes of tuning, people tuned jointly, and noise."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from braintuning import timing
from braintuning.cortex.regions import members
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError
from braintuning.figures.compare import CONTROLS, within_participant
from braintuning.figures.gain import GainLaw, fit_gain
from braintuning.figures.style import CONDITION_LOOKS, VARIANT_LOOKS, marked_line, row_by_row, small_print_below
from braintuning.results import generator, load_arrays, provenance_columns, provenance_of
from braintuning.study import Run, Study
from braintuning.study.settings import Tuning

ROI = "late_language"
PRETRAINED, PERMUTED = REFERENCES = ("pretrained", "permuted")
SOURCES = (
    "Late language regions. Thin lines: listeners, with 95 % intervals over blocks of TRs, set side by side; thick: "
    "their mean. Right: gain = plateau (1 - exp(-amount / scale)), 95 % interval from resampled people and blocks. "
    "Regions: Glasser et al. 2016"
)
OVER = {PRETRAINED: "pretrained", PERMUTED: "permuted control"}
ASKED_MINUTES = (5, 10, 20, 40, 90, 180, 600)
BESIDE = 1.025  # times the minutes: from one participant's interval to the next one's
TUNING_LOOKS = (CONDITION_LOOKS["brain-tuned"], CONDITION_LOOKS["multi-brain-tuned"], *VARIANT_LOOKS)
JOINT_LOOKS = (CONDITION_LOOKS["bigslm-tuned"], *VARIANT_LOOKS[:1], *VARIANT_LOOKS[3:])


def tuning_name(tuning: Tuning) -> str:
    """What tells the ways of tuning apart, in words."""
    passes = f"spans of {tuning.context_seconds:g} s" if tuning.context_seconds else "clips"
    return f"{tuning.targets}, {tuning.head_start} head, {passes}"


def doses(study: Study) -> Iterator[tuple[Run, Run | None]]:
    """Every run of the figure's backbone that has a control (`compare.CONTROLS`), and that, tuned alike on as much."""
    runs = [run for run in study.tuned_runs() if run.backbone == study.figure_backbone]

    def given(run: Run) -> tuple:
        return study.tuning_of(run.condition), study.tuning_stories(run).train, study.tuned_on(run)

    for run in [run for run in runs if study.base(run.condition) in CONTROLS]:
        alike = (other for other in runs if given(other) == given(run))
        yield run, next((c for c in alike if study.base(c.condition) == CONTROLS[study.base(run.condition)]), None)


def region_ceiling(study: Study, dataset: Dataset, participant: str) -> float:
    """Noise ceiling of a participant's late language regions: root mean square over all voxels.

    Not only those in use, of which the noisiest people have the fewest; voxels without signal power count as 0.
    """
    inside = members(dataset.cortex(participant).voxel_labels, ROI)
    ceiling = np.nan_to_num(load_arrays(study.ceiling_file(participant))["ceiling"][inside])
    return float(np.sqrt(np.mean(ceiling**2)))


def gather(study: Study, dataset: Dataset) -> tuple[pd.DataFrame, np.ndarray]:
    """Gains in late language regions of every participant whom a model was tuned on, at the figure's layer.

    `InputError` where the study tunes no model that has a dose.

    Returns
    -------
    table : DataFrame
        participant, backbone, condition, tuning, over (pretrained or permuted), reference (the condition), roi,
        n_stories, minutes (of volumes in tuning), participants (tuned jointly), ceiling (`region_ceiling`, root mean
        square over these), noise (times what it would be, of simulated listeners), gain, low and high (95 % interval
        over blocks of TRs), p, block_rows, and provenance.
    values : (rows, TRs) float64
        `stats.tr_values` of each gain, of as many TRs of the test story as everybody has; NaN where there is no gain.
    """
    rows, values, simulation = [], [], study.dataset.simulation
    ceilings = {participant: region_ceiling(study, dataset, participant) for participant in study.participants}
    for run, control in doses(study):
        stories, together = study.tuning_stories(run).train, study.tuned_on(run)
        times = [dataset.tr_times(together[0], story) for story in stories]
        dose = {
            "tuning": tuning_name(study.tuning_of(run.condition)),
            "roi": ROI,
            "n_stories": len(stories),
            "minutes": sum(len(of_story) * timing.spacing(of_story) for of_story in times) / 60,
            "participants": len(together),
            "ceiling": float(np.sqrt(np.mean([ceilings[participant] ** 2 for participant in together]))),
        }
        references = {PRETRAINED: PRETRAINED} | ({PERMUTED: control.condition} if control else {})
        for participant, (over, reference) in product(together, references.items()):
            found = within_participant(study, dataset, participant, run.backbone, run.condition, ROI, reference)
            values.append(found["tr_values"])
            rows.append({
                "participant": participant, "backbone": run.backbone, "condition": run.condition, "over": over,
                "reference": reference, "noise": simulation.noise.get(participant, 1.0) if simulation else np.nan,
                "gain": found["difference"], "low": found["low"], "high": found["high"],
                "p": found["p"], "block_rows": found["block_rows"],
                **provenance_columns(study.name, provenance_of(study.scores_file(participant, run))), **dose,
            })  # fmt: skip
    if not rows:
        raise InputError(f"study {study.name}: found no brain-tuned model, expected some tuned on more and on less")
    shortest = min(filter(None, map(len, values)), default=0)  # nobody's, where no voxel of the region is in use
    nothing = np.full(shortest, np.nan)
    return pd.DataFrame(rows), np.stack([of_row[:shortest] if len(of_row) else nothing for of_row in values])


def laws(table: pd.DataFrame, values: np.ndarray, seed: int = 0) -> dict[tuple[str, str], GainLaw]:
    """The law of every way of tuning over every reference; a way with one dose alone has none."""
    found = {}
    for (tuning, over), rows in table.groupby(["tuning", "over"], sort=False):
        usable = rows[np.isfinite(values[rows.index]).all(axis=1)]
        if usable[["n_stories", "participants"]].drop_duplicates().shape[0] > 1:
            factors = (usable["minutes"], usable["participants"], usable["ceiling"])
            block_rows = min(int(usable["block_rows"].max()), values.shape[1] // 2)
            rng = generator(seed, "law", tuning, over)
            found[tuning, over] = fit_gain(*factors, values[usable.index], usable["participant"], rng, block_rows)
    return found


def answers(found: dict[tuple[str, str], GainLaw], table: pd.DataFrame) -> pd.DataFrame:
    """What a lab needs: expected gains by tuning, minutes and people, at the median ceiling, with intervals.

    Returns
    -------
    DataFrame
        tuning, over, minutes, participants, ceiling, gain, low, high, beyond, minutes_to_half (of these people, to half
        of the plateau), plateau, saturates, and provenance.
    """
    alone = table[table["participants"] == table["participants"].min()]
    ceiling = alone.groupby("participant")["ceiling"].first().median()
    people = sorted({1, *table["participants"], 8})
    rows = [
        {"tuning": tuning, "over": over, "minutes": minutes, "participants": n, "ceiling": ceiling}
        | law.expected_gain(minutes, n, ceiling)._asdict()
        | {"minutes_to_half": law.minutes_needed(0.5, n, ceiling), "plateau": law.plateau, "saturates": law.saturates}
        for (tuning, over), law in found.items()
        for n in people
        for minutes in ASKED_MINUTES
    ]
    made = {name: ", ".join(table[name].unique()) for name in ("study", "weights", "git_commit", "versions")}
    return pd.DataFrame(rows).assign(**made)


def draw(table: pd.DataFrame, found: dict[tuple[str, str], GainLaw], note: str) -> Figure:
    """Figure C1: a row for each reference; gain by minutes and way of tuning, by people, and all of it on the law.

    The middle shows those who took part in models of every number of people.
    """
    fig = Figure(figsize=(7.2, 4.7), layout="constrained")
    axes = fig.subplots(2, 3, sharex="col", sharey="row")
    ways, joint = list(table["tuning"].unique()), sorted(set(table["participants"]) - {1})
    looks = dict(zip(ways, TUNING_LOOKS, strict=False))
    of_joint = {1: looks[ways[0]]} | dict(zip(joint, JOINT_LOOKS, strict=False))
    groups = table[table["tuning"] == ways[0]].groupby("participants")["participant"].agg(set)
    in_all, ticks = sorted(set.intersection(*groups)), table.groupby("n_stories")["minutes"].mean()
    for row, over in zip(axes, REFERENCES, strict=True):
        shown = table[table["over"] == over]
        one, first = shown[shown["participants"] == 1], shown[shown["participant"].isin(in_all)]
        for place, (n_people, look) in enumerate(of_joint.items()):
            _curves(row[1], first[(first["tuning"] == ways[0]) & (first["participants"] == n_people)], look, place)
        for place, (way, look) in enumerate(looks.items()):
            _curves(row[0], one[one["tuning"] == way], look, place)
            _on_the_law(row[2], shown[shown["tuning"] == way], found.get((way, over)), look)
        for ax in row[:2]:
            ax.set_xticks(ticks, [f"{minutes:.{0 if minutes > 3 else 1}f}" for minutes in ticks])
        row[0].set_ylabel(f"gain over {OVER[over]}\n(r / noise ceiling)")
    who = f"Tuned jointly, {' and '.join(in_all)}" if 0 < len(in_all) < 3 else "Tuned jointly"
    for ax, title in zip(axes[0], ("Tuned to one listener", who, "All, with the fitted curve"), strict=True):
        ax.set_title(title)
    for ax, label in zip(axes[1], ("minutes of tuning",) * 2 + ("minutes x listeners x ceiling²",), strict=True):
        ax.set_xlabel(label)
    _finish(fig, looks, of_joint, table, note)
    return fig


def _curves(ax: Axes, rows: pd.DataFrame, look: tuple, place: int) -> None:
    """Mean over participants against minutes, at a place beside them; participants thin, the noisier ones dotted."""
    people = rows.sort_values("minutes").groupby("participant")
    for k, (_, own) in enumerate(people):
        style = {"color": look.colour, "lw": 0.6, "alpha": 0.6}
        places = own["minutes"] * BESIDE ** (2 * len(people) * place + k - (len(people) - 1) / 2)
        ax.plot(places, own["gain"], ":" if own["noise"].iloc[0] > 1 else "-", **style)
        ax.vlines(places, own["low"], own["high"], **style)
    mean = rows.groupby("n_stories")[["minutes", "gain"]].mean()
    ax.plot(mean["minutes"] * BESIDE ** (2 * len(people) * place), mean["gain"], **marked_line(look))
    _log_axis(ax)


def _on_the_law(ax: Axes, rows: pd.DataFrame, law: GainLaw | None, look: tuple) -> None:
    """Every gain at its amount, those of noisier listeners hollow, and the law with its interval."""
    amounts = rows["minutes"] * rows["participants"] * rows["ceiling"] ** 2
    for noisier in (False, True):
        chosen = (rows["noise"] > 1) == noisier
        face = "white" if noisier else look.colour
        ax.plot(amounts[chosen], rows["gain"][chosen], look.marker, ms=3, mfc=face, mec=look.colour, mew=0.6)
    if law:
        grid = np.geomspace(*law.measured["amount"], 60)
        curve = [law.expected_gain(amount, 1, 1.0) for amount in grid]
        ax.plot(grid, [at.gain for at in curve], color=look.colour, lw=1.4)
        ax.fill_between(grid, [at.low for at in curve], [at.high for at in curve], color=look.colour, alpha=0.15, lw=0)
    _log_axis(ax)


def _log_axis(ax: Axes) -> None:
    ax.axhline(0, color="black", lw=0.7)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:.3g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def _finish(fig: Figure, looks: dict, of_joint: dict, table: pd.DataFrame, note: str) -> None:
    handles = [Line2D([], [], label=way, **marked_line(look)) for way, look in looks.items()]
    joint = {f"the same, {n} listeners jointly": look for n, look in of_joint.items() if n > 1}
    handles += [Line2D([], [], label=label, **marked_line(look)) for label, look in joint.items()]
    if (table["noise"] > 1).any():
        label = "noisier listener (dotted, hollow)"
        handles.append(Line2D([], [], color="black", ls=":", lw=0.8, marker="o", ms=3, mfc="white", label=label))
    fig.legend(handles=list(row_by_row(handles, 2)), ncols=2, loc="outside upper center")
    small_print_below(fig, note)
