"""Figure 4: downstream tasks, each model at the layer that validates best."""

from collections.abc import Sequence
from itertools import chain, product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from braintuning.alignment.stats import false_discovery_q
from braintuning.cortex.page import NOTE_POINTS
from braintuning.figures.alignment import what_a_star_is
from braintuning.figures.compare import CONTROLS, EVERYONE, OVER, over_participants, starred
from braintuning.figures.style import bar_places, condition_bars, condition_legend, letter, small_print_below
from braintuning.figures.tables import MODEL, read_tables, shown_conditions
from braintuning.probes.scores import SCORES, interval_over_speakers, paired_difference
from braintuning.results import generator, load_arrays
from braintuning.study import Run, Study

CAPTION = (
    "Each model at the layer above the front end that scores best in validation. Bars: means; points, joined: "
    "participants' models; bars of one model have their 95 % interval over test speakers (Student's). At floor: no "
    "model's interval is above the dashed line"
)
WITHIN = "test speakers swapped between models"
STATISTICS = ["task", "backbone", "against", "participant", "n_participants", "n_test_speakers", "difference"]
STATISTICS += ["low", "high", "p", "test"]
BASELINES = {"baseline": ("most frequent answer", "--"), "random_features": ("random features", ":")}


def gather(study: Study) -> pd.DataFrame:
    """Score of every model on every task, layer by layer; `drawn` marks each model's layer in the figure."""
    paths = [study.probe_file(task, run) for task in study.probes.tasks for run in study.main_runs()]
    table, sums = read_tables(paths), chain.from_iterable(load_arrays(path)["sums"] for path in paths)
    of_layers = zip(table["metric"], sums, strict=True)
    table[["low", "high"]] = [interval_over_speakers(SCORES[metric], of_layer) for metric, of_layer in of_layers]
    return table.assign(drawn=table.index.isin(best_layer(table).index))


def best_layer(table: pd.DataFrame) -> pd.DataFrame:
    """One row a model and task: the layer with the highest score on the validation part, the earlier one of equals.

    Layer 0, the input of the first transformer block, is never chosen.
    """
    trunk = table[table["layer"] > 0]
    return trunk.loc[trunk.groupby(["task", *MODEL], sort=False)["validation"].idxmax()]


def compare(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Brain-tuned models, or where there are none jointly tuned ones, against the other conditions of the figure.

    Within a participant, two models are compared on the same test speakers (`scores.paired_difference`). Over
    participants there is a signed-rank p, from six on. Two models that all participants share are one pair, of
    participant ''. The false discovery rate is controlled over these tests, and over all within participants, each
    apart.

    Returns
    -------
    DataFrame
        task, backbone, against, participant ('all' over participants), n_participants, n_test_speakers, difference,
        low, high, p, q, test.
    """
    chosen, rows = best_layer(table).set_index(["task", *MODEL]), []
    for task, backbone in product(study.probes.tasks, study.tuned_backbones):
        conditions = shown_conditions(study, backbone)
        tuned = next((condition for condition in CONTROLS if condition in conditions), None)
        for against in [condition for condition in conditions if tuned and condition != tuned]:
            pairs = _pairs(study, backbone, tuned, against)
            within = [_pair(study, chosen, task, participant, *models) for participant, models in pairs.items()]
            rows += within if "" in pairs else [*within, _over(within)]
    found = pd.DataFrame(rows, columns=STATISTICS)
    q = found.groupby("test")["p"].transform(false_discovery_q)
    return found.assign(q=q)[[*STATISTICS[:-1], "q", "test"]]


def _pairs(study: Study, backbone: str, tuned: str, against: str) -> dict[str, tuple[Run, Run]]:
    """The two models to compare of each participant; under '' where all participants share both."""
    of_each = {p: tuple(study.run(backbone, c, p) for c in (tuned, against)) for p in study.participants}
    shared = {run for pair in of_each.values() for run in pair if run.participant is None}
    return {"": next(iter(of_each.values()))} if len(shared) == 2 else of_each


def _pair(study: Study, chosen: pd.DataFrame, task: str, participant: str, tuned: Run, other: Run) -> dict:
    sums = []
    for run in (tuned, other):
        row = chosen.loc[(task, run.backbone, run.condition, run.participant or "")]
        kept = load_arrays(study.probe_file(task, run))
        sums.append(kept["sums"][kept["layer"].tolist().index(row["layer"])])
    rng = generator(study.probes.seed, "figure 4", task, tuned.name, other.name)
    difference, low, high, p = paired_difference(SCORES[row["metric"]], *sums, rng)
    return {
        "task": task, "backbone": tuned.backbone, "against": other.condition, "participant": participant,
        "n_participants": 1, "n_test_speakers": len(sums[0]), "difference": difference, "low": low, "high": high,
        "p": p, "test": WITHIN,
    }  # fmt: skip


def _over(within: list[dict]) -> dict:
    found = over_participants([row["difference"] for row in within])
    return within[0] | found | {"participant": EVERYONE, "n_participants": len(within), "test": OVER}


def shown(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """What the figure draws of a table: tuned backbones and the figure's conditions, each model at its best layer."""
    known = table["backbone"].isin(study.tuned_backbones) & table["condition"].isin(shown_conditions(study))
    return best_layer(table[known])


def draw(study: Study, table: pd.DataFrame, statistics: pd.DataFrame, note: str) -> Figure:
    """A panel a task: bars of conditions, every participant's model a point, lines at what needs no model.

    A star is for a condition from which the brain-tuned models differ over participants. `table` and `statistics` are
    from `gather` and `compare`, `note` is small print.
    """
    tasks, chosen = list(table["task"].unique()), shown(study, table)
    conditions, stars = shown_conditions(study), starred(statistics)
    n_columns = min(2, len(tasks))
    n_rows = -(-len(tasks) // n_columns)
    fig = Figure(figsize=(7.2, 0.6 + 1.85 * n_rows), layout="constrained")
    axes = fig.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, task in zip(axes, tasks, strict=False):
        earned = set(stars.loc[stars["task"] == task, ["backbone", "against"]].itertuples(index=False, name=None))
        panel(ax, chosen[chosen["task"] == task], study.tuned_backbones, conditions, earned)
    letter(axes[: len(tasks)])
    for ax in axes[len(tasks) :]:
        ax.set_axis_off()
    there = [condition for condition in conditions if condition in set(chosen["condition"])]
    lines = [Line2D([], [], color="black", lw=1.0, ls=dashes, label=name) for name, dashes in BASELINES.values()]
    condition_legend(fig, there, more=lines, loc="outside upper center")
    tested = statistics.assign(reference="brain-tuned", family="over participants")
    small_print_below(fig, f"{note}. {what_a_star_is(tested, tested)}")
    return fig


def panel(
    ax: Axes,
    table: pd.DataFrame,
    backbones: Sequence[str],
    conditions: Sequence[str],
    stars: set[tuple[str, str]] = frozenset(),
) -> None:
    """Draw one task of a table from `shown`.

    The title says whether the corpus is real or a stand-in.
    """
    from braintuning.probes.tasks import TASKS

    apart = table.assign(participant=table["participant"].where(table["participant"] != "", table["condition"]))
    first = table.iloc[0]
    condition_bars(ax, apart, "value", backbones, conditions, first["metric"], stars)
    for (backbone, condition), place in bar_places(table, backbones, conditions).items():
        rows = table[(table["backbone"] == backbone) & (table["condition"] == condition)]
        if len(rows) == 1:
            ax.vlines(place, rows["low"], rows["high"], color="black", lw=0.7, zorder=4)
    for column, (_, dashes) in BASELINES.items():
        for level in table[column].unique():
            ax.axhline(level, color="white", lw=1.8, zorder=5, clip_on=False)
            ax.axhline(level, color="black", lw=1.0, ls=dashes, zorder=6, clip_on=False)
    bottom = min(0.0, np.nanmin(table[["value", "low", *BASELINES]]))
    ax.set_ylim(1.15 * bottom, 1.22 * np.nanmax(table[["value", "high", *BASELINES]]))
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    mark_floor(ax, table, backbones)
    corner = {"transform": ax.transAxes, "ha": "right", "va": "top", "fontsize": NOTE_POINTS}
    ax.text(1, 1, f"{first['n_test_speakers']:.0f} test speakers, {_layers_and_fits(table)}", **corner)
    kind = "stand-in" if first["corpus"].startswith("spoken ") else "real"
    ax.set_title(f"{TASKS[first['task']].title}: {first['corpus']} ({kind})")


def _layers_and_fits(table: pd.DataFrame) -> str:
    low, high = table["layer"].min(), table["layer"].max()
    layers = f"layer {low}" if low == high else f"layers {low}-{high}"
    unsettled = (~table["converged"]).sum()
    return f"{layers}, {unsettled} of {len(table)} fits not converged" if unsettled else layers


def mark_floor(ax: Axes, table: pd.DataFrame, backbones: Sequence[str]) -> None:
    """Write 'at floor' under a backbone none of whose models is surely better than the most frequent answer."""
    names = []
    for backbone in backbones:
        rows = table[table["backbone"] == backbone]
        floor = (rows[["low", "value"]].min(axis=1) <= rows["baseline"]).all()
        names.append(f"{backbone}\n(at floor)" if len(rows) and floor else backbone)
    ax.set_xticks(ax.get_xticks(), names)
