"""A study that is packed for a GPU: its models are tuned and aligned as the pipeline does it."""

import json
import sys

import grid
import h5py
import numpy as np
import packed
import pandas as pd
import pytest
import steps
import tiny
from braintuning.datasets import open_dataset
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.tune import learning_material
from braintuning.study import Run
from pack import pack, size_of
from packed import MODELS, QUANTUM, Packer, jobs, listener, open_packed


@pytest.fixture
def measured(make_study):
    study = make_study({"conditions": ["pretrained", "brain-tuned", "random-brain-tuned"]})
    for participant in study.participants:
        measure_ceiling(study, participant)
    return study


def test_what_a_packed_model_learns_from_is_what_the_study_has(measured, tmp_path):
    there, left = pack(measured, tmp_path / "packed", 1 << 30)
    assert there == [run.name for run in sorted(measured.tuned_runs(), key=lambda run: run.condition)] and not left
    dataset = open_dataset(measured)
    with open_packed(tmp_path / "packed") as file:
        learning = {job.name: job for job, _ in jobs(file)}
    for run in measured.tuned_runs():
        train, validation = learning_material(measured, run, dataset)
        job = learning[run.name]
        assert job.settings == measured.tuning_of(run.condition)
        for expected, found in ((train, job.train), (validation, job.validation)):
            assert list(expected) == list(found)
            for name, story in expected.items():
                np.testing.assert_allclose(found[name].audio, story.audio, atol=2**-12)
                np.testing.assert_array_equal(found[name].times, story.times)
                for ours, its in zip(found[name].of_each, story.of_each, strict=True):
                    np.testing.assert_allclose(ours, its, atol=QUANTUM / 2 + 1e-6)


def test_alignment_of_the_grid_is_that_of_the_pipeline(make_study, tmp_path, monkeypatch):
    study, run = make_study({"participants": ["P1"], "conditions": ["brain-tuned"]}), Run("small", "brain-tuned", "P1")
    steps.aligned(study, "P1", run)
    with h5py.File(study.scores_file("P1", run)) as file:
        expected = file["alignment"][()]
    monkeypatch.setattr(packed, "QUANTUM", 0.05)  # of 18 TRs a coarse rounding would be seen
    monkeypatch.setattr(packed, "LEVELS", 16384)
    there, _ = pack(study, tmp_path / "packed", 1 << 30)
    arguments = ["grid.py", "--out", str(tmp_path / "out"), "--packed", str(tmp_path / "packed")]
    monkeypatch.setattr(sys, "argv", arguments)
    grid.main()
    table = pd.read_csv(tmp_path / "out" / "cpu-grid.csv").set_index("run")
    assert list(table.index) == there == [run.name]
    with h5py.File(tmp_path / "out" / "cpu-grid.h5") as file:
        found, history = file[run.name][()], json.loads(file[run.name].attrs["history"])
    np.testing.assert_allclose(found, expected[:, np.isfinite(expected[0])], atol=0.03)
    assert table.loc[run.name, "alignment_last_layer"] == pytest.approx(np.nanmean(expected[-1]), abs=0.02)
    assert table.loc[run.name, "epochs"] == len(history) - 1 == 2
    tiny.forbid(monkeypatch, grid, "done")
    grid.main()  # nothing is done twice


def test_what_does_not_fit_is_left_out_and_named(measured, tmp_path, monkeypatch):
    sizes, plain = [], Packer.decide
    monkeypatch.setattr(Packer, "decide", lambda self, kept: (sizes.append(self.offered), plain(self, kept))[1])
    everything, _ = pack(measured, tmp_path / "all", 1 << 30)
    models = size_of(tmp_path / "all" / MODELS)
    assert len(sizes) == len(everything) == 4 and models > 0
    there, left = pack(measured, tmp_path / "some", models + sum(sizes) - 1)
    assert there == everything[:3] and left == everything[3:]
    with open_packed(tmp_path / "some") as file:
        assert [job.name for job, _ in jobs(file)] == there
        assert listener(file, "P1").responses["winter"].shape[0] == tiny.N_ROWS
        assert (tmp_path / "some" / next(jobs(file))[0].backbone / "config.json").is_file()
    tiny.refused(lambda: pack(measured, tmp_path / "none", models + 10), "small_brain-tuned_P1 alone", "MiB")
    assert size_of(tmp_path / "none") == 0
