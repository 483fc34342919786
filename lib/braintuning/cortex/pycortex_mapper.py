"""Which voxels lie under which vertices, by pycortex, kept from writing into the user's folders."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import nibabel
import numpy as np
from scipy.sparse import csr_matrix, vstack

from braintuning.errors import InputError
from braintuning.results import require_file


def voxel_shares(subject: Path, transform: str, store: Path) -> csr_matrix:
    """Share of each voxel of `mask_thick` in each vertex.

    Pycortex's `line_nearest`: 64 points from white matter to pia under each vertex, each taking the voxel that it lies
    in. So a vertex averages its whole depth of grey matter, no voxel outside it is blended in as with interpolation,
    and a voxel's weight is the length of cortex in it, which is what its region is decided by.

    Returns
    -------
    csr_matrix of float64, (n_vertices, n_voxels)
        Voxels in C order of the (z, y, x) mask. Rows sum to 1, or less where the line leaves the mask.

    Raises
    ------
    InputError
        If the mask has another shape than the transform's reference, or no voxel.
    """
    mask_file = subject / "transforms" / transform / "mask_thick.nii.gz"
    try:
        mask = np.asarray(nibabel.load(require_file(mask_file)).dataobj).T != 0
    except (OSError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{mask_file}: found {type(error).__name__}, expected a NIfTI mask") from None
    with _linked_subject(subject, store) as (cortex, name), redirect_stdout(StringIO()):
        try:
            mapper = cortex.get_mapper(name, transform, "line_nearest")
        except (OSError, ValueError, KeyError) as error:
            where = mask_file.parent / "matrices.xfm"
            raise InputError(f"{where}: pycortex cannot map with it ({error}), expected its transform") from None
    shape = tuple(int(n) for n in mapper.shape)
    if mask.shape != shape or not mask.any():
        raise InputError(
            f"{mask_file}: found {int(mask.sum())} voxels in shape {mask.shape}, expected some in {shape} (z, y, x)"
        )
    return csr_matrix(vstack(mapper.masks).tocsc()[:, np.flatnonzero(mask.ravel())])


@contextmanager
def _linked_subject(subject: Path, store: Path) -> Iterator[tuple[ModuleType, str]]:
    """Show pycortex a subject in a folder of our own, as it writes into the folder of every subject it is asked for."""
    cortex = import_pycortex(store)
    before, config = cortex.db.filestore, cortex.options.config
    cached = config.get("basic", "cache", fallback=None)
    with TemporaryDirectory(dir=store) as folder:
        name = f"{subject.name}-{Path(folder).name}"
        (Path(folder) / name).mkdir()
        for part in ("surfaces", "transforms"):
            (Path(folder) / name / part).symlink_to((subject / part).resolve(), target_is_directory=True)
        try:
            config.remove_option("basic", "cache")
            cortex.db.filestore = folder
            cortex.db.reload_subjects()
            yield cortex, name
        finally:
            cortex.db.filestore = before
            if cached is not None:
                config.set("basic", "cache", cached)
            if Path(before).is_dir():
                cortex.db.reload_subjects()


def import_pycortex(store: Path) -> ModuleType:
    """Import pycortex with its options under `store`, as it writes them where the environment says when imported.

    Raises
    ------
    InputError
        If pycortex is not installed.
    """
    options = Path(store).resolve() / "options"
    options.mkdir(parents=True, exist_ok=True)
    import matplotlib.pyplot  # noqa: F401 (it keeps its own folders where the user has them)

    variables = ("HOME",) if sys.platform == "darwin" else ("XDG_CONFIG_HOME", "XDG_DATA_HOME")
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(dict.fromkeys(variables, str(options)))
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            import cortex
    except ImportError as error:
        raise InputError(
            f"package pycortex: not to be imported ({error}), expected it; `pip install pycortex`"
        ) from None
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return cortex
