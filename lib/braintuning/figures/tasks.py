"""Figure 4: downstream tasks, each model at the layer that validates best."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from braintuning.alignment import stats
from braintuning.figures import style as plots
from braintuning.figures.compare import EVERYONE, OVER
from braintuning.figures.tables import read_tables
from braintuning.probes.scores import SCORES, paired_difference
from braintuning.probes.tasks import TASKS
from braintuning.results import generator, load_arrays
from braintuning.study import Run, Study

MODEL = ["task", "backbone", "condition", "participant"]
TUNED = "brain-tuned"
CAPTION = (
    "Each model at the layer above the front end that validates best. Points: participants' models; bars of one model "
    "have their 95 % interval over test speakers. Dashed: the commonest answer, or silence; dotted: random features. "
    "At floor: no model's interval is above the dashed line. Star: differs from brain-tuned over participants, q < .05"
)
WITHIN = "test speakers swapped between models"
BASELINES = {"baseline": ("commonest answer", "--"), "random_features": ("random features", ":")}


def gather(study: Study) -> pd.DataFrame:
    """Score of every model on every task of the study, layer by layer, with provenance.

    `drawn` marks the layer of each model that the figure shows.
    """
    paths = [study.probe_file(task, run) for task in study.probes.tasks for run in study.main_runs()]
    table = read_tables(paths).fillna({"participant": ""})
    return table.assign(drawn=table.index.isin(best_layer(table).index))


def best_layer(table: pd.DataFrame) -> pd.DataFrame:
    """One row a model and task: the layer with the highest score on the validation part, the earlier one of equals.

    Layer 0 is what the frozen front end gives, the same in every condition, and is never chosen.
    """
    trunk = table[table["layer"] > 0]
    return trunk.loc[trunk.groupby(MODEL, sort=False)["validation"].idxmax()]


def compare(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Brain-tuned models against the other conditions that the figure shows, in each backbone and task.

    Each participant's model is compared with the other condition's (the participant's own where there is one) on the
    same test speakers: an interval and a p for these two models (`scores.paired_difference`). Over participants there
    is a signed-rank p, from six of them on. The false discovery rate is controlled over all rows.

    Returns
    -------
    DataFrame
        task, backbone, against, participant ('all' over participants), n_participants, n_test_speakers, difference,
        low, high, p, q, test.
    """
    chosen, rows = best_layer(table).set_index(MODEL), []
    for task, backbone, against in product(study.probes.tasks, study.tuned_backbones, shown_conditions(study)):
        if against == TUNED or against not in study.conditions_of(backbone):
            continue
        within = [
            _pair(
                study, chosen, task, study.run(backbone, TUNED, participant), study.run(backbone, against, participant)
            )
            for participant in study.participants
        ]
        rows += [*within, _over(within)]
    found = pd.DataFrame(rows)
    return found.assign(q=stats.false_discovery_q(found["p"].to_numpy()))[[*found.columns[:-1], "q", "test"]]


def _pair(study: Study, chosen: pd.DataFrame, task: str, tuned: Run, other: Run) -> dict:
    sums = []
    for run in (tuned, other):
        row, kept = chosen.loc[(task, *_model(run))], load_arrays(study.probe_file(task, run))
        sums.append(kept["sums"][kept["layer"].tolist().index(row["layer"])])
    rng = generator(study.probes.seed, "figure 4", task, tuned.name, other.name)
    difference, low, high, p = paired_difference(SCORES[TASKS[task].metric], *sums, rng)
    return {
        "task": task, "backbone": tuned.backbone, "against": other.condition, "participant": tuned.participant,
        "n_participants": 1, "n_test_speakers": len(sums[0]), "difference": difference, "low": low, "high": high,
        "p": p, "test": WITHIN,
    }  # fmt: skip


def _model(run: Run) -> tuple[str, str, str]:
    return run.backbone, run.condition, run.participant or ""


def _over(within: list[dict]) -> dict:
    differences = np.array([row["difference"] for row in within])
    rng = generator(0, "over", *(within[0][key] for key in ("task", "backbone", "against")))
    low, high = stats.bootstrap_interval(differences, rng)
    more = {"difference": differences.mean(), "low": low, "high": high, "p": stats.signed_rank_p(differences)}
    return within[0] | more | {"participant": EVERYONE, "n_participants": len(within), "test": OVER}


def shown_conditions(study: Study) -> list[str]:
    """Conditions that the figure shows: a study's variants have a figure of their own (B3)."""
    return [condition for condition in study.conditions if condition not in study.variants]


def shown(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The rows that the figure draws: tuned backbones and no variants, each model at its best layer."""
    known = table["backbone"].isin(study.tuned_backbones) & table["condition"].isin(shown_conditions(study))
    return best_layer(table[known])


def draw(study: Study, table: pd.DataFrame, statistics: pd.DataFrame, note: str) -> Figure:
    """A panel a task: bars of conditions, every participant's model a point, lines at what needs no model.

    A star is for a condition from which the brain-tuned models differ over participants.

    Parameters
    ----------
    study : Study
    table : DataFrame
        From `gather`.
    statistics : DataFrame
        From `compare`.
    note : str
        Small print.
    """
    tasks, chosen = list(table["task"].unique()), shown(study, table)
    conditions, stars = shown_conditions(study), starred(statistics)
    n_columns = min(2, len(tasks))
    n_rows = -(-len(tasks) // n_columns)
    fig = Figure(figsize=(7.2, 0.6 + 1.85 * n_rows), layout="constrained")
    axes = fig.subplots(n_rows, n_columns, squeeze=False).ravel()
    handles: dict[str, Artist] = {}
    for letter, ax, task in zip("abcdefgh", axes, tasks, strict=False):
        earned = set(stars.loc[stars["task"] == task, ["backbone", "against"]].itertuples(index=False, name=None))
        handles |= panel(ax, chosen[chosen["task"] == task], study.tuned_backbones, conditions, earned)
        ax.set_title(letter, loc="left", fontweight="bold")
    for ax in axes[len(tasks) :]:
        ax.set_axis_off()
    legend(fig, axes[-1] if len(tasks) < len(axes) else None, handles, conditions)
    plots.small_print_below(fig, note)
    return fig


def starred(statistics: pd.DataFrame, level: float = 0.05) -> pd.DataFrame:
    """Rows over participants whose q is below `level`."""
    return statistics[(statistics["participant"] == EVERYONE) & (statistics["q"] < level)]


def legend(fig: Figure, ax: Axes | None, handles: dict[str, Artist], conditions: Sequence[str]) -> None:
    """Name conditions and baselines, row by row, in an empty cell of the figure or else above it."""
    names = [name for name in (*conditions, *(label for label, _ in BASELINES.values())) if name in handles]
    n_columns = 2 if ax else 4
    by_row = [name for column in range(n_columns) for name in names[column::n_columns]]
    place = {"loc": "center"} if ax else {"loc": "outside upper center"}
    (ax or fig).legend([handles[name] for name in by_row], by_row, ncols=n_columns, **place)


def panel(
    ax: Axes,
    table: pd.DataFrame,
    backbones: Sequence[str],
    conditions: Sequence[str],
    stars: set[tuple[str, str]] = frozenset(),
) -> dict[str, Artist]:
    """Draw one task; the title says where a stand-in takes the place of the paper's corpus.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        From `shown`, one task.
    backbones, conditions : sequence of str
    stars : set of (backbone, condition)

    Returns
    -------
    handles : dict of name to artist
        For a legend.
    """
    apart = table.assign(participant=table["participant"].where(table["participant"] != "", table["condition"]))
    plots.condition_bars(ax, apart, "value", backbones, conditions, table["metric"].iloc[0], stars)
    first = table.iloc[0]
    models = [
        (b, c) for b in backbones for c in conditions if ((table["backbone"] == b) & (table["condition"] == c)).any()
    ]
    handles: dict[str, Artist] = {}
    for bar, (backbone, condition) in zip(ax.patches, models, strict=True):
        handles.setdefault(condition, bar)
        rows = table[(table["backbone"] == backbone) & (table["condition"] == condition)]
        if len(rows) == 1:
            middle = bar.get_x() + bar.get_width() / 2
            ax.vlines(middle, rows["low"], rows["high"], color="black", lw=0.7, zorder=4)
    for column, (label, dashes) in BASELINES.items():
        ax.axhline(first[column], color="white", lw=1.8, zorder=5, clip_on=False)
        line = {"color": "black", "ls": dashes, "lw": 1.0}
        ax.axhline(first[column], zorder=6, clip_on=False, **line)
        handles[label] = Line2D([], [], **line)
    bottom = min(0.0, np.nanmin(table[["value", "low", *BASELINES]]))
    ax.set_ylim(1.15 * bottom, 1.22 * np.nanmax(table[["value", "high", *BASELINES]]))
    ax.yaxis.set_major_locator(plots.mpl.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
    mark_floor(ax, table, backbones)
    layers = sorted({int(layer) for layer in table["layer"]})
    which = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]}-{layers[-1]}"
    if unsettled := int((~table["converged"]).sum()):
        which += f", {unsettled} of {len(table)} fits not settled"
    ax.text(
        1,
        1,
        f"{first['n_test_speakers']:.0f} test speakers, {which}",
        transform=ax.transAxes,
        ha="right",
        va="top",
        fontsize=6,
    )
    stand_in = " (stand-in)" if first["corpus"].startswith("spoken ") else ""
    ax.set_title(f"{TASKS[first['task']].title}: {first['corpus']}{stand_in}")
    return handles


def mark_floor(ax: Axes, table: pd.DataFrame, backbones: Sequence[str]) -> None:
    """Write 'at floor' under a backbone none of whose models is surely better than the commonest answer."""
    names = []
    for backbone in backbones:
        rows = table[table["backbone"] == backbone]
        floor = (rows[["low", "value"]].min(axis=1) <= rows["baseline"]).all()
        names.append(f"{backbone}\n(at floor)" if len(rows) and floor else backbone)
    ax.set_xticks(ax.get_xticks(), names)
