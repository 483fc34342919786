import pytest
import tiny
from braintuning.datasets.lebel import LebelDataset
from braintuning.study import load_study


@pytest.fixture
def make_study(tmp_path, files, pristine, monkeypatch):
    """Load the tiny study with dotted keys changed."""
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("BRAINTUNING_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())

    def make(changes=None):
        content = tiny.study_content(files.root, pristine.root.parent / "backbone")
        for dotted, value in (changes or {}).items():
            section, *parents, key = content, *dotted.split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
            section[key] = value
        return load_study(tiny.write_yaml(tmp_path / "tiny.yaml", content))

    return make


@pytest.fixture
def study(make_study):
    return make_study()
