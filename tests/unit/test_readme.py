"""The Python example of the README is run as it stands there, offline."""

import re
from pathlib import Path

import pytest
from braintuning.backbone import weights
from ct2_files import packaged_tiny
from huggingface_hub import constants
from matplotlib import pyplot as plt

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network and no weights but those of the installed package; files are written to a folder of the test."""
    packaged_tiny()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "CACHE", tmp_path)
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    yield tmp_path
    plt.close("all")


def test_python_example_runs(offline):
    (example,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    names = {}
    exec(compile(example, str(README), "exec"), names)
    assert names["hidden"].shape == (5, 1, 50, 384)
    assert names["model"].predict(names["features"]).shape == (100, 59_412)
    assert 0.6 < names["score"] < 0.95
    assert (offline / "ceiling.png").stat().st_size > 50_000
