"""The worked example of the datasets' README is run as it stands there."""

import re
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
import yaml
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


def test_an_adapter_of_another_class_or_without_row_offset_is_named(study, monkeypatch):
    module = sys.modules.get("my_listeners") or __import__("my_listeners")
    monkeypatch.delattr(module.Listeners, "row_offset")
    refused(lambda: datasets.open_dataset(study), "no `row_offset`", KIND, "expected both")
    monkeypatch.setattr(module, "Listeners", type("Listeners", (), {"__init__": lambda self, root, tr: None}))
    refused(lambda: datasets.open_dataset(study), "no base class `Dataset`", "no `row_offset`")


def test_an_adapter_that_cannot_be_imported_is_named(study):
    dataset = study.dataset.model_copy(update={"kind": "nowhere:Listeners"})
    refused(lambda: datasets.open_dataset(study.model_copy(update={"dataset": dataset})), "nowhere", "PYTHONPATH")


def test_ten_lines_of_nilearn_make_a_study_of_fmriprep(tmp_path, monkeypatch):
    """The README's text on a tiny derivatives folder, and its study on what came out."""
    monkeypatch.chdir(tmp_path)
    rng, affine = np.random.default_rng(0), np.diag([4.0, 4.0, 4.0, 1.0])
    labels = np.zeros((6, 6, 6), np.int16)
    labels[:3, 1:5, 1:5], labels[3:, 1:5, 1:5] = 1, 2
    nibabel.save(nibabel.Nifti1Image(labels, affine), "atlas.nii.gz")
    shared = rng.standard_normal((2, 300))
    for number in range(4):
        folder = tmp_path / "derivatives" / f"sub-{number}" / "func"
        folder.mkdir(parents=True)
        courses = np.stack([np.zeros(300), *shared])[labels] + rng.standard_normal((*labels.shape, 300))
        for space, values in (("MNI152NLin2009cAsym_res-2", courses), ("T1w", courses[::-1])):
            path = folder / f"sub-{number}_task-mystory_run-1_space-{space}_desc-preproc_bold.nii.gz"
            nibabel.save(nibabel.Nifti1Image(1000 + values, affine), path)
        names = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"] + ["csf", "white_matter"]
        names += [f"{n}{end}" for n in names[:6] for end in ("_derivative1", "_derivative1_power2", "_power2")]
        table = pd.DataFrame(rng.standard_normal((300, len(names))), columns=names)
        table.to_csv(folder / f"sub-{number}_task-mystory_run-1_desc-confounds_timeseries.tsv", sep="\t", index=False)
    (code,) = re.findall(r"```py\n(.*?)```", README.read_text(), re.S)
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(compile(code, str(README), "exec"), {})
    root = tmp_path / "mystory"
    (root / "regions.csv").write_text("name\nleft\nright\n")
    soundfile.write(root / "story.wav", tiny.sound(0, 450), 16_000)
    write_textgrid(root / "words.TextGrid", {"word": [Interval("and", 20.0, 21.0)]}, 450)
    (text,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.S)
    content = yaml.safe_load(text)
    content["dataset"]["recordings"]["mystory"].pop("atlas")
    content["dataset"]["root"] = str(tmp_path)
    content |= {"name": "mine", "title": "Mine", "conditions": ["pretrained"], "figures": {"notebooks": []}}
    content |= {"backbones": {"small": {"name": "x/y"}}}
    study = load_study(tiny.write_yaml(tmp_path / "mine.yaml", content))
    assert study.tuned_together == ("sub-0", "sub-2") and study.held_out == ("sub-1", "sub-3")
    dataset = datasets.open_dataset(study)
    dataset.check({participant: study.stories_for(participant).all for participant in study.participants})
    everyone = dataset.everyone("sub-1", "begin")
    assert everyone.shape == (2, 200, 2)
    (one, other), shared = everyone[:, :, 0], np.abs(np.corrcoef(everyone[0].T, everyone[1].T)[:2, 2:])
    assert (shared.argmax(axis=1) == [0, 1]).all(), "each region is most like itself in the other person"
    lags = [np.corrcoef(one[5:-5], np.roll(other, lag)[5:-5])[0, 1] for lag in range(-4, 5)]
    assert np.argmax(lags) == 4, "and most at the same volume"
