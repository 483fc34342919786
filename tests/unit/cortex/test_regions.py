import re

import nibabel
import numpy as np
import pytest
from braintuning.cortex import regions as rois
from braintuning.cortex.raster import view_image
from braintuning.cortex.regions import GROUPS, group_outline, hcp_mmp_labels, members, outlines
from braintuning.cortex.surface import fs_lr, hcp_file
from braintuning.errors import InputError
from matplotlib.path import Path as Curve

REGIONS = tuple(dict.fromkeys(GROUPS["early_auditory"] + GROUPS["late_language"]))


def midthickness():
    points = []
    for letter in "LR":
        image = nibabel.load(hcp_file(f"S1200.{letter}.midthickness_MSMAll.32k_fs_LR.surf.gii"))
        points.append(image.agg_data("NIFTI_INTENT_POINTSET"))
    return np.concatenate(points)


@pytest.fixture(scope="module")
def drawn():
    return outlines(fs_lr(), hcp_mmp_labels(), REGIONS)


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
    with pytest.raises(InputError, match=r"found region R_.* expected to start with L_"):
        hcp_mmp_labels.__wrapped__()


def test_members_by_brute_force():
    labels = np.array(["A1", "", "PGp", "PGi", "A10", "RI"])
    assert members(labels, "early_auditory").tolist() == [True, False, False, False, False, True]
    assert members(labels, "angular_gyrus").tolist() == [False, False, True, True, False, False]


def test_members_names_the_nearest_group():
    with pytest.raises(InputError, match="nearest is 'late_language'"):
        members(hcp_mmp_labels(), "late_langauge")


def test_members_refuses_an_empty_group():
    with pytest.raises(InputError, match=r"primary_auditory.*no vertex"):
        members(np.array(["V1", ""]), "primary_auditory")


def test_outlines_enclose_their_vertices_and_no_others(drawn):
    surface, labels = fs_lr(), hcp_mmp_labels()
    assert [(o.region, o.hemisphere) for o in drawn] == [(r, h) for r in REGIONS for h in ("left", "right")]
    for outline in drawn:
        side = surface.vertices(outline.hemisphere)
        points, names = surface.flat_coordinates[side], labels[side]
        enclosed = np.sum([Curve(line).contains_points(points) for line in outline.lines], axis=0) % 2 == 1
        shown = ~np.isnan(points[:, 0])
        inside = names == outline.region
        assert enclosed[inside & shown].mean() > 0.95, outline.region
        assert enclosed[~inside].sum() < 0.06 * inside.sum(), outline.region


def test_outlines_are_kept_and_closed(drawn):
    assert outlines(fs_lr(), hcp_mmp_labels().copy(), REGIONS) is drawn
    assert outlines(fs_lr(), hcp_mmp_labels().astype(object), ("A1",))[0].region == "A1"
    for outline in drawn:
        assert outline.lines
        for line in outline.lines:
            np.testing.assert_array_equal(line[0], line[-1])


def test_outlines_refuse_labels_of_another_length():
    with pytest.raises(InputError, match=r"found shape \(59412,\), expected \(64984,\)"):
        outlines(fs_lr(), np.full(59412, "A1"), ("A1",))


def test_an_inflated_view_shows_the_part_of_a_region_that_faces_the_camera():
    surface, labels = fs_lr(), hcp_mmp_labels()
    image = view_image(surface, ("left", "lateral"))
    (outline,) = outlines(surface, labels, ("44",), ("left", "lateral"))
    assert outline.hemisphere == "left"
    assert (labels[image.vertex[outline.mask]] == "44").all()
    assert outline.mask.sum() == (labels[image.vertex[image.vertex >= 0]] == "44").sum()
    assert not outlines(surface, labels, ("44",), ("left", "medial"))


def test_a_group_has_one_outline_a_hemisphere_around_all_its_regions(drawn):
    surface, labels = fs_lr(), hcp_mmp_labels()
    whole = group_outline(surface, labels, "late_language")
    assert [(o.region, o.hemisphere) for o in whole] == [("late_language", "left"), ("late_language", "right")]
    for outline in whole:
        parts = [o.mask for o in drawn if o.region in GROUPS["late_language"] and o.hemisphere == outline.hemisphere]
        np.testing.assert_array_equal(outline.mask, np.any(parts, axis=0))
    with pytest.raises(InputError, match="nearest is 'late_language'"):
        group_outline(surface, labels, "late_lang")
