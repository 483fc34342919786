"""Readers of what people have of parcellated responses: arrays of volumes x regions, tables of regions and of words."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from braintuning.datasets.labels import word_of
from braintuning.datasets.textgrid import Interval, is_silence
from braintuning.errors import InputError
from braintuning.results import require_file

HDF5 = (".h5", ".hf5", ".hdf5")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
LABELS, STARTS, ENDS = ("word", "label", "text", "value", "trial_type"), ("start", "onset"), ("end", "offset", "stop")
"""Names that columns of a table of words may have, the first that is there being taken."""


def read_courses(path: Path) -> np.ndarray:
    """Time courses of regions, (volumes, regions) float64, NaN where there is none.

    From NumPy's format, from HDF5 with one array or one called `data`, or from text: `.csv` with commas, `.tsv` with
    tabs, another suffix with spaces; `column_names` and, with them, a first column without a name are left out.

    `InputError` where the file is missing, cannot be read, or holds no table of finite numbers.
    """
    path, expected = require_file(path), "expected numbers, volumes x regions"
    try:
        if path.suffix == ".npy":
            found = np.load(path, allow_pickle=False)
        elif path.suffix in HDF5:
            found = _read_hdf5(path)
        else:
            named = column_names(path)
            table = _table_of(path, header=0 if named else None)
            numbered = bool(named) and str(table.columns[0]).startswith("Unnamed")
            found = table.iloc[:, int(numbered) :].to_numpy()
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())}), {expected}") from None
    if found.ndim != 2 or found.dtype.kind not in "fiu" or min(found.shape) < 1:
        raise InputError(f"{path}: found {found.dtype} of shape {found.shape}, {expected}")
    courses = found.astype(np.float64)
    if infinite := int(np.isinf(courses).any(axis=0).sum()):
        raise InputError(f"{path}: infinite values in {infinite} of {courses.shape[1]} regions, expected none")
    return courses


def _read_hdf5(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        names = list(file)
        name = "data" if "data" in names else names[0] if len(names) == 1 else None
        if name is None or not isinstance(file[name], h5py.Dataset):
            raise ValueError(f"found {', '.join(names) or 'nothing'}, expected one array, or one called data")
        return file[name][()]


def column_names(path: Path) -> list[str]:
    """Names in the first row of a text file of time courses: text, numbers from 0 or 1 on, or six ascending ones."""
    if path.suffix in (".npy", *HDF5):
        return []
    cells = _table_of(path, header=None, nrows=1).iloc[0].dropna().tolist()
    if any(isinstance(cell, str) for cell in cells):
        return [str(cell).strip() for cell in cells]
    counted = cells in (list(range(len(cells))), list(range(1, len(cells) + 1)))
    ascending = len(cells) >= 6 and all(cell % 1 == 0 for cell in cells) and cells == sorted(set(cells))
    return [f"{cell:g}" for cell in cells] if len(cells) > 1 and (counted or ascending) else []


def _table_of(path: Path, **options: Any) -> pd.DataFrame:  # noqa: ANN401
    return pd.read_csv(path, sep=SEPARATORS.get(path.suffix, r"\s+"), encoding="utf-8-sig", comment="#", **options)


def read_regions(path: Path, n_columns: int) -> pd.DataFrame:
    """Regions of a table: `name`, `number` in an atlas, `column` in responses, and `x`, `y`, `z` (MNI, mm) if known.

    A region is named by the column `name`, `region`, `label`, `parcel` or `number`, and has the number of `number`, of
    `parcel` where these are numbers, or of `index`, as in BIDS, else that of its row, from 1. Without `column` regions
    are those of all `n_columns`, in their order.

    `InputError` for no table, or one that has no names, one twice, or other columns than the responses.
    """
    table = _read_table(path, "regions")
    named = _first(table.columns, ("name", "region", "label", "parcel", "number"))
    if named is None:
        raise InputError(f"{path}: found columns {', '.join(table.columns)}, expected one called name, label or parcel")
    if "column" not in table and len(table) != n_columns:
        raise InputError(f"{path}: found {len(table)} regions, expected {n_columns}, as many as responses have")
    parcels = "parcel" in table and pd.api.types.is_numeric_dtype(table["parcel"])
    numbered = "number" if "number" in table else "parcel" if parcels else _first(table.columns, ("index",))
    regions = pd.DataFrame({"name": table[named].astype(str).str.strip()})
    regions["number"] = table[numbered] if numbered else range(1, len(table) + 1)
    regions["column"] = table["column"] if "column" in table else range(len(table))
    regions = regions.join(table[[key for key in ("x", "y", "z") if key in table]])
    numeric = regions.columns.drop("name")
    found = regions[numeric].apply(pd.to_numeric, errors="coerce")
    wrong = found.isna().any(axis=1) | (found[["number", "column"]] % 1 != 0).any(axis=1)
    wrong |= ~found["column"].between(0, n_columns - 1)
    if wrong.any():
        expected = f"expected whole numbers, and a column from 0 to {n_columns - 1}"
        raise InputError(f"{path}: region {regions['name'][wrong].iloc[0]} has no place in the responses, {expected}")
    for key in ("name", "column"):
        if (twice := regions[key].duplicated()).any():
            raise InputError(f"{path}: {key} {regions[key][twice].iloc[0]} stands there twice, expected each once")
    return regions.astype({"column": int, "number": int})


def read_word_table(path: Path, first_volume: float = 0.0) -> list[Interval]:
    """Words of a table, `.tsv` with tabs or else with commas, in the order of their start.

    Columns are called as in `LABELS`, `STARTS` and `ENDS`, or have a `duration` in place of an end; rows without a word
    are left out. In a file whose name ends with `events.tsv` times are seconds after the first volume, as in BIDS,
    which came `first_volume` seconds after the start of the audio; elsewhere after the start of the audio.

    `InputError` for no table, no such columns, a time that is no number, or a word that ends before it starts.
    """
    table = _read_table(path, "words", dtype=str, keep_default_na=False)
    label, start, end = (_first(table.columns, names) for names in (LABELS, STARTS, (*ENDS, "duration")))
    if not (label and start and end):
        found = f"found columns {', '.join(table.columns)}"
        raise InputError(f"{path}: {found}, expected a word, its start or onset, and its end or duration")
    moved, words = first_volume if path.name.endswith("events.tsv") else 0.0, []
    for number, row in enumerate(table[[label, start, end]].itertuples(index=False), 2):
        if row[0].strip() in ("", "n/a") or is_silence(row[0]):
            continue
        try:
            begins, ends = float(row[1]) + moved, float(row[2]) + moved
        except ValueError:
            raise InputError(f"{path}, line {number}: found {row[1]!r} and {row[2]!r}, expected seconds") from None
        ends = begins + ends - moved if end == "duration" else ends
        if not begins <= ends < np.inf:
            raise InputError(f"{path}, line {number}: {row[0]!r} lasts from {begins} to {ends} s, expected start first")
        words.append(Interval(word_of(row[0]), begins, ends))
    return sorted(words, key=lambda word: word.start)


def _read_table(path: Path, of: str, **options: Any) -> pd.DataFrame:  # noqa: ANN401
    """A table whose columns have names, here in lower case; `InputError` for what is none."""
    separator = SEPARATORS.get(require_file(path).suffix, ",")
    try:
        table = pd.read_csv(path, sep=separator, encoding="utf-8-sig", **options)
    except ValueError as error:
        raise InputError(f"{path}: not a table ({' '.join(str(error).split())}), expected one of {of}") from None
    return table.rename(columns=lambda name: str(name).strip().lower())


def _first(columns: Collection[str], names: Collection[str]) -> str | None:
    return next((name for name in names if name in columns), None)
