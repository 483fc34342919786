"""Panels of Figure A, ceilings, model sizes, layers, participants and text models, and of B, joint tuning."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from braintuning.alignment.mask import FALSE_DISCOVERIES
from braintuning.cortex.figure import Panel, participants_figure, save_figure
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError
from braintuning.figures import style, tables
from braintuning.figures.style import REGIONS, ROI_TITLES, legend_and_small_print, use_style
from braintuning.pipeline.pictures import JOINTLY_TUNED, TEXT_CONDITIONS, TRANSFERRED, amounts, left_out
from braintuning.results import load_arrays, provenance_columns, provenance_of, save_table
from braintuning.study import Study

YLABEL = "alignment (r / noise ceiling)"
SIZE_CONDITIONS = ("pretrained", "brain-tuned")
TUNED_JOINTLY, HELD_OUT = "jointly tuned", "held out"
Draw = Callable[[Study, pd.DataFrame, str], Figure]


def make(study: Study, dataset: Dataset, panel: str) -> tuple[pd.DataFrame, Figure]:
    """Gather the numbers of a panel such as `figA3` and draw it; its CSV, PNG and PDF in the study's folder of figures.

    `InputError` where the study has no such panel (`pipeline.pictures.left_out`), or not yet what it shows.
    """
    if why := left_out(study, panel):
        raise InputError(f"study {study.name}: found no panel {panel}, since {why}; expected another panel")
    use_style()
    if panel == "figA1":
        table = gather_ceilings(study, dataset)
        figure = ceilings(study, table, dataset, f"{study.title}; regions: HCP-MMP1.0, Glasser et al. 2016")
    else:
        backbones, conditions, draw = _drawn(study)[panel]
        table = gather_amounts(study) if panel == "figB1" else tables.gather(study, backbones, conditions)
        table = tables.at_layer(table, study.figures.layer) if panel == "figA4" else table
        layer = [] if panel in ("figA3", "figB1") else [tables.layer_name(study).capitalize()]
        figure = draw(study, table, ". ".join([*layer, tables.small_print(study, table, backbones=backbones)]))
    save_table(study.figures_folder / f"{panel}.csv", table)
    save_figure(figure, study.figures_folder / panel)
    return table, figure


def _drawn(study: Study) -> dict[str, tuple[Sequence[str] | None, Sequence[str] | None, Draw]]:
    """Backbones and conditions that a panel shows, all where None, and what draws it."""
    one = [study.figure_backbone]
    return {
        "figA2": (study.figures.base_and_large, SIZE_CONDITIONS, base_and_large),
        "figA3": (None, None, layers),
        "figA4": (None, None, participants),
        "figA5": (None, TEXT_CONDITIONS, language_models),
        "figB1": (one, None, draw_amounts),
        "figB2": (one, TRANSFERRED, transfer),
        "figB3": (one, ablation_conditions(study), ablation),
    }


def gather_ceilings(study: Study, dataset: Dataset) -> pd.DataFrame:
    """Voxels of each participant, those above the threshold, and as many in the authors' files where known.

    Returns
    -------
    DataFrame
        participant, story, repeats, n_voxels, n_above, threshold, n_noise (voxels of pure noise expected among those
        above), n_repeating (voxels found to repeat at a false discovery rate of .05), published, median, highest (of
        voxels with measurable signal power), and provenance.
    """
    rows = []
    for participant in study.participants:
        arrays, made = load_arrays(study.ceiling_file(participant)), provenance_of(study.ceiling_file(participant))
        ceiling, threshold = arrays["ceiling"], study.encoding.ceiling_threshold
        rows.append(
            {
                "participant": participant,
                "story": made["recipe"]["story"],
                "repeats": dataset.n_repeats(participant, made["recipe"]["story"]),
                "n_voxels": len(ceiling),
                "n_above": int((ceiling > threshold).sum()),
                "threshold": threshold,
                "n_noise": round(float(arrays["noise"][round(100 * threshold)]), 1),
                "n_repeating": int((arrays["q"] < FALSE_DISCOVERIES).sum()),
                "published": study.figures.published_counts.get(participant),
                "median": np.nanmedian(ceiling),
                "highest": np.nanmax(ceiling),
                **provenance_columns(study.name, made),
            }
        )
    return pd.DataFrame(rows).astype({"published": "Int64"})


def ceilings(study: Study, table: pd.DataFrame, dataset: Dataset, note: str) -> Figure:
    """Panel A1: noise ceilings of each participant on their own cortex; `table` from `gather_ceilings`."""
    panels = []
    for _, row in table.iterrows():
        cortex, ceiling = dataset.cortex(row["participant"]), tables.noise_ceiling_of(study, row["participant"])
        panels.append(Panel(cortex.surface, cortex.to_vertices(ceiling), cortex.vertex_labels, _caption(row)))
    look = {"vmin": 0.0, "vmax": 1.0, "threshold": study.encoding.ceiling_threshold, "smooth_mm": tables.SMOOTH_MM}
    return participants_figure(panels, label="noise ceiling (r)", note=note, **look)


def _caption(row: pd.Series) -> str:
    published = "" if pd.isna(row["published"]) else f" (authors: {row['published']:,})"
    counts = f"{row['n_above']:,} of {row['n_voxels']:,} above {row['threshold']:g}{published}"
    return f"{row['participant']}: {counts}, {row['n_noise']:,.0f} by chance; {row['n_repeating']:,} at q < .05"


def base_and_large(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Panel A2: a base model, pretrained and brain-tuned, beside a larger pretrained one."""
    conditions = [condition for condition in SIZE_CONDITIONS if condition in study.conditions]
    return _bars(tables.at_layer(table, study.figures.layer), study.figures.base_and_large, conditions, note)


def layers(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Panel A3: alignment of every layer, a panel for each backbone and region; `table` from `tables.gather`."""
    draw = partial(style.layer_curves, value="alignment", baseline=tables.BASELINE)
    return _grid(study, table, note, draw, lines=True)


def participants(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Panel A4: alignment of each participant at one layer, a panel for each backbone and region."""

    def draw(ax: Axes, rows: pd.DataFrame, conditions: Sequence[str]) -> None:
        people, rows = list(dict.fromkeys(rows["participant"])), rows.assign(backbone=rows["participant"])
        style.condition_bars(ax, rows, "alignment", people, conditions, baseline=tables.BASELINE)
        ax.set_xticks(ax.get_xticks(), people, rotation=40, ha="right", rotation_mode="anchor")

    return _grid(study, table, note, draw)


def language_models(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Panel A5: the control that was tuned to a text model, beside pretrained and brain-tuned."""
    conditions = [condition for condition in TEXT_CONDITIONS if condition in study.conditions]
    backbones = [b for b in study.backbones if set(conditions) <= set(study.conditions_of(b))]
    fig = _bars(tables.at_layer(table, study.figures.layer), backbones, conditions, note)
    for ax in fig.axes:
        ax.set_title(f"{ax.get_title()} (text: {', '.join(study.controls.text_models)})", fontsize=7)
    return fig


def gather_amounts(study: Study) -> pd.DataFrame:
    """Alignment of held-out participants with encoding models fitted to the first stories alone.

    Columns of `region_table`, participant, backbone, condition, n_stories, hours, and provenance.
    """
    return tables.read_tables(study.scores_file(*one) for one in amounts(study))


def draw_amounts(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Panel B1: alignment of held-out participants at the best layer of all, against minutes of encoding data."""
    fig = Figure(figsize=(7.2, 2.6), layout="constrained")
    for ax, roi in zip(fig.subplots(1, len(REGIONS)), REGIONS, strict=True):
        chosen = table[(table["roi"] == roi) & (table["backbone"] == study.figure_backbone)]
        best = tables.at_best_layer(chosen, ["condition", "n_stories"])
        best["hours"] = best.groupby("n_stories")["hours"].transform("mean")
        conditions = [condition for condition in study.conditions if condition in set(best["condition"])]
        style.layer_curves(ax, best.assign(layer=(60 * best["hours"]).round(1)), "alignment", conditions)
        top = best[best["condition"] == "pretrained"].groupby("hours")["alignment"].mean().max()
        ax.axhline(top, color="0.5", lw=0.7, ls=":")
        ax.set(xlabel="minutes of stories for the encoding model", title=ROI_TITLES[roi])
    fig.axes[0].set_ylabel(f"{YLABEL},\nbest layer")
    style.letter(fig.axes)
    told = f"{style.LINES}. Dotted: the highest mean of the pretrained model. {note}"
    return legend_and_small_print(fig, conditions, told, lines=True)


def transfer(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Panel B2: joint models on participants whom they were tuned on, and on those whom they never saw."""
    conditions = [condition for condition in TRANSFERRED if condition in study.conditions]
    chosen = tables.at_layer(table, study.figures.layer)
    chosen = chosen[chosen["backbone"] == study.figure_backbone]
    joint = chosen["participant"].isin(study.tuned_together)
    chosen = chosen.assign(backbone=np.where(joint, TUNED_JOINTLY, HELD_OUT))
    fig = _bars(chosen, (TUNED_JOINTLY, HELD_OUT), conditions, note, 2.7)
    for ax in fig.axes:
        ax.set_title(f"{ax.get_title()}, {study.figure_backbone}")
    return fig


def ablation_conditions(study: Study) -> list[str]:
    """Pretrained, and joint tuning under every rank and loss of the study."""
    return ["pretrained", *(condition for condition in study.conditions if study.base(condition) == JOINTLY_TUNED)]


def ablation(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Panel B3: joint tuning with other ranks and losses; every participant a point."""
    chosen, conditions = tables.at_layer(table, study.figures.layer), ablation_conditions(study)
    return _bars(chosen, [study.figure_backbone], conditions, note, 2.9)


def _bars(
    table: pd.DataFrame, backbones: Sequence[str], conditions: Sequence[str], note: str, height: float = 2.65
) -> Figure:
    """Bars of alignment, a panel for each region."""
    fig = Figure(figsize=(7.2, height), layout="constrained")
    for ax, roi in zip(fig.subplots(1, len(REGIONS)), REGIONS, strict=True):
        of_roi = table[table["roi"] == roi]
        style.condition_bars(ax, of_roi, "alignment", backbones, conditions, baseline=tables.BASELINE)
        ax.set_title(ROI_TITLES[roi])
    fig.axes[0].set_ylabel(YLABEL)
    style.letter(fig.axes)
    return legend_and_small_print(fig, conditions, f"{style.POINTS}. {note}", baseline=tables.baseline_label(table))


def _grid(study: Study, table: pd.DataFrame, note: str, draw: Callable[..., None], lines: bool = False) -> Figure:
    """A row of panels a region and a column a backbone, filled by `draw(axes, part of the table, conditions=...)`."""
    fig = Figure(figsize=(7.2, 0.45 + 1.9 * len(REGIONS)), layout="constrained")
    axes = fig.subplots(len(REGIONS), len(study.tuned_backbones), squeeze=False)
    for row, roi in zip(axes, REGIONS, strict=True):
        for ax, backbone in zip(row, study.tuned_backbones, strict=True):
            chosen = table[(table["backbone"] == backbone) & (table["roi"] == roi)]
            draw(ax, chosen, conditions=tables.shown_conditions(study))
            ax.set_title(backbone if roi == REGIONS[0] else "")
        style.share_y_where_it_fits(row)
        row[0].set_ylabel(f"{ROI_TITLES[roi]}\n{YLABEL}")
    style.letter(axes[:, 0])
    note = f"{style.LINES}. {note}" if lines else note
    return legend_and_small_print(fig, tables.shown_conditions(study), note, lines, tables.baseline_label(table))
