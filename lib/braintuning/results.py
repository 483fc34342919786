"""Results that say how they were made, so that a rerun can tell whether they still hold."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from braintuning.files import atomic_path, git_commit, package_versions

Recipe = Mapping[str, Any]
SAMPLED_BYTES = 1 << 20


def fingerprint(content: Any) -> str:  # noqa: ANN401
    """Short SHA-256 of anything that JSON can hold, the same whatever the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def inputs_fingerprint(paths: Iterable[Path], root: Path) -> str:
    """Short SHA-256 over names, sizes and the first and last MiB of input files, quick even for gigabytes."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
        with open(path, "rb") as file:
            digest.update(file.read(SAMPLED_BYTES))
            file.seek(max(path.stat().st_size - SAMPLED_BYTES, 0))
            digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def arrays_fingerprint(arrays: Iterable[np.ndarray]) -> str:
    """Short SHA-256 over shapes, dtypes and every value of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype}\n".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def provenance(recipe: Recipe, **more: str) -> dict[str, Any]:
    """What a result file carries: its recipe, the code's commit, package versions, and whatever else is given.

    A `device` comes with the precision in which models compute there.
    """
    if "device" in more:
        from braintuning.backbone.precision import precision

        more = {**more, "device": f"{more['device']}, {precision(more['device'])}"}
    return {"recipe": recipe, "git_commit": git_commit(), "versions": package_versions(), **more}


def provenance_of(path: Path) -> dict[str, Any] | None:
    """Provenance that a result (HDF5 file or folder) carries; None where there is no whole result."""
    try:
        if path.is_dir():
            found = json.loads((path / "provenance.json").read_text())
        else:
            with h5py.File(path) as file:
                found = json.loads(file.attrs["provenance"])
    except (OSError, KeyError, ValueError):
        return None
    return found if "recipe" in found else None


def is_done(path: Path, recipe: Recipe) -> bool:
    """Whether a whole result made by this recipe lies at `path`."""
    found = provenance_of(path)
    return found is not None and fingerprint(found["recipe"]) == fingerprint(recipe)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], carried: Mapping[str, Any]) -> None:
    """Write named arrays and their provenance to an HDF5 file, whole or not at all."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs["provenance"] = json.dumps(carried, default=str)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an HDF5 file of this project, by name."""
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


def save_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def provenance_columns(study: str, carried: Mapping[str, Any]) -> dict[str, str]:
    """Columns that tell where the rows of a table come from."""
    versions = " ".join(f"{name}={version}" for name, version in carried["versions"].items())
    return {
        "study": study,
        "weights": carried.get("weights", ""),
        "device": carried.get("device", ""),
        "inputs": carried["recipe"].get("inputs", ""),
        "recipe": fingerprint(carried["recipe"]),
        "git_commit": carried["git_commit"],
        "versions": versions,
    }
