"""Figure 5: semantic preference of every layer, and the similarities that it is made of."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from braintuning import plots
from braintuning.preference import preference_change
from braintuning.preference_stage import semantic_preference, words_to_say
from braintuning.results import load_arrays
from braintuning.seeding import generator
from braintuning.stages import Report
from braintuning.study import Run, Study
from braintuning.word_pairs import PAIR_TYPES

PAIR_STYLES = {"same word": ":", "near homophones": "--", "synonyms": "-", "random": "-."}


def gather(study: Study, device: str = "cpu", report: Report = print, recordings: Path | None = None) -> pd.DataFrame:
    """Semantic preference of every model, by layer and type of pairs, with provenance; see `semantic_preference`.

    In recordings only of pretrained models: they check the voices, and hold too few pairs to compare models.
    """
    runs = [run for run in study.runs() if recordings is None or run.condition == "pretrained"]
    paths = [semantic_preference(study, run, device, report, recordings) for run in runs]
    tables = [pd.read_csv(path.with_suffix(".csv"), dtype={"participant": "str"}) for path in paths]
    return pd.concat(tables, ignore_index=True).fillna({"participant": ""})


def compare(study: Study) -> pd.DataFrame:
    """Semantic preference of each tuned model minus pretrained, by layer, with intervals over pairs.

    Returns
    -------
    DataFrame
        participant, backbone, condition, layer, difference, low, high, reason.
    """
    pairs, tables = words_to_say(study)[0], []
    for run in study.tuned_runs():
        files = [study.preference_file(r) for r in (Run(run.backbone, "pretrained"), run)]
        before, after = (load_arrays(file)["similarities"] for file in files)
        change = preference_change(before, after, pairs, generator(study.preference.seed, "change", run.name))
        tables.append(change.assign(participant=run.participant or "", backbone=run.backbone, condition=run.condition))
    columns = ["participant", "backbone", "condition", "layer", "difference", "low", "high", "reason"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _conditions(study: Study, backbone: str) -> list[str]:
    return [condition for condition in study.conditions_of(backbone) if condition not in study.variants]


def draw(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """A column a backbone: preference per layer and condition, its change from pretrained, and similarities.

    Parameters
    ----------
    study : Study
    table : DataFrame
        From `gather`.
    note : str
        Small print.
    """
    backbones, rows = study.tuned_backbones, ("preference", "minus pretrained", "similarity of\ntwo words")
    fig = Figure(figsize=(7.2, 6.0), layout="constrained")
    axes = fig.subplots(len(rows), len(backbones), squeeze=False, sharey="row", sharex="col")
    for column, backbone in zip(axes.T, backbones, strict=True):
        of_backbone, conditions = table[table["backbone"] == backbone], _conditions(study, backbone)
        once = with_change(of_backbone[of_backbone["pair_type"] == PAIR_TYPES[0]])
        plots.layer_curves(column[0], once, "preference", conditions)
        plots.layer_curves(column[1], once, "change", conditions)
        for condition in [c for c in ("pretrained", "brain-tuned") if c in conditions]:
            similarity_curves(column[2], of_backbone[of_backbone["condition"] == condition], condition)
        for ax in column:
            ax.axhline(0, color="black", lw=0.5)
            ax.set_xlabel("layer" if ax is column[2] else "")
        column[0].set_title(backbone)
    for ax, label in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(label)
    lines = [Line2D([], [], ls=style, color="black", lw=1, label=name) for name, style in PAIR_STYLES.items()]
    shown = [condition for condition in study.conditions if condition not in study.variants]
    plots.condition_legend(fig, shown, lines, loc="outside upper center")
    plots.small_print_below(fig, note)
    return fig


def with_change(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `change`: preference minus that of the same backbone and layer pretrained."""
    before = table[table["condition"] == "pretrained"].groupby(["backbone", "layer"])["preference"].first()
    keys = pd.MultiIndex.from_frame(table[["backbone", "layer"]])
    return table.assign(change=table["preference"].to_numpy() - before.reindex(keys).to_numpy())


def similarity_curves(ax: Axes, table: pd.DataFrame, condition: str) -> Axes:
    """Draw the similarity of each type of pairs over layers in the condition's colour, the mean over its models."""
    colour = plots.colours_of([condition])[condition]
    for pair_type, style in PAIR_STYLES.items():
        mean = table[table["pair_type"] == pair_type].groupby("layer")["similarity"].mean()
        ax.plot(mean.index, mean, style, color=colour, lw=1.2)
    return ax
