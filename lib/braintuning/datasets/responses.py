"""Reader of response files in HDF5, and checks of responses."""

from pathlib import Path

import h5py
import numpy as np

from braintuning.errors import InputError
from braintuning.results import require_file

MOST_INVALID = 0.05
"""Share of a file's voxels that may be invalid; with more, the file itself is taken to be damaged."""


def require_responses(path: Path) -> Path:
    """Path of a response file that is here, and whole if it is HDF5; `InputError` otherwise. No values are read."""
    if h5py.is_hdf5(require_file(path)) or path.suffix in (".hf5", ".h5", ".hdf5"):
        _open(path).close()
    return path


def stored_shape(path: Path, name: str, n_rows: int | None = None, said: str = "") -> tuple[int, ...]:
    """Shape of an array in a response file, (..., rows, voxels); no values are read.

    `InputError` if the file is not here, not whole or no HDF5, if it has no such array of numbers, or if that has
    other than `n_rows` rows, of which it says as well what is `said`.
    """
    with _open(path) as file:
        array = _array(file, name, path)
        if n_rows is not None:
            _require_shape(array, path, n_rows, said=said)
        return array.shape


def read_responses(
    path: Path, name: str, n_rows: int, n_voxels: int, voxels: np.ndarray | None = None, repeat: int | None = None
) -> np.ndarray:
    """Responses, (n_rows, kept voxels) float32, of (n_voxels,) bool `voxels`; few float64 are in memory at a time.

    The array `name` is (n_rows, n_voxels), or (repeats, n_rows, n_voxels) if the presentation `repeat` is read, of
    integers or floating point of any size, contiguous or in chunks, with any of HDF5's own compressions. `InputError`
    for no such file or array, another shape, or values that cannot be read or that `require_usable` refuses.
    """
    with _open(path) as file:
        array = _array(file, name, path)
        _require_shape(array, path, n_rows, n_voxels, 2 if repeat is None else 3)
        responses = np.empty((n_rows, n_voxels), np.float32)
        try:
            array.read_direct(responses, np.s_[:] if repeat is None else np.s_[repeat])
        except OSError as error:
            raise InputError(f"{path}: '{name}' cannot be read ({_reason(error)}), expected a whole file") from None
    if voxels is not None:
        responses = responses[:, voxels]
    require_usable(responses, path)
    return responses


def _open(path: Path) -> h5py.File:
    require_file(path)
    try:
        return h5py.File(path)
    except OSError as error:
        raise InputError(f"{path}: not a whole HDF5 file ({_reason(error)}), expected responses") from None


def _reason(error: OSError) -> str:
    """What HDF5 says of an error, in brackets after what it was doing."""
    return str(error).splitlines()[0].partition("(")[2].removesuffix(")") or str(error).splitlines()[0]


def _array(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    if name not in list(file):
        what = " with each presentation, which the noise ceiling is measured on" * (name == "individual_repeats")
        raise InputError(f"{path}: found {sorted(file)}, expected a dataset named '{name}'{what}")
    try:
        found = file[name]
    except (KeyError, OSError, RuntimeError):
        raise InputError(f"{path}: '{name}' is a link to what is not here, expected an array of numbers") from None
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiu" or not found.shape:
        what = f"of type {found.dtype}" if isinstance(found, h5py.Dataset) else "which is a group"
        raise InputError(f"{path}: found '{name}' {what}, expected an array of numbers")
    return found


def _require_shape(
    array: h5py.Dataset, path: Path, n_rows: int, n_voxels: int | None = None, n_axes: int | None = None, said: str = ""
) -> None:
    shape = array.shape
    right = len(shape) == n_axes if n_axes else len(shape) > 1
    if right and shape[-2] == n_rows and n_voxels in (None, shape[-1]):
        return
    found, expected = f"'{array.name.removeprefix('/')}' of shape {shape}", f"expected {n_rows} rows"
    if right and shape[-1] == n_rows != shape[-2]:
        raise InputError(f"{path}: found {found}, which is transposed, {expected} x voxels")
    raise InputError(f"{path}: found {found}, {expected}{f' of {n_voxels} voxels' if n_voxels else ''}{said}")


def invalid_columns(responses: np.ndarray) -> np.ndarray:
    """Which columns of (TRs, columns) responses have a NaN or a constant value; (columns,) bool."""
    with np.errstate(invalid="ignore", over="ignore"):
        invalid = np.isnan(np.ones(len(responses), responses.dtype) @ responses)
    suspects = np.flatnonzero(~invalid & (responses[1:8] == responses[0]).all(axis=0))
    invalid[suspects] = (responses[:, suspects] == responses[0, suspects]).all(axis=0)
    return invalid


def require_usable(responses: np.ndarray, path: Path) -> None:
    """Raise `InputError`, naming `path`, where (TRs, columns) responses have infinities or too many invalid columns.

    A few voxels without signal, stored as NaN or as a constant, are no fault of a file: they have no noise ceiling and
    are masked everywhere.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        suspects = np.flatnonzero(~np.isfinite(np.ones(len(responses), responses.dtype) @ responses))
    infinite = suspects[np.isinf(responses[:, suspects]).any(axis=0)]
    invalid, n_columns = np.flatnonzero(invalid_columns(responses)), responses.shape[1]
    for problem, columns, most in (
        ("infinite values", infinite, 0),
        ("NaN or a constant value", invalid, MOST_INVALID * n_columns),
    ):
        if len(columns) > most:
            raise InputError(
                f"{path}: {problem} in {len(columns)} of {n_columns} columns, the first at index {columns[0]}, "
                f"expected {f'at most {int(most)}' if most else 'none'}"
            )
