"""Maps on the cortex to turn, inflate and unfold in the browser: one page by itself, which asks for nothing else."""

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb

from braintuning.cortex.colours import DIFFERENCE, SEQUENTIAL, neighbours, per_vertex, smoothed, vertex_colours
from braintuning.cortex.flatmap import region_colours
from braintuning.cortex.regions import DEFAULT_GROUPS, hcp_mmp_labels
from braintuning.cortex.surface import HEMISPHERES, Surface, fs_lr, hcp_mesh
from braintuning.errors import InputError
from braintuning.results import atomic_path

PAGE = Path(__file__).with_name("viewer.html")
FOLDED = "midthickness_MSMAll"
GAP = 6.0
"""Between the inflated hemispheres, in mm."""
OUTLINE_MM = 1.2
CHANNELS = 8
"""Masks that a vertex has: two regions share one where none of their vertices is near the other."""

MapKey = tuple[str, str, int]
"""Participant, condition and layer of a map."""


def write_viewer(
    folder: Path,
    maps: Mapping[MapKey, np.ndarray],
    *,
    title: str,
    unit: str,
    note: str = "",
    opacity: Mapping[str, np.ndarray] | None = None,
    first: MapKey | None = None,
) -> Path:
    """Write a page with maps on fs_LR-32k, a menu for participant, condition and layer each; `folder/index.html`.

    Outlines and names are those of the auditory and late language regions. The page needs WebGL 2 and no server: it
    may be opened as a file, sent and kept.

    Parameters
    ----------
    maps
        Values of each participant, condition and layer, (64984,); NaN shows the folds.
    title, unit, note
        What study it is, what the values are, and small print.
    opacity
        Of each participant, (64984,), the share of a value's colour over the folds, 0 to 1; by default 1.
    first
        What is shown at first, by default the first map.

    Raises
    ------
    InputError
        No map, one of another length, or all are NaN.
    """
    surface, arrays = fs_lr(), {}
    if not maps:
        raise InputError(f"viewer {folder}: found no map, expected at least one of {surface.n_vertices} vertices")
    checked = {key: per_vertex(surface, values, f"map {' '.join(map(str, key))}") for key, values in maps.items()}
    known = np.concatenate([values[np.isfinite(values)] for values in checked.values()])
    if not known.size:
        raise InputError(f"viewer {folder}: all values of its maps are NaN, expected at least one number")
    low, high = min(0.0, float(known.min())), max(float(np.percentile(known, 99.5)), float(known.min()) + 1e-6)
    for number, values in enumerate(checked.values()):
        steps = np.rint((np.clip(np.nan_to_num(values), low, high) - low) / (high - low) * 254) + 1
        arrays[f"map{number}"] = np.where(np.isfinite(values), steps, 0).astype(np.uint8)
    people = list(dict.fromkeys(key[0] for key in checked))
    for number, person in enumerate(people):
        share = np.ones(surface.n_vertices) if opacity is None else per_vertex(surface, opacity[person], "opacity")
        arrays[f"opacity{number}"] = np.rint(255 * np.clip(np.nan_to_num(share), 0, 1)).astype(np.uint8)
    menus = zip(
        ("participant", "condition", "layer"), zip(*checked, strict=True), first or next(iter(checked)), strict=True
    )
    facts = {
        "title": title, "unit": unit, "note": note, "n": surface.n_vertices,
        "n_left": surface.vertices_per_hemisphere[0], "range": [low, high],
        "menus": [{"name": name, "options": list(dict.fromkeys(of)), "first": chosen} for name, of, chosen in menus],
        "minus": "condition", "of_opacity": "participant",
        "maps": {"|".join(map(str, key)): f"map{number}" for number, key in enumerate(checked)},
        "opacity": {person: f"opacity{number}" for number, person in enumerate(people)},
        "colours": _table(colormaps[SEQUENTIAL]), "difference": _table(DIFFERENCE),
    }  # fmt: skip
    shapes, facts_of_shapes = _shapes(surface)
    packed, places = _packed({**shapes, **_regions(surface), **arrays})
    names = {"regions": np.unique(hcp_mmp_labels()).tolist(), "names": name_places(surface)}
    facts |= {**facts_of_shapes, **names, "arrays": places}
    filled = {"TITLE": html.escape(title), "FACTS": json.dumps(facts).replace("</", "<\\/"), "ARRAYS": packed}
    text = re.sub("|".join(filled), lambda found: filled[found[0]], PAGE.read_text())
    with atomic_path(Path(folder)) as temporary:
        temporary.mkdir()
        (temporary / "index.html").write_text(text)
    return Path(folder) / "index.html"


def _table(colours: ScalarMappable) -> list[list[int]]:
    return np.rint(255 * colours(np.linspace(0, 1, 256))[:, :3]).astype(int).tolist()


def _packed(arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, tuple[str, int, int]]]:
    """Arrays one after the other, compressed, as text; and type, first byte and length of each."""
    kinds, whole, places = {"float32": "f4", "int32": "i4", "uint8": "u1"}, bytearray(), {}
    for name, array in sorted(arrays.items(), key=lambda item: item[1].dtype == np.uint8):
        places[name] = kinds[array.dtype.name], len(whole), array.size
        whole += np.ascontiguousarray(array).tobytes()
    return base64.b64encode(gzip.compress(bytes(whole), 6, mtime=0)).decode(), places


def _shapes(surface: Surface) -> tuple[dict[str, np.ndarray], dict]:
    """Coordinates of the three shapes, (n, 3) float32 in mm, x to the right, y away and z up; faces; and how large."""
    n_left, folded, inflated = surface.vertices_per_hemisphere[0], [], []
    for hemisphere, side in zip(HEMISPHERES, (-1, 1), strict=True):
        folded.append(hcp_mesh(hemisphere, FOLDED)[0])
        points = surface.inflated[hemisphere][0].copy()
        points[:, 0] += side * GAP / 2 - (points[:, 0].max() if side < 0 else points[:, 0].min())
        inflated.append(points)
    flat = np.zeros((surface.n_vertices, 3))
    flat[:, [0, 2]] = np.nan_to_num(surface.flat_coordinates - np.nanmean(surface.flat_coordinates, axis=0))
    whole = {"folded": np.concatenate(folded), "inflated": np.concatenate(inflated), "flat": flat}
    for name in ("folded", "inflated"):
        whole[name] = whole[name] - (whole[name].min(axis=0) + whole[name].max(axis=0)) / 2
    arrays = {name: np.round(points, 2).astype(np.float32) for name, points in whole.items()}
    faces = np.concatenate([surface.inflated["left"][1], surface.inflated["right"][1] + n_left])
    on_flat = np.isin(np.arange(surface.n_vertices), surface.flat_faces)
    arrays |= {"faces": faces.astype(np.int32), "flat_faces": surface.flat_faces.astype(np.int32)}
    arrays |= {"on_flat": on_flat.astype(np.uint8), "cortex": surface.cortex.astype(np.uint8)}
    across = np.ptp(whole["inflated"], axis=0)
    return arrays, {
        "span": [float(across[:2].max()), float(across[2])],
        "flat_span": np.ptp(flat, axis=0)[[0, 2]].tolist(),
    }


def _regions(surface: Surface) -> dict[str, np.ndarray]:
    """Folds, region of each vertex, and what outlines are drawn from: smooth masks of regions, and their colours.

    An outline is where a mask passes one half.
    """
    labels, colours = hcp_mmp_labels(), region_colours(hcp_mmp_labels(), DEFAULT_GROUPS)
    masks = {r: np.nan_to_num(smoothed(surface, (labels == r).astype(float), OUTLINE_MM)) for r in colours}
    channels = np.zeros((surface.n_vertices, CHANNELS))
    for region, channel in zip(masks, coloured(surface, labels, list(masks)), strict=True):
        channels[:, channel] = np.maximum(channels[:, channel], masks[region])
    ink = sum(mask[:, None] * np.array(to_rgb(colours[region])) for region, mask in masks.items())
    ink = ink / np.maximum(sum(masks.values()), 1e-6)[:, None]
    grey = vertex_colours(surface, np.full(surface.n_vertices, np.nan), ScalarMappable())[:, 0]
    as_bytes = {"masksA": channels[:, :4], "masksB": channels[:, 4:], "ink": ink, "folds": grey}
    found = {name: np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8) for name, values in as_bytes.items()}
    return found | {"region": np.unique(labels, return_inverse=True)[1].astype(np.uint8)}


def coloured(surface: Surface, labels: np.ndarray, regions: Sequence[str]) -> list[int]:
    """A channel from 0 for each region, so that regions within three edges of each other have different ones.

    Greedy; `InputError` where `CHANNELS` are too few.
    """
    average, _ = neighbours(surface)
    inside = np.stack([labels == region for region in regions], axis=1)
    near = inside.astype(float)
    for _ in range(3):
        near = average @ near
    touching = (near.T > 0).astype(int) @ inside.astype(int) > 0
    chosen: list[int] = []
    for k in range(len(regions)):
        free = set(range(CHANNELS)) - {chosen[j] for j in range(k) if touching[k, j] or touching[j, k]}
        if not free:
            raise InputError(f"outlines: region {regions[k]} touches more than {CHANNELS - 1} others, expected fewer")
        chosen.append(min(free))
    return chosen


def name_places(surface: Surface) -> list[tuple[str, int]]:
    """Name of each outlined region and hemisphere, and the vertex in its middle where that stands; large ones first."""
    labels, found = hcp_mmp_labels(), []
    for hemisphere in HEMISPHERES:
        part, points = surface.vertices(hemisphere), surface.inflated[hemisphere][0]
        for region in region_colours(labels, DEFAULT_GROUPS):
            own = np.flatnonzero(labels[part] == region)
            if len(own):
                middle = points[own].mean(axis=0)
                found.append(
                    (len(own), region, int(own[((points[own] - middle) ** 2).sum(axis=1).argmin()] + part.start))
                )
    return [(region, vertex) for _, region, vertex in sorted(found, reverse=True)]
