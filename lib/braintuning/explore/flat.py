"""The flat map for the browser and for films: its picture, and the outlines and names of regions."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from PIL import Image

from braintuning.cortex.colours import GROUP_COLOURS, vertex_colours
from braintuning.cortex.flatmap import NAME_POINTS, PAGE_INCHES, region_colours
from braintuning.cortex.outlines import outlines, place_names
from braintuning.cortex.raster import view_image
from braintuning.cortex.regions import DEFAULT_GROUPS, GROUPS
from braintuning.cortex.surface import Surface

PLAIN = "#ffffff"


def picture(
    surface: Surface, values: np.ndarray, scale: ScalarMappable, opacity: np.ndarray | None = None
) -> Image.Image:
    """The flat map of values, (n_vertices,), 1500 pixels wide; `opacity` as `alpha` of `vertex_colours`."""
    painted = view_image(surface).paint(vertex_colours(surface, values, scale, opacity))[::-1, :, :3]
    return Image.fromarray(np.ascontiguousarray(painted))


def jpeg(image: Image.Image) -> bytes:
    """A picture as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()


def svg_path(lines: Sequence[np.ndarray]) -> str:
    """Closed curves, each (points, 2) in mm with y upwards, as the path of an SVG, whose y goes down."""
    return "".join("M" + "L".join(f"{x:.1f},{-y:.1f}" for x, y in line) + "Z" for line in lines)


def drawn_outlines(surface: Surface, labels: np.ndarray) -> dict:
    """Outlines and names of regions on the flat map as `brain.js` draws them: those of groups, or all that are own."""
    image, hcp = view_image(surface), set(GROUPS["late_language"]) <= set(labels.tolist())
    regions = (
        region_colours(labels, DEFAULT_GROUPS) if hcp else dict.fromkeys(sorted(set(labels.tolist()) - {""}), PLAIN)
    )
    drawn = outlines(surface, labels, tuple(regions))
    half, points_per_mm = (image.x[1] - image.x[0]) / 2, PAGE_INCHES * 72 / np.ptp(image.x)
    box = (image.x[0] - half, image.x[-1] + half, image.y[0] - half, image.y[-1] + half)
    names, points = place_names(surface, drawn, points_per_mm, NAME_POINTS, box) if hcp else ([], NAME_POINTS)
    return {
        "box": [box[0], -box[3], box[1] - box[0], box[3] - box[2]],
        "text": points / points_per_mm,
        "regions": [
            {"name": one.region, "title": f"{one.region} ({one.hemisphere})", "colour": regions[one.region]}
            | {"d": svg_path(one.lines)}
            for one in reversed(drawn)
        ],
        "names": [
            {"text": one.text, "x": one.x, "y": -one.y, "anchor": one.anchor and [one.anchor[0], -one.anchor[1]]}
            for one in names
        ],
    }


def marked(surface: Surface, vertices: np.ndarray) -> str:
    """The outline of some vertices, (n_vertices,) bool, as a path of SVG: a circle of 3 mm around a single one."""
    here = np.flatnonzero(vertices)
    if len(here) == 1:
        x, y = surface.flat_coordinates[here[0]]
        return f"M{x - 3:.1f},{-y:.1f}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0Z"
    found = outlines(surface, np.where(vertices, "chosen", ""), ("chosen",))
    return "".join(svg_path(one.lines) for one in found)


def lines_in_pixels(surface: Surface, labels: np.ndarray) -> list[tuple[str, list[tuple[float, float]]]]:
    """Colour and points of the outlines of groups in the pixels of the map, whose first row is the highest."""
    image, found = view_image(surface), []
    pixel = image.x[1] - image.x[0]
    for group in reversed([g for g in DEFAULT_GROUPS if np.isin(labels, GROUPS[g]).any()]):
        for line in [line for one in outlines(surface, labels, (group,)) for line in one.lines]:
            columns, rows = (line[:, 0] - image.x[0]) / pixel, len(image.y) - 1 - (line[:, 1] - image.y[0]) / pixel
            found.append((GROUP_COLOURS[group], list(zip(columns.tolist(), rows.tolist(), strict=True))))
    return found
