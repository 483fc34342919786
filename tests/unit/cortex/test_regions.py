import json
import re
import subprocess
import sys
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from braintuning.cortex import regions as rois
from braintuning.cortex.pycortex import participant_cortex
from braintuning.cortex.regions import GROUPS, destrieux_labels, destrieux_overlap, hcp_mmp_labels, members
from braintuning.cortex.surface import fs_lr, hcp_file
from braintuning.errors import InputError
from braintuning.results import REPOSITORY
from tiny_subject import DESTRIEUX, write_fsaverage, write_subject


def midthickness():
    points = []
    for letter in "LR":
        image = nibabel.load(hcp_file(f"S1200.{letter}.midthickness_MSMAll.32k_fs_LR.surf.gii"))
        points.append(image.agg_data("NIFTI_INTENT_POINTSET"))
    return np.concatenate(points)


def test_groups_are_those_that_the_paper_states(shared):
    text = " ".join((shared / "PAPER.md").read_text().split())
    stated = {
        "primary_auditory": r"Primary auditory: ([^.]*)\.",
        "early_auditory": r"Early auditory: ([^.]*)\.",
        "late_language": r"Late language: (.*?) of these",
        "angular_gyrus": r"of these angular gyrus ([^,]*),",
        "lateral_temporal": r"lateral temporal ([^,]*),",
        "inferior_middle_frontal": r"inferior and middle frontal ([^.]*)\.",
    }
    assert set(GROUPS) == set(stated)
    for group, pattern in stated.items():
        names = re.findall(r"\w+", re.search(pattern, text)[1])
        assert len(names) == len(GROUPS[group])
        assert set(names) == set(GROUPS[group])


def test_labels_cover_the_cortex_with_180_regions_a_hemisphere():
    labels, surface = hcp_mmp_labels(), fs_lr()
    assert labels.shape == (64984,)
    assert np.array_equal(labels != "", surface.cortex)
    sides = [set(labels[surface.vertices(h)].tolist()) - {""} for h in ("left", "right")]
    assert sides[0] == sides[1]
    assert len(sides[0]) == 180


def test_regions_lie_where_anatomy_says():
    labels, points = hcp_mmp_labels(), midthickness()
    left = points[:32492, 0] < 5
    assert left.mean() > 0.99
    for half in (slice(0, 32492), slice(32492, None)):
        names, here = labels[half], points[half]
        centre = {name: here[names == name].mean(axis=0) for name in ("V1", "A1", "44", "4", "PGi", "STGa", "10d")}
        assert np.linalg.norm(np.abs(centre["A1"]) - [44, 22, 8]) < 10
        assert centre["V1"][1] < centre["PGi"][1] < centre["4"][1] < centre["44"][1] < centre["10d"][1]
        assert centre["STGa"][2] < centre["A1"][2] < centre["PGi"][2] < centre["4"][2]


def test_each_region_mirrors_its_namesake():
    labels, points = hcp_mmp_labels(), midthickness()
    left, right = slice(0, 32492), slice(32492, None)
    for name in set(labels.tolist()) - {""}:
        a, b = (points[half][labels[half] == name].mean(axis=0) for half in (left, right))
        assert np.linalg.norm(a * [-1, 1, 1] - b) < 16, name


def test_labels_on_the_wrong_side_are_refused(monkeypatch, tmp_path):
    with np.load(hcp_file("mmp_1.0.npz")) as stored:
        arrays = dict(stored)
    arrays["labels"] = np.array([name.translate(str.maketrans("LR", "RL")) for name in arrays["labels"]])
    np.savez(tmp_path / "mmp_1.0.npz", **arrays)
    monkeypatch.setattr(rois, "hcp_file", lambda name: tmp_path / name)
    with pytest.raises(InputError, match=r"region R_.*: found in the left hemisphere, expected in the other"):
        hcp_mmp_labels.__wrapped__()


def test_members_by_brute_force():
    labels = np.array(["A1", "", "PGp", "PGi", "A10", "RI"])
    assert members(labels, "early_auditory").tolist() == [True, False, False, False, False, True]
    assert members(labels, "angular_gyrus").tolist() == [False, False, True, True, False, False]


def test_members_names_the_group_that_was_meant():
    with pytest.raises(InputError, match="did you mean 'late_language'"):
        members(hcp_mmp_labels(), "late_langauge")


def test_members_refuses_an_empty_group():
    with pytest.raises(InputError, match=r"primary_auditory.*no vertex"):
        members(np.array(["V1", ""]), "primary_auditory")


def test_overlap_names_the_gyrus_that_holds_most_of_a_region():
    labels = np.array(["A1"] * 4 + ["V1"] * 2 + [""] * 3)
    own = np.array(["G_temp_sup-G_T_transv"] * 2 + ["S_temporal_transverse", "G_temp_sup-Lateral"] + ["G_cuneus"] * 5)
    table = destrieux_overlap(labels, own).set_index("region")
    assert table.index.tolist() == ["A1", "V1"]
    assert table.loc["A1", ["vertices", "destrieux", "share", "expected_share"]].tolist() == [
        4,
        "G_temp_sup-G_T_transv",
        0.5,
        0.75,
    ]
    assert table.loc["V1", "expected_share"] == 1
    with pytest.raises(InputError, match="found 8, expected 9"):
        destrieux_overlap(labels, own[:8])


def test_regions_lie_in_the_gyri_they_were_planted_in(tmp_path):
    write_subject(tmp_path / "derivative", "UTS03", seed=3)
    fsaverage = write_fsaverage(tmp_path / "fsaverage")
    cortex = participant_cortex(tmp_path / "derivative", "UTS03", fsaverage, tmp_path / "cache")
    table = destrieux_overlap(cortex.vertex_labels, destrieux_labels(tmp_path / "derivative", "UTS03"))
    table = table.set_index("region")
    for region, gyrus in DESTRIEUX.items():
        assert table.loc[region, "destrieux"] == gyrus
        assert table.loc[region, "expected_share"] > 0.8


def test_regions_are_known_without_anything_that_draws():
    code = "import sys, braintuning.cortex.regions, braintuning.cortex.subject\n"
    code += "drawing = {'matplotlib', 'contourpy', 'cortex', 'braintuning.cortex.raster'} & set(sys.modules)\n"
    code += "sys.exit(', '.join(drawing) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("annotated", [True, False])
def test_the_notebook_compares_with_gyri_where_a_participant_has_them(tmp_path, annotated):
    cells = json.loads((REPOSITORY / "notebooks" / "01_dataset.ipynb").read_text())["cells"]
    (code,) = ["".join(cell["source"]) for cell in cells if "destrieux_overlap" in "".join(cell["source"])]
    names = write_subject(tmp_path, "anna", seed=1).labels
    if not annotated:
        for path in (tmp_path / "freesurfer_subjdir" / "anna" / "label").glob("*.aparc.a2009s.annot"):
            path.unlink()
    cortex = SimpleNamespace(vertex_labels=names, voxel_labels=names)
    shown, dataset = [], SimpleNamespace(cortex=lambda _: cortex, derivative=tmp_path)
    given = {"dataset": dataset, "settings": SimpleNamespace(root=tmp_path), "participant": "anna"}
    exec(code, {**given, "display": shown.append, "np": np})
    assert len(shown) == annotated
