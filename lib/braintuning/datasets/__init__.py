"""One adapter a dataset, all with the same methods; see README.md in this folder."""

from braintuning.datasets.alice import AliceDataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.study import Study


def open_dataset(study: Study) -> LebelDataset | AliceDataset:
    """The dataset that a study names, ready to read."""
    adapters = {"lebel": LebelDataset, "alice": AliceDataset}
    return adapters[study.dataset.kind](study.root, study.dataset.tr)
