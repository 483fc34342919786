"""The tiny study, aligned, with its thirty voxels on the cortex of fs_LR."""

import numpy as np
import pytest
import steps
import tiny
from braintuning.cortex.regions import hcp_mmp_labels
from braintuning.cortex.subject import Cortex
from braintuning.cortex.surface import fs_lr
from braintuning.datasets.lebel import LebelDataset
from braintuning.study import Run, load_study
from scipy.sparse import csr_matrix

PRETRAINED, TUNED = Run("small", "pretrained"), Run("small", "random-brain-tuned", "P1")


def cortex_of_voxels() -> Cortex:
    """Each voxel has some vertices of its region in the left hemisphere; those without a region have some without."""
    labels, regions = hcp_mmp_labels(), tiny.voxel_labels()
    left = np.arange(len(labels)) < 32492
    rows, columns = [], []
    for region in set(regions.tolist()):
        voxels = np.flatnonzero(regions == region)
        vertices = np.flatnonzero((labels == region) & left & fs_lr().cortex) if region else np.array([], int)
        rows += vertices.tolist()
        columns += voxels[np.arange(len(vertices)) % len(voxels)].tolist()
    matrix = csr_matrix((np.ones(len(rows)), (rows, columns)), (len(labels), len(regions)))
    return Cortex(fs_lr(), labels, regions, matrix)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset, a backbone and the results of the first participant with two of three models."""
    folder = tmp_path_factory.mktemp("explored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINTUNING_RESULTS", str(folder / "results"))
        patch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
        for family in ("hubert", "whisper"):
            tiny.encoder(family, seed=5).save_pretrained(folder / family)
        files = tiny.write_dataset(folder / "ds")
        content = tiny.study_content(files.root, folder / "hubert")
        study = load_study(tiny.write_yaml(folder / "tiny.yaml", content))
        for run in (PRETRAINED, TUNED):
            steps.aligned(study, "P1", run)
    return folder


@pytest.fixture
def study(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(folder / "results"))
    monkeypatch.setenv("BRAINTUNING_FIGURES", str(tmp_path / "figures"))
    placed = cortex_of_voxels()
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: placed)
    return load_study(folder / "tiny.yaml")
