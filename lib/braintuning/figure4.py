"""Figure 4: downstream tasks, each model at the layer that validates best."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from braintuning import plots, stats
from braintuning.probe_stage import probe
from braintuning.probes.tasks import TASKS
from braintuning.stages import Report
from braintuning.study import Study

MODEL = ["task", "backbone", "condition", "participant"]


def gather(study: Study, device: str = "cpu", report: Report = print) -> pd.DataFrame:
    """Score of every model on every task of the study, layer by layer, with provenance."""
    paths = [probe(study, run, task, device, report) for task in study.probes.tasks for run in study.runs()]
    tables = [pd.read_csv(path.with_suffix(".csv")) for path in paths]
    return pd.concat(tables, ignore_index=True).fillna({"participant": ""})


def best_layer(table: pd.DataFrame) -> pd.DataFrame:
    """One row a model and task: the layer with the highest score on the validation part, the earlier one of equals."""
    return table.loc[table.groupby(MODEL, sort=False)["validation"].idxmax()]


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Brain-tuned models against the others of their backbone, paired, over all backbones and participants.

    Returns
    -------
    DataFrame
        task, against, n_models, difference, p (signed rank; NaN with fewer than six models), q (false discovery rate
        over all rows).
    """
    chosen, rows = best_layer(table), []
    for task, part in chosen.groupby("task", sort=False):
        value = part.set_index(["backbone", "condition", "participant"])["value"]
        tuned = part[part["condition"] == "brain-tuned"]
        for against in [c for c in part["condition"].unique() if c != "brain-tuned"]:
            differences = [
                row.value - other
                for row in tuned.itertuples()
                for name in (row.participant, "")
                if (other := value.get((row.backbone, against, name))) is not None
            ]
            if differences:
                mean, p = sum(differences) / len(differences), stats.signed_rank_p(differences)
                rows.append((task, against, len(differences), mean, p))
    found = pd.DataFrame(rows, columns=["task", "against", "n_models", "difference", "p"])
    return found.assign(q=stats.false_discovery_q(found["p"].to_numpy()))


def draw(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """A panel a task: bars of conditions, every participant's model a point, dashed the commonest answer.

    Parameters
    ----------
    study : Study
    table : DataFrame
        From `gather`.
    note : str
        Small print.
    """
    tasks, chosen = list(table["task"].unique()), best_layer(table)
    conditions = [condition for condition in study.conditions if condition not in study.variants]
    n_columns = min(2, len(tasks))
    n_rows = -(-len(tasks) // n_columns)
    fig = Figure(figsize=(7.2, 0.6 + 1.75 * n_rows), layout="constrained")
    axes = fig.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, task in zip(axes, tasks, strict=False):
        panel(ax, chosen[chosen["task"] == task], study.tuned_backbones, conditions)
    for ax in axes[len(tasks) :]:
        ax.set_axis_off()
    plots.condition_legend(fig, conditions, loc="outside upper center")
    plots.small_print_below(fig, note)
    return fig


def panel(ax: Axes, table: pd.DataFrame, backbones: Sequence[str], conditions: Sequence[str]) -> Axes:
    """Draw one task; the title says where a stand-in takes the place of the paper's corpus."""
    task, corpus = table["task"].iloc[0], table["corpus"].iloc[0]
    plots.condition_bars(ax, table, "value", backbones, conditions, table["metric"].iloc[0])
    ax.axhline(table["baseline"].iloc[0], color="black", ls="--", lw=0.7)
    stand_in = " (stand-in)" if corpus.startswith("spoken ") else ""
    ax.set_title(f"{TASKS[task].title}: {corpus}{stand_in}")
    return ax
