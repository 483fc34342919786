"""Bars, curves and the one style that all figures share. Functions take and return Axes."""

from collections.abc import Collection, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from braintuning.cortex_page import wrap

SMALL_PRINT_POINTS = 5.0

CONDITION_COLOURS = {
    "pretrained": "#8c8c8c",
    "brain-tuned": "#d55e00",
    "random-brain-tuned": "#56b4e9",
    "bigslm-tuned": "#009e73",
    "lm-tuned": "#cc79a7",
    "stimulus-tuned": "#f0e442",
    "multi-brain-tuned": "#0072b2",
}
VARIANT_COLOURS = ("#7f4a1e", "#3b528b", "#5dc863", "#b5367a", "#999933", "#332288")
ROI_TITLES = {
    "late_language": "Late language regions",
    "primary_auditory": "Primary auditory cortex",
    "early_auditory": "Early auditory regions",
    "angular_gyrus": "Angular gyrus",
    "lateral_temporal": "Lateral temporal",
    "inferior_middle_frontal": "Inferior and middle frontal",
}
STYLE: Mapping[str, object] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "pdf.fonttype": 42,
    "svg.hashsalt": "braintuning",
}


def use_style() -> None:
    """Make every following figure look like the paper's figures of this project."""
    mpl.rcParams.update(STYLE)


def colours_of(conditions: Sequence[str]) -> dict[str, str]:
    """Colour of each condition: its own, or for a study's variants one after the other."""
    others = iter(VARIANT_COLOURS * len(conditions))
    return {condition: CONDITION_COLOURS.get(condition) or next(others) for condition in conditions}


def condition_bars(
    ax: Axes,
    table: pd.DataFrame,
    value: str,
    backbones: Sequence[str],
    conditions: Sequence[str],
    ylabel: str = "",
    stars: Collection[tuple[str, str]] = (),
) -> Axes:
    """Draw a group of bars a backbone: the mean of each condition over participants, and every participant as a point.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Columns participant, backbone, condition and `value`, one row for each triple.
    value : str
        Column to draw.
    backbones, conditions : sequence of str
        Order of the groups, and of the bars in a group; one that a backbone does not have is left out there.
    ylabel : str
    stars : collection of (backbone, condition)
        Bars that earned a star.

    Returns
    -------
    ax : Axes
    """
    colours, start, middles = colours_of(conditions), 0, []
    for backbone in backbones:
        wide = table[table["backbone"] == backbone].pivot(index="participant", columns="condition", values=value)
        present = [condition for condition in conditions if condition in wide]
        wide, places = wide[present], start + np.arange(len(present))
        ax.bar(places, wide.mean(), 0.82, color=[colours[c] for c in present], edgecolor="black", lw=0.3, zorder=1)
        ax.plot(places, wide.T, "-", color="black", lw=0.4, alpha=0.5, zorder=2)
        ax.plot(places, wide.T, "o", ms=2.4, mfc="white", mec="black", mew=0.6, zorder=3)
        for place, condition in zip(places, present, strict=True):
            if (backbone, condition) in stars:
                ax.text(place, wide[condition].max(), "*", ha="center", va="bottom", fontsize=10)
        middles.append(places.mean())
        start += len(present) + 1
    ax.axhline(0, color="black", lw=0.7)
    ax.set_xticks(middles, backbones)
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel(ylabel)
    return ax


def condition_legend(fig: Figure, conditions: Sequence[str], others: Sequence[Artist] = (), **place: object) -> None:
    """Name the conditions' colours, and `others` with labels of their own; `place` goes to `Figure.legend`."""
    colours = colours_of(conditions)
    handles = [Patch(facecolor=colours[c], edgecolor="black", linewidth=0.3, label=c) for c in conditions]
    handles += others
    fig.legend(
        handles=handles, ncols=min(len(handles), 5), handlelength=2.4 if others else 1.0, columnspacing=1.2, **place
    )


def participant_bars(
    ax: Axes, table: pd.DataFrame, value: str, participants: Sequence[str], conditions: Sequence[str]
) -> Axes:
    """Draw a group of bars a participant, one for each condition.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Columns participant, condition and `value`.
    value : str
    participants, conditions : sequence of str
        Order of the groups, and of the bars in a group.

    Returns
    -------
    ax : Axes
    """
    wide = table.pivot(index="participant", columns="condition", values=value).reindex(participants)
    starts, width = np.arange(len(participants)), 0.86 / len(conditions)
    for k, (condition, colour) in enumerate(colours_of(conditions).items()):
        places = starts + (k - (len(conditions) - 1) / 2) * width
        ax.bar(places, wide[condition], width, color=colour, edgecolor="black", lw=0.2)
    ax.axhline(0, color="black", lw=0.7)
    ax.set_xticks(starts, participants, rotation=40, ha="right", rotation_mode="anchor")
    return ax


def layer_curves(ax: Axes, table: pd.DataFrame, value: str, conditions: Sequence[str], ylabel: str = "") -> Axes:
    """Draw one line a condition over layers, the mean over participants, with each participant thin behind it.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Columns participant, condition, layer and `value`.
    value : str
        Column to draw.
    conditions : sequence of str
    ylabel : str

    Returns
    -------
    ax : Axes
    """
    for condition, colour in colours_of(conditions).items():
        wide = table[table["condition"] == condition].pivot(index="layer", columns="participant", values=value)
        ax.plot(wide.index, wide, color=colour, lw=0.5, alpha=min(0.6, 1.2 / len(conditions)))
        ax.plot(wide.index, wide.mean(axis=1), "-o", color=colour, lw=1.6, ms=3, label=condition)
    ax.set_xticks(sorted(table["layer"].unique()))
    ax.set_xlabel("layer")
    ax.set_ylabel(ylabel)
    return ax


def region_bars(ax: Axes, table: pd.DataFrame, regions: Sequence[str], colour: str = "#0072b2") -> Axes:
    """Draw a region's bar for the group, a point for each participant, and a tick at the group's noise ceiling.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Columns participant (`group` for the mean over participants), roi, r and noise_ceiling.
    regions : sequence of str
    colour : str

    Returns
    -------
    ax : Axes
    """
    group = table[table["participant"] == "group"].set_index("roi").reindex(list(regions))
    single = table[table["participant"] != "group"]
    positions = np.arange(len(regions))
    ax.bar(positions, group["r"], width=0.68, color=colour, zorder=1, label="group mean response")
    ax.hlines(group["noise_ceiling"], positions - 0.36, positions + 0.36, color="black", lw=1.2, label="noise ceiling")
    for position, region in enumerate(regions):
        r = np.sort(single.loc[single["roi"] == region, "r"].to_numpy())
        spread = position + np.linspace(-0.22, 0.22, len(r))
        label = "single participants" if position == 0 else None
        ax.plot(spread, r, "o", ms=2.6, mfc="white", mec="black", mew=0.6, zorder=3, label=label)
    ax.axhline(0, color="black", lw=0.7)
    ax.set_xticks(positions, regions)
    return ax


def small_print_below(fig: Figure, note: str) -> None:
    """Write small print under a figure, in as many lines as its width asks for."""
    fig.supxlabel(wrap(note, fig.get_figwidth(), SMALL_PRINT_POINTS), fontsize=SMALL_PRINT_POINTS, color="0.35")


def room_above(fig: Figure, inches: float) -> float:
    """Make a figure taller, what is on it staying where it is and as large as it is.

    Returns
    -------
    bottom : float
        Height, as a share of the new figure, at which the free room begins.
    """
    width, height = fig.get_size_inches()
    scale = height / (height + inches)
    for ax in fig.axes:
        box = ax.get_position()
        ax.set_position((box.x0, box.y0 * scale, box.width, box.height * scale))
    for text in fig.texts:
        x, y = text.get_position()
        text.set_position((x, y * scale))
    fig.set_size_inches(width, height + inches)
    return scale
