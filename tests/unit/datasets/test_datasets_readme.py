"""The worked example of the datasets' README is run as it stands there."""

import re
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import soundfile
import tiny
from braintuning import datasets
from braintuning.datasets.base import Dataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.datasets.parcels import ParcelsDataset
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.pipeline import check as check_stage
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.results import load_arrays
from braintuning.study import load_study
from nibabel.cifti2 import BrainModelAxis, SeriesAxis
from tiny import refused

README = Path(datasets.__file__).with_name("README.md")
STORIES, TR, ROWS = ("bakery", "harbour", "winter", "kitchen"), 1.5, 24
KIND = "my_listeners:Listeners"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The README's example as a module on the path."""
    example = re.search(r"```python\n(.*?)```", README.read_text(), re.S)[1]
    (tmp_path / "my_listeners.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    yield example
    sys.modules.pop("my_listeners", None)


@pytest.fixture
def study(tmp_path, module, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    root, rng = tmp_path / "grayordinates", np.random.default_rng(0)
    root.mkdir()
    cortex = BrainModelAxis.from_mask(np.ones(59_412 + 10, bool), "thalamus_left", affine=np.eye(4))
    for number, story in enumerate(STORIES):
        soundfile.write(root / f"{story}.wav", tiny.sound(number, ROWS * TR + 1), 16_000)
        words = [Interval("and", float(s), float(s) + 0.5) for s in range(1, 30)]
        write_textgrid(root / f"{story}.TextGrid", {"word": words, "phone": words}, ROWS * TR + 1)
        signal = rng.standard_normal((ROWS, 59_422), dtype=np.float32)
        for run in range(1, 4 if story == "kitchen" else 2):
            heard = signal + 0.5 * rng.standard_normal(signal.shape, dtype=np.float32)
            image = nibabel.Cifti2Image(heard, (SeriesAxis(0, TR, ROWS), cortex))
            nibabel.save(image, root / f"sub-01_{story}_run-{run}.dtseries.nii")
    tiny.encoder("hubert").save_pretrained(tmp_path / "backbone")
    content = tiny.study_content(root, tmp_path / "backbone")
    content |= {"participants": ["sub-01"], "conditions": ["pretrained"]}
    content["dataset"] |= {"kind": KIND, "tr": TR}
    content["stories"] = {"train": ["bakery", "harbour"], "validation": ["winter"], "test": ["kitchen"]}
    return load_study(tiny.write_yaml(tmp_path / "cifti.yaml", content))


def test_the_example_is_short_and_has_the_whole_interface(module):
    assert len(module.splitlines()) < 100
    adapters = (__import__("my_listeners").Listeners, LebelDataset, ParcelsDataset)
    methods = [name for name in vars(Dataset) if not name.startswith("_")]
    assert len(methods) > 10
    for adapter in adapters:
        assert [name for name in methods if not hasattr(adapter, name)] == []
    assert all(f"`{name}" in README.read_text() for name in methods)


def test_a_study_runs_on_the_example(study):
    dataset = check_stage.check(study)
    assert dataset.participants == ("sub-01",)
    ceiling = load_arrays(measure_ceiling(study, "sub-01"))["ceiling"]
    assert ceiling.shape == (59_412,)
    assert np.nanmedian(ceiling) == pytest.approx(np.sqrt(1 / (1 + 0.25 / 3)), abs=0.03)


def test_bad_input_to_the_example_is_one_sentence(study):
    dataset = datasets.open_dataset(study)
    refused(lambda: dataset.stories("sub-02"), "no file of sub-02", "sub-01")
    refused(lambda: dataset.responses("sub-01", "buck"), "sub-01_buck_run-1", "not found", "bakery")


def test_an_adapter_that_cannot_be_imported_is_named(study):
    dataset = study.dataset.model_copy(update={"kind": "nowhere:Listeners"})
    refused(lambda: datasets.open_dataset(study.model_copy(update={"dataset": dataset})), "nowhere", "PYTHONPATH")
