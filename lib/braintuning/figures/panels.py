"""Figures A2 to A5: layers, participants, the text-model control, and a base model beside a large one."""

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from braintuning.figures import style as plots
from braintuning.figures.tables import REGIONS, at_layer
from braintuning.study import Study

YLABEL = "alignment (r / ceiling)"
TEXT_CONDITIONS = ("pretrained", "brain-tuned", "lm-tuned")
SIZE_CONDITIONS = ("pretrained", "brain-tuned")


def _panels(n_rows: int, n_columns: int, height: float = 1.9) -> tuple[Figure, list]:
    fig = Figure(figsize=(7.2, 0.45 + height * n_rows), layout="constrained")
    axes = fig.subplots(n_rows, n_columns, squeeze=False)
    return fig, axes


def _shown(study: Study) -> tuple[str, ...]:
    """Conditions under their own name; a study's variants have a figure of their own (B3)."""
    return tuple(condition for condition in study.conditions if condition not in study.variants)


def _with_legend(fig: Figure, conditions: Sequence[str], note: str, lines: bool = False) -> Figure:
    plots.condition_legend(fig, conditions, lines, loc="outside upper center")
    plots.small_print_below(fig, note)
    return fig


def layers(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Figure A3: alignment of every layer, a panel for each backbone and region; `table` from `figure2.gather`."""

    def draw(ax: Axes, chosen: pd.DataFrame, conditions: Sequence[str]) -> None:
        plots.layer_curves(ax, chosen, "alignment", conditions)

    return _grid(study, table, note, draw, lines=True)


def participants(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Figure A4: alignment of each participant at the figure's layer, a panel for each backbone and region."""

    def draw(ax: Axes, chosen: pd.DataFrame, conditions: Sequence[str]) -> None:
        plots.participant_bars(ax, chosen, "alignment", study.participants, conditions)

    return _grid(study, at_layer(table, study.figures.layer), note, draw)


def _grid(study: Study, table: pd.DataFrame, note: str, draw: Callable[..., None], lines: bool = False) -> Figure:
    """A row a region and a column a backbone, each filled by `draw(axes, rows of the table, conditions)`."""
    fig, axes = _panels(len(REGIONS), len(study.tuned_backbones))
    for row, roi in zip(axes, REGIONS, strict=True):
        for ax, backbone in zip(row, study.tuned_backbones, strict=True):
            conditions = [c for c in _shown(study) if c in study.conditions_of(backbone)]
            draw(ax, table[(table["backbone"] == backbone) & (table["roi"] == roi)], conditions)
            ax.set_title(backbone if roi == REGIONS[0] else "")
        plots.share_y_where_it_fits(row)
        row[0].set_ylabel(f"{plots.ROI_TITLES[roi]}\n{YLABEL}")
    return _with_legend(fig, _shown(study), note, lines)


def language_models(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Figure A5: the control that was tuned to a text model, beside pretrained and brain-tuned."""
    conditions = [c for c in TEXT_CONDITIONS if c in study.conditions]
    backbones = [b for b in study.backbones if set(conditions) <= set(study.conditions_of(b))]
    fig, axes = _panels(1, len(REGIONS), 2.2)
    chosen = at_layer(table, study.figures.layer)
    for ax, roi in zip(axes[0], REGIONS, strict=True):
        plots.condition_bars(ax, chosen[chosen["roi"] == roi], "alignment", backbones, conditions)
        ax.set_title(f"{plots.ROI_TITLES[roi]} (text: {', '.join(study.controls.text_models)})", fontsize=7)
    axes[0][0].set_ylabel(YLABEL)
    return _with_legend(fig, conditions, note)


def base_and_large(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Figure A2: a base model, pretrained and brain-tuned, beside a larger pretrained one."""
    base, large = study.figures.base_and_large
    conditions = [c for c in SIZE_CONDITIONS if c in study.conditions]
    fig, axes = _panels(1, len(REGIONS), 2.2)
    chosen = at_layer(table, study.figures.layer)
    for ax, roi in zip(axes[0], REGIONS, strict=True):
        plots.condition_bars(ax, chosen[chosen["roi"] == roi], "alignment", (base, large), conditions)
        ax.set_title(plots.ROI_TITLES[roi])
    axes[0][0].set_ylabel(YLABEL)
    return _with_legend(fig, conditions, note)
