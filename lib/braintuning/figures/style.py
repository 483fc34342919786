"""Style of all figures; bars, curves and legends."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.style
import numpy as np
import pandas as pd
from IPython import get_ipython
from IPython.core.pylabtools import select_figure_formats
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from braintuning.cortex.page import NOTE_POINTS, wrap
from braintuning.cortex.regions import JOINED


class Look(NamedTuple):
    """Colour of a condition, and what tells it apart in grey: hatch of its bars, marker of its line.

    Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart.
    """

    colour: str
    hatch: str
    marker: str


CONDITION_LOOKS = {
    "pretrained": Look("#b0b0b0", "", "o"),
    "brain-tuned": Look("#d55e00", "", "s"),
    "random-brain-tuned": Look("#56b4e9", "/////", "^"),
    "brain-misaligned": Look("#661100", "++++", "h"),
    "bigslm-tuned": Look("#009e73", "xxxxx", "D"),
    "lm-tuned": Look("#cc79a7", "\\\\\\\\\\", "v"),
    "stimulus-tuned": Look("#f0e442", ".....", "P"),
    "multi-brain-tuned": Look("#0072b2", "-----", "X"),
    "multi-random-brain-tuned": Look("#44aa99", "|/|/|", "8"),
}
VARIANT_LOOKS = (
    Look("#7f4a1e", "", "p"),
    Look("#3b528b", "|||||", "h"),
    Look("#5dc863", "+++++", "<"),
    Look("#b5367a", "ooo", ">"),
    Look("#999933", "OO", "*"),
    Look("#332288", "**", "d"),
)
BASELINE_LINE: dict[str, object] = {"color": "black", "lw": 1.2, "linestyle": (0, (2.5, 1))}
BASELINE_GID = "baseline"
BRAIN_TUNED = "brain-tuned"
POINTS = "Bars: means; points: participants, joined"
LINES = "Thick lines: means; thin: participants"
MOST_COLUMNS, BESIDE = 4, 0.04
REGIONS = ("late_language", "primary_auditory")
ROI_TITLES = {
    "late_language": "Late language regions",
    "primary_auditory": "Primary auditory cortex",
    "early_auditory": "Early auditory regions",
    f"primary_auditory{JOINED}early_auditory": "Primary and early auditory cortex",
    "angular_gyrus": "Angular gyrus",
    "lateral_temporal": "Lateral temporal",
    "inferior_middle_frontal": "Inferior and middle frontal",
}
REGIONS_OF_ALICE = (
    "L, R: left, right; ATL, PTL: anterior, posterior temporal lobe; IPL: inferior parietal lobule; PreM: premotor "
    "cortex; IFG: inferior frontal gyrus"
)
STYLE = Path(__file__).with_name("braintuning.mplstyle")


def use_style() -> None:
    """Draw every following figure in this style; in a notebook, show figures as pictures, twice as fine as on paper.

    IPython shows a `Figure` as its name until pyplot has drawn one, and no figure here is drawn by pyplot.
    """
    matplotlib.style.use(STYLE)
    if shell := get_ipython():
        select_figure_formats(shell, "retina")


def title_of(region: str) -> str:
    """Title of a region, of a group of regions, or of groups of the same regions (`regions.distinct`)."""
    titles = (ROI_TITLES.get(name, name[:1].upper() + name[1:]) for name in region.split(JOINED))
    return ROI_TITLES.get(region, ", ".join(titles))


def looks_of(conditions: Sequence[str]) -> dict[str, Look]:
    """Look of each condition: its own, or for variants one of `VARIANT_LOOKS` after the other."""
    others = iter(VARIANT_LOOKS * len(conditions))
    return {condition: CONDITION_LOOKS.get(condition) or next(others) for condition in conditions}


def condition_bars(
    ax: Axes,
    table: pd.DataFrame,
    value: str,
    backbones: Sequence[str],
    conditions: Sequence[str],
    ylabel: str = "",
    stars: Collection[tuple[str, str]] = (),
    baseline: str | None = None,
    untuned: str | None = None,
) -> Axes:
    """Draw the mean over participants of the column `value` in each condition, and every participant as a point.

    A line joins a participant's points on neighbouring bars; a model of no participant ('') has a point alone. 'n/a'
    stands where nobody has a value, on an axis without numbers where no bar has.

    Parameters
    ----------
    table : DataFrame
        participant, backbone, condition and `value`, one row for each triple.
    backbones, conditions : sequence of str
        Order of the groups, and of the bars in a group; a condition that a backbone does not have is left out.
    stars : collection of (backbone, condition)
        Bars with a star.
    baseline : str, optional
        Column whose mean over participants is a line across each bar; the line goes on where neighbours have the same.
    untuned : str, optional
        Column that says which models are as they were pretrained: a bar of none but these has '=' in place of a star.
    """
    looks, where, middles = looks_of(conditions), bar_places(table, backbones, conditions), []
    for backbone in backbones:
        own = table[table["backbone"] == backbone]
        wide, same = own.pivot(index="participant", columns="condition", values=value), []
        if untuned:
            same = [condition for condition, rows in own.groupby("condition") if rows[untuned].all()]
        present = [condition for condition in conditions if condition in wide]
        wide, places = wide[present], np.array([where[backbone, condition] for condition in present])
        for place, condition in zip(places, present, strict=True):
            _bar(ax, place, wide[condition].mean(), 0.82, looks[condition])
        owned = wide[wide.index != ""]
        ax.plot(places, owned.T, "-", color="black", lw=0.4, alpha=0.5, zorder=2)
        ax.plot(places, wide.T, "o", ms=2.4, mfc="white", mec="black", mew=0.6, zorder=3)
        for place, condition in zip(places, present, strict=True):
            if mark := "=" if condition in same else "*" if (backbone, condition) in stars else "":
                ax.text(place, wide[condition].max(), mark, ha="center", va="bottom", fontsize=10)
        if baseline:
            levels = own.groupby("condition")[baseline].mean()
            _baseline(ax, places, levels.reindex(present), 1.0)
        middles.append(places.mean())
    if not ax.patches:
        ax.set(xlim=(-0.6, max(where.values()) + 0.6), ylim=(0, 1), yticks=())
    ax.axhline(0, color="black", lw=0.7)
    ax.set_xticks(middles, backbones)
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel(ylabel)
    return ax


def bar_places(table: pd.DataFrame, backbones: Sequence[str], conditions: Sequence[str]) -> dict[tuple[str, str], int]:
    """Where `condition_bars` has the bar of each backbone and condition."""
    there = set(table[["backbone", "condition"]].itertuples(index=False, name=None))
    places, place = {}, 0
    for backbone in backbones:
        for model in [(backbone, condition) for condition in conditions if (backbone, condition) in there]:
            places[model] = place
            place += 1
        place += 1
    return places


def letter(axes: Sequence[Axes]) -> None:
    """Write a, b, ... above the left end of axes."""
    for name, ax in zip("abcdefghijklmnop", axes, strict=False):
        ax.set_title(name, loc="left", fontweight="bold")


def _bar(ax: Axes, place: float, height: float, width: float, look: Look) -> None:
    if np.isfinite(height):
        ax.bar(place, height, width, color=look.colour, hatch=look.hatch, edgecolor="black", lw=0.3, zorder=1)
    else:
        style = dict(rotation=90, ha="center", va="bottom", fontsize=NOTE_POINTS, color="0.35")
        ax.annotate("n/a", (place, 0), (0, 2), textcoords="offset points", **style)


def _baseline(ax: Axes, places: np.ndarray, levels: Sequence[float], width: float) -> None:
    half = width / 2
    casing = [withStroke(linewidth=2.4, foreground="white")]
    look = BASELINE_LINE | {"zorder": 4, "gid": BASELINE_GID, "path_effects": casing}
    ax.hlines(levels, places - half, places + half, **look)


def condition_legend(
    fig: Figure,
    conditions: Sequence[str],
    lines: bool = False,
    baseline: str = "",
    more: Sequence[Artist] = (),
    **place: object,
) -> Legend:
    """Legend of bars, or of `lines`, that reads row by row.

    `baseline` says what the line across the bars is, where there is one, `more` are further handles with labels, and
    `place` goes to `Figure.legend`.
    """
    looks = looks_of(conditions)
    if lines:
        handles = [Line2D([], [], label=c, **marked_line(k)) for c, k in looks.items()]
    else:
        bar = dict(edgecolor="black", linewidth=0.3)
        handles = [Patch(facecolor=k.colour, hatch=k.hatch, label=c, **bar) for c, k in looks.items()]
    handles += [Line2D([], [], label=baseline, **BASELINE_LINE)] if baseline else []
    handles += more
    n_columns = -(-len(handles) // legend_rows(len(handles)))
    style = dict(ncols=n_columns, handlelength=2.0, handleheight=1.0, columnspacing=1.4)
    return fig.legend(handles=list(row_by_row(handles, n_columns)), **style, **place)


def legend_rows(n_handles: int) -> int:
    """Rows of a legend of conditions."""
    return -(-n_handles // MOST_COLUMNS)


def row_by_row(handles: Sequence[Artist], n_columns: int) -> Iterator[Artist]:
    """Handles in the order in which a legend, which fills column by column, reads row by row."""
    for column in range(n_columns):
        yield from handles[column::n_columns]


def marked_line(look: Look) -> dict[str, object]:
    """Options of a condition's line with its marker."""
    return dict(color=look.colour, marker=look.marker, ms=3.6, mec="white", mew=0.4, lw=1.4)


def layer_curves(
    ax: Axes,
    table: pd.DataFrame,
    value: str,
    conditions: Sequence[str],
    ylabel: str = "",
    interval: tuple[str, str] | None = None,
    baseline: str | None = None,
) -> Axes:
    """Draw the mean over participants of each condition over layers, brain-tuned in front; participants are thin lines.

    `table` has the columns participant, condition, layer and `value`; `interval` names those with the ends of each
    value's interval, whose means over participants an upright line joins, and `baseline` one, the same in all
    conditions and layers, whose mean over participants is a level line.
    """
    there = set(table["condition"])
    looks = {condition: look for condition, look in looks_of(conditions).items() if condition in there}
    for k, (condition, look) in enumerate(looks.items()):
        rows, front = table[table["condition"] == condition], 1 if condition == BRAIN_TUNED else 0
        wide = rows.pivot(index="layer", columns="participant", values=value)
        places = wide.index + BESIDE * (k - (len(looks) - 1) / 2)
        thin = min(0.6, 1.2 / len(looks))
        ax.plot(places, wide, color=look.colour, lw=0.5, alpha=thin, zorder=2 + front)
        if interval:
            ends = rows.groupby("layer")[list(interval)].mean().reindex(wide.index)
            ax.vlines(places, ends[interval[0]], ends[interval[1]], color=look.colour, lw=0.8, zorder=2 + front)
        ax.plot(places, wide.mean(axis=1), label=condition, zorder=4 + front, **marked_line(look))
    layers = sorted(table["layer"].unique())
    if baseline:
        middle, width = np.array([(layers[0] + layers[-1]) / 2]), layers[-1] - layers[0] + 0.5
        _baseline(ax, middle, [table.groupby("participant")[baseline].mean().mean()], width)
    ax.set_xticks(layers)
    ax.set_xlabel("layer")
    ax.set_ylabel(ylabel)
    return ax


def small_print_below(fig: Figure, note: str) -> None:
    """Write small print under a figure, wrapped to its width in lines of about equal length."""
    fig.supxlabel(wrap(note, 0.96 * fig.get_figwidth(), NOTE_POINTS), fontsize=NOTE_POINTS, color="0.35")


def legend_and_small_print(
    fig: Figure, conditions: Sequence[str], note: str, lines: bool = False, baseline: str = ""
) -> Figure:
    """Put the legend of the conditions, and of a `baseline`, above a figure and small print below it."""
    condition_legend(fig, conditions, lines, baseline, loc="outside upper center")
    small_print_below(fig, note)
    return fig


def share_y_where_it_fits(row: Sequence[Axes]) -> None:
    """Give axes one vertical range, unless one of them would use less than a third of it."""
    ends = np.array([ax.get_ylim() for ax in row])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    if np.diff(ends).min() >= (high - low) / 3:
        for ax in row:
            ax.set_ylim(low, high)
