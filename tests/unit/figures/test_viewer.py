from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from braintuning.cortex.surface import fs_lr
from braintuning.figures import viewer
from braintuning.figures.viewer import write_study_viewer
from braintuning.results import save_arrays
from braintuning.study import Run, load_study
from tiny import refused

CARRIED = {"recipe": {}}


class Dataset:
    """Participants whose voxels are the vertices of a surface."""

    def __init__(self, surface):
        self.only = SimpleNamespace(surface=surface, to_vertices=lambda values: values)

    def cortex(self, participant):
        return self.only


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("BRAINTUNING_FIGURES", str(tmp_path / "figures"))
    made = load_study(tiny.write_yaml(tmp_path / "tiny.yaml", tiny.study_content(tmp_path, tmp_path)))
    for number, participant in enumerate(made.participants, 1):
        save_arrays(made.ceiling_file(participant), {"ceiling": np.full(6, 0.3 * number)}, CARRIED)
        for condition, value in (("pretrained", 0.2), ("brain-tuned", 0.2 + 0.1 * number)):
            path = made.scores_file(participant, made.run("small", condition, participant))
            save_arrays(path, {"alignment": np.full((3, 6), value)}, CARRIED)
    return made


def test_the_viewer_has_the_maps_of_the_study(study, monkeypatch):
    made = {}
    monkeypatch.setattr(viewer, "write_viewer", lambda folder, layers, title: made.update(layers) or folder)
    assert write_study_viewer(study, Dataset(SimpleNamespace(name=fs_lr().name))) == study.figures_folder / "viewer"
    means = {name: layer.values.mean() for name, layer in made.items()}
    assert means == pytest.approx(
        {
            "alignment, brain-tuned": 0.35,
            "alignment, pretrained": 0.2,
            "alignment, brain-tuned minus pretrained": 0.15,
            "noise ceiling": 0.45,
        }
    )
    assert made["alignment, brain-tuned minus pretrained"].symmetric


def test_a_surface_of_ones_own_is_named(study):
    refused(lambda: write_study_viewer(study, Dataset(SimpleNamespace(name="UTS03"))), "UTS03", fs_lr().name)


def test_a_study_without_brain_tuning_is_named(study):
    plain = study.model_copy(update={"conditions": ("pretrained",)})
    assert Run("small", "pretrained") in plain.runs()
    surface = SimpleNamespace(name=fs_lr().name)
    refused(lambda: write_study_viewer(plain, Dataset(surface)), "no condition brain-tuned")
