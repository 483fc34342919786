"""An interactive view of the cortex in the browser: pycortex's WebGL viewer as a folder of static files."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np

from braintuning.cortex.colours import limits, per_vertex
from braintuning.cortex.fs_lr_subject import STORE, fs_lr_in_pycortex
from braintuning.cortex.surface import fs_lr
from braintuning.errors import InputError
from braintuning.results import atomic_path


@dataclass(frozen=True, eq=False)
class Layer:
    """One map of the viewer and how it looks.

    Attributes
    ----------
    values : ndarray, (64984,)
        NaN shows the folds.
    cmap : str, optional
        Colour map; 'inferno', and 'RdBu_r' if `symmetric`, without it.
    vmin, vmax : float, optional
        Values at the ends of the colour map; see `colours.limits` for what they are without.
    threshold : float, optional
        Values whose size is smaller are not shown.
    symmetric : bool
        Centre the colour map on zero.
    """

    values: np.ndarray
    cmap: str | None = None
    vmin: float | None = None
    vmax: float | None = None
    threshold: float | None = None
    symmetric: bool = False


def write_viewer(
    folder: Path, layers: Mapping[str, np.ndarray | Layer], *, title: str = "Brain", store: Path = STORE
) -> Path:
    """Write a viewer of maps on fs_LR-32k: folded, inflated or flat, one map at a time.

    Parameters
    ----------
    folder : Path
        Made whole or not at all; what was there is replaced. A browser shows it only through a web server: see `serve`.
    layers : mapping of str to ndarray or Layer
        The maps by the name that the viewer lists; an array (64984,) is a `Layer` with nothing else given.
    title : str
        Of the page.
    store : Path
        Where pycortex keeps its subjects; the first viewer takes some seconds, as the surface is written there.

    Returns
    -------
    Path
        The page, `folder/index.html`.

    Raises
    ------
    InputError
        If there is no layer, one has another length than the surface (both are named), or is all NaN.
    """
    if not layers:
        raise InputError(f"viewer {folder}: found no layer, expected at least one map of {fs_lr().n_vertices} vertices")
    maps = {name: _shown(name, layer if isinstance(layer, Layer) else Layer(layer)) for name, layer in layers.items()}
    with fs_lr_in_pycortex(store) as (cortex, subject), atomic_path(Path(folder)) as temporary, catch_warnings():
        simplefilter("ignore")
        data = {name: cortex.Vertex(shown, subject, description=name, **look) for name, (shown, look) in maps.items()}
        with redirect_stdout(StringIO()):
            options = dict(types=("inflated",), title=title, labels_visible=())
            cortex.webgl.make_static(str(temporary), cortex.Dataset(**data), **options)
    return Path(folder) / "index.html"


def _shown(name: str, layer: Layer) -> tuple[np.ndarray, dict[str, str | float]]:
    """Values that are not hidden by the threshold, and the colour map with its ends."""
    values = per_vertex(fs_lr(), layer.values, f"layer {name!r}")
    low, high = limits(fs_lr(), values, layer.vmin, layer.vmax, layer.symmetric)
    shown = values if layer.threshold is None else np.where(np.abs(values) >= layer.threshold, values, np.nan)
    return shown, dict(vmin=low, vmax=high, cmap=layer.cmap or ("RdBu_r" if layer.symmetric else "inferno"))


def server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A web server of a folder for this machine alone, not yet running; port 0 takes any free one.

    Raises
    ------
    InputError
        If there is no viewer in the folder, or the port is taken.
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
    with server(folder, port) as running:
        print(f"viewer: http://127.0.0.1:{running.server_port}/  (Ctrl-C ends it)", flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            pass


class _Quiet(SimpleHTTPRequestHandler):
    """A handler that does not write a line for every file."""

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""
