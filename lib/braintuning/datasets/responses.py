"""Reader of response files in HDF5, and checks of responses."""

from pathlib import Path

import h5py
import numpy as np

from braintuning.errors import InputError
from braintuning.results import require_file

ROWS_AT_A_TIME = 8
MOST_INVALID = 0.05
"""Share of a file's voxels that may be invalid; with more, the file itself is taken to be damaged."""


def stored_shape(path: Path, name: str) -> tuple[int, ...]:
    """Shape of an array in a response file; `InputError` if the file or the array cannot be read."""
    with _open(path) as file:
        return _array(file, name, path).shape


def read_responses(
    path: Path, name: str, n_rows: int, n_voxels: int, voxels: np.ndarray | None = None, repeat: int | None = None
) -> np.ndarray:
    """Responses, (n_rows, kept voxels) float32; only a few TRs of float64 are in memory at a time.

    Parameters
    ----------
    name
        Array of shape (n_rows, n_voxels), or (repeats, n_rows, n_voxels) if `repeat` is given.
    voxels : (n_voxels,) bool, optional
        Voxels to keep.
    repeat
        Which presentation to read.

    Raises
    ------
    InputError
        No such file or array, another shape, or values that `require_usable` refuses.
    """
    with _open(path) as file:
        array = _array(file, name, path)
        if array.ndim != (2 if repeat is None else 3) or array.shape[-2:] != (n_rows, n_voxels):
            expected = f"expected {n_rows} rows of {n_voxels} voxels"
            raise InputError(f"{path}: found '{name}' of shape {array.shape}, {expected}")
        kept = None if voxels is None else np.flatnonzero(voxels)
        responses = np.empty((n_rows, n_voxels if voxels is None else len(kept)), np.float32)
        buffer = np.empty((min(ROWS_AT_A_TIME, n_rows), n_voxels), array.dtype)
        for start in range(0, n_rows, ROWS_AT_A_TIME):
            rows = slice(start, min(start + ROWS_AT_A_TIME, n_rows))
            read = buffer[: rows.stop - start]
            array.read_direct(read, np.s_[rows] if repeat is None else np.s_[repeat, rows])
            responses[rows] = read if voxels is None else read.take(kept, axis=1)
    require_usable(responses, path)
    return responses


def _open(path: Path) -> h5py.File:
    require_file(path)
    try:
        return h5py.File(path)
    except OSError:
        raise InputError(f"{path}: not a whole HDF5 file, expected responses") from None


def _array(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    if name not in file:
        raise InputError(f"{path}: found {sorted(file)}, expected a dataset named '{name}'")
    return file[name]


def invalid_columns(responses: np.ndarray) -> np.ndarray:
    """Which columns of (TRs, columns) responses have a NaN or a constant value; (columns,) bool."""
    with np.errstate(invalid="ignore", over="ignore"):
        invalid = np.isnan(np.ones(len(responses), responses.dtype) @ responses)
    suspects = np.flatnonzero(~invalid & (responses[1:ROWS_AT_A_TIME] == responses[0]).all(axis=0))
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
