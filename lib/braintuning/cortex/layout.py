"""Where the parts of a cortex figure stand on its page, in inches."""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from braintuning.cortex.page import LABEL_POINTS, NOTE_LINE, NOTE_POINTS, TITLE_POINTS, n_lines, wrap
from braintuning.cortex.raster import CAMERA_X

INSET_WIDTH, INSET_HEIGHT, SMALLEST_INSET = 0.2, 0.2, 0.95
VIEW_HEIGHT = 0.185
BAR, SQUARE, TICKS, LABEL_LINE, LEGEND_LINE = 0.07, 0.4, 0.17, 0.115, 0.135
SIDE_LABEL, LEGEND_WIDTH = 0.3, 1.25
EDGE, AIR = 0.03, 0.09

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Page:
    """A page and the boxes on it.

    Attributes
    ----------
    width, height : float
        Of the page, in inches.
    title, label, note : str
        Texts broken into lines that fit.
    boxes : dict
        Left, bottom, width and height in inches of 'flat', 'key', 'legend', each view such as ('left', 'medial'), and
        'left' and 'right' for the insets if there are any.
    """

    width: float
    height: float
    title: str
    label: str
    note: str
    boxes: dict[str | tuple[str, str], Box]

    def figure(self) -> tuple[Figure, dict[str | tuple[str, str], Axes]]:
        """A figure with the title and the note, and its empty axes."""
        fig = Figure(figsize=(self.width, self.height))
        page = (self.width, self.height, self.width, self.height)
        axes = {
            name: fig.add_axes(tuple(inches / whole for inches, whole in zip(box, page, strict=True)))
            for name, box in self.boxes.items()
        }
        top, bottom = 1 - 0.04 / self.height, EDGE / self.height
        if self.title:
            fig.text(0.5, top, self.title, ha="center", va="top", fontsize=TITLE_POINTS, weight="bold")
        if self.note:
            fig.text(0.5, bottom, self.note, ha="center", va="bottom", fontsize=NOTE_POINTS, color="0.35")
        return fig, axes


def arrange(
    width: float,
    map_aspect: float,
    *,
    title: str | None,
    label: str,
    note: str | None,
    n_groups: int,
    two_dimensional: bool,
    insets: bool,
) -> Page:
    """Arrange title, flat map, four views, colour key, legend, insets and note below each other.

    Parameters
    ----------
    width : float
        Of the page, in inches.
    map_aspect : float
        Height over width of the flat map.
    title, label, note : str
        Texts above the page, at the colour key and below the page.
    n_groups : int
        Lines of the legend.
    two_dimensional : bool
        Whether the colour key is a square and not a bar.
    insets : bool
        Whether there are insets; the key then stands above the legend between them, else beside it.

    Returns
    -------
    Page
    """
    inset_width, inset_height = (
        max(share * width, SMALLEST_INSET) if insets else 0.0 for share in (INSET_WIDTH, INSET_HEIGHT)
    )
    column = width - 2 * (inset_width + EDGE + AIR) if insets else 0.46 * width
    title, label, note = (
        wrap(text, inches, points)
        for text, inches, points in (
            (title, 0.96 * width, TITLE_POINTS),
            (label, column, LABEL_POINTS),
            (note, 0.96 * width, NOTE_POINTS),
        )
    )
    key = (SQUARE if two_dimensional else BAR), TICKS + LABEL_LINE * max(1, n_lines(label))
    legend = LEGEND_LINE * n_groups
    strip = max(inset_height, sum(key) + legend + AIR) if insets else max(sum(key), legend)
    floor = EDGE + (NOTE_LINE * n_lines(note) + 0.02 + EDGE if note else 0)
    views_bottom = floor + strip + AIR
    map_bottom = views_bottom + VIEW_HEIGHT * width
    boxes: dict[str | tuple[str, str], Box] = {"flat": (0.0, map_bottom, width, width * map_aspect)}
    for k, view in enumerate(CAMERA_X):
        boxes[view] = (k * width / 4, views_bottom, width / 4, VIEW_HEIGHT * width)
    key_width = min(0.8 * column - (SIDE_LABEL if two_dimensional else 0), 2.2)
    key_left = (column - key_width + (SIDE_LABEL if two_dimensional else 0)) / 2
    if insets:
        left, slack = (width - column) / 2, (strip - sum(key) - legend - AIR) / 2
        boxes["key"] = (left + key_left, floor + strip - slack - key[0], key_width, key[0])
        boxes["legend"] = (max(left, (width - LEGEND_WIDTH) / 2), floor + slack, min(column, LEGEND_WIDTH), legend)
        inset_bottom = floor + strip - inset_height
        boxes["left"] = (EDGE, inset_bottom, inset_width, inset_height)
        boxes["right"] = (width - EDGE - inset_width, inset_bottom, inset_width, inset_height)
    else:
        boxes["key"] = (0.05 * width + key_left, floor + strip - key[0], key_width, key[0])
        boxes["legend"] = (0.58 * width, floor, 0.4 * width, strip)
    height = map_bottom + width * map_aspect + (0.13 * n_lines(title) + 0.07 if title else 0)
    return Page(width, height, title, label, note, boxes)
