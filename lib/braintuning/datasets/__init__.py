"""Datasets, an adapter for each; see README.md in this folder."""

import importlib
from pathlib import Path

from braintuning.datasets.base import Dataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.errors import InputError
from braintuning.results import REPOSITORY
from braintuning.study import Study
from braintuning.study.settings import DatasetSettings


def open_dataset(study: Study) -> Dataset:
    """Open the dataset that a study names; `InputError` if its folder or its own adapter, `module:Class`, is not valid.

    >>> dataset = bt.open_dataset(bt.load_study("demo"))
    >>> dataset.responses("SIM01", "theferry").shape  # (TRs, voxels)
    """
    settings = study.dataset
    if settings.kind == "parcels":
        from braintuning.datasets.parcels import ParcelsDataset

        people = {name: getattr(study, name) for name in ("participants", "tuned_together", "lacks")}
        slow = study.encoding.high_pass_seconds
        return ParcelsDataset(study.root, settings.recordings, settings.row_offset, slow, **people)
    if settings.kind == "lebel":
        return open_lebel(study.root, settings)
    module, _, name = settings.kind.partition(":")
    try:
        adapter = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        expected = "expected module:Class with the module's folder on PYTHONPATH"
        raise InputError(f"dataset kind {settings.kind!r}: {error}, {expected}") from None
    dataset = adapter(study.root, settings.tr)
    has = {"base class `Dataset`": isinstance(dataset, Dataset), "`row_offset`": hasattr(dataset, "row_offset")}
    if lacking := [what for what, there in has.items() if not there]:
        raise InputError(f"dataset kind {settings.kind!r}: has no {' and no '.join(lacking)}, expected both")
    return dataset


def open_lebel(root: Path, settings: DatasetSettings) -> LebelDataset:
    """A folder in the layout of ds003020, with the settings of a study; `InputError` as of `LebelDataset`."""
    fsaverage = REPOSITORY / settings.fsaverage if settings.fsaverage else None
    options = settings.model_dump(include={"row_offset", "unstored_volumes", "sound_starts", "coarse_regions"})
    return LebelDataset(root, settings.tr, settings.voxels, fsaverage, **options)
