"""One adapter a dataset, all with the same methods; see README.md in this folder."""

import importlib

from braintuning.datasets.alice import AliceDataset
from braintuning.datasets.base import Dataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.errors import InputError
from braintuning.results import REPOSITORY
from braintuning.study import Study


def open_dataset(study: Study) -> Dataset:
    """The dataset that a study names, ready to read.

    Raises
    ------
    InputError
        The study names an adapter of its own, as `module:Class`, that cannot be imported, or the dataset's folder is
        not as the adapter expects.
    """
    settings = study.dataset
    if settings.kind == "alice":
        return AliceDataset(study.root, settings.tr)
    if settings.kind == "lebel":
        fsaverage = REPOSITORY / settings.fsaverage if settings.fsaverage else None
        return LebelDataset(
            study.root, settings.tr, settings.voxels, fsaverage,
            row_offset=settings.row_offset, unstored_volumes=settings.unstored_volumes,
            sound_starts=settings.sound_starts, coarse_regions=settings.coarse_regions,
        )  # fmt: skip
    return _own_adapter(settings.kind)(study.root, settings.tr)


def _own_adapter(kind: str) -> type[Dataset]:
    module, _, name = kind.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"dataset kind {kind!r}: {error}, expected module:Class with the module's folder on PYTHONPATH"
        ) from None
