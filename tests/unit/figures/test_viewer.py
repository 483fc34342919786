from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from braintuning.cortex.surface import fs_lr
from braintuning.figures import viewer
from braintuning.figures.viewer import write_study_viewer
from braintuning.results import save_arrays
from braintuning.study import load_study
from tiny import refused

CARRIED = {"recipe": {}}
SMALL = SimpleNamespace(name=fs_lr().name, n_vertices=6)


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


def test_the_viewer_has_every_participant_condition_and_layer_and_their_mean(study, monkeypatch):
    made, told = {}, {}
    monkeypatch.setattr(
        viewer, "write_viewer", lambda folder, maps, **look: made.update(maps) or told.update(look) or folder
    )
    monkeypatch.setattr(viewer, "fs_lr", lambda: SMALL)
    monkeypatch.setattr(viewer, "smoothed", lambda surface, values, mm: values)
    study = study.model_copy(update={"conditions": ("pretrained", "brain-tuned")})
    assert write_study_viewer(study, Dataset(SMALL)) == study.figures_folder / "viewer"
    assert len(made) == 3 * 2 * 3
    means = {key[:2]: values.mean() for key, values in made.items() if key[2] == 1}
    assert means == pytest.approx(
        {
            ("mean of 2", "pretrained"): 0.2,
            ("mean of 2", "brain-tuned"): 0.35,
            ("P1", "pretrained"): 0.2,
            ("P1", "brain-tuned"): 0.3,
            ("P2", "pretrained"): 0.2,
            ("P2", "brain-tuned"): 0.4,
        }
    )
    assert told["first"] == ("mean of 2", "brain-tuned", 2)
    assert study.title in told["title"] and "alignment" in told["unit"] and "0.4" in told["note"]
    assert [share.mean() for share in told["opacity"].values()] == pytest.approx([0.25, 0.0, 1.0])


def test_a_surface_of_ones_own_is_named(study):
    refused(lambda: write_study_viewer(study, Dataset(SimpleNamespace(name="UTS03"))), "UTS03", fs_lr().name)
