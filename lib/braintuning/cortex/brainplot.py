"""Pictures of the cortex: everything that a figure needs, and how it is saved."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from braintuning.cortex.colours import Reliability, group_average, vertex_colours
from braintuning.cortex.figure import cortex_figure
from braintuning.cortex.flatmap import flatmap, inflated
from braintuning.cortex.participants_figure import Panel, participants_figure
from braintuning.results import atomic_path

__all__ = [
    "Panel",
    "Reliability",
    "cortex_figure",
    "flatmap",
    "group_average",
    "inflated",
    "participants_figure",
    "save_figure",
    "vertex_colours",
]
DPI = 300
COARSER_DPI = (225, 170, 130)
LARGEST_PDF = 2_000_000
SAVE_OPTIONS = {
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 1}},
    "pdf": {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}},
}


def save_figure(fig: Figure, path_without_suffix: Path) -> tuple[Path, Path]:
    """Write a figure as PNG and PDF, each whole or not at all, with the same bytes every time.

    Parameters
    ----------
    fig : Figure
        What to write. The PNG has 300 dots an inch, and so have the rasterised parts of the PDF unless it would then
        exceed 2 MB, as with values that differ from vertex to vertex. Text in the PDF stays text (TrueType).
    path_without_suffix : Path
        '.png' and '.pdf' are appended to it; its folder is made.

    Returns
    -------
    tuple of Path
        The PNG and the PDF.
    """
    base = Path(path_without_suffix)
    paths = []
    with rc_context({"pdf.fonttype": 42}):
        for suffix, options in SAVE_OPTIONS.items():
            paths.append(base.with_name(f"{base.name}.{suffix}"))
            with atomic_path(paths[-1]) as temporary:
                for dpi in (DPI, *COARSER_DPI):
                    fig.savefig(temporary, format=suffix, dpi=dpi, **options)
                    if suffix == "png" or temporary.stat().st_size < LARGEST_PDF:
                        break
    return tuple(paths)
