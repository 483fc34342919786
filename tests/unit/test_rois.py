import re
from itertools import combinations

import nibabel
import numpy as np
import pytest
from braintuning import rois
from braintuning.errors import InputError
from braintuning.rois import GROUPS, hcp_mmp_labels, members, outlines, place_names
from braintuning.surfaces import PIXEL, flat_image, fs_lr, hcp_file
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


def crossing(a, b):
    """Whether two segments meet, from the solution of a + s (b - a) = c + t (d - c)."""
    (p, q), (r, s) = np.array(a), np.array(b)
    try:
        along = np.linalg.solve(np.stack([q - p, r - s], axis=1), r - p)
    except np.linalg.LinAlgError:
        return False
    return bool(((along > 0) & (along < 1)).all())


@pytest.mark.parametrize("points_per_mm", [0.57, 0.28])
def test_names_do_not_overlap_and_leaders_start_in_their_region(drawn, points_per_mm):
    image, height = flat_image(fs_lr()), 5.5 if points_per_mm > 0.5 else 4.7
    names = place_names(drawn, image, tuple(0.62 * height * len(o.region) for o in drawn), height, points_per_mm)
    assert [name.text for name in names] == [outline.region for outline in drawn]
    for a, b in combinations(names, 2):
        assert abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2, (a, b)
    everywhere = np.any([outline.mask for outline in drawn], axis=0)
    for name, outline in zip(names, drawn, strict=True):
        x, y = name.anchor or (name.x, name.y)
        assert any(Curve(line).contains_point((x, y)) for line in outline.lines)
        assert image.x[0] <= name.x - name.width / 2 and name.x + name.width / 2 <= image.x[-1]
        assert image.y[0] <= name.y - name.height / 2 and name.y + name.height / 2 <= image.y[-1]
        if name.anchor:
            rows = slice(*np.rint((name.y + np.array([-0.5, 0.5]) * name.height - image.y[0]) / PIXEL).astype(int))
            columns = slice(*np.rint((name.x + np.array([-0.5, 0.5]) * name.width - image.x[0]) / PIXEL).astype(int))
            assert not everywhere[rows, columns].any()


def test_crossings_are_counted_as_by_solving_for_the_meeting_point():
    rng = np.random.default_rng(0)
    starts, ends, segments = rng.normal(size=(40, 2)), rng.normal(size=(40, 2)), rng.normal(size=(15, 2, 2))
    counted = rois._crossings(starts, ends, segments)
    solved = [sum(crossing((a, b), segment) for segment in segments) for a, b in zip(starts, ends, strict=True)]
    assert counted.tolist() == solved
    assert 0 < np.mean(solved) < 10


def test_a_leader_takes_the_longer_way_round_another():
    canvas = rois._Canvas(np.arange(-100.0, 101), np.arange(-60.0, 61), clearance=1.0)
    regions = np.zeros((121, 201), bool)
    regions[:, 60:121] = True
    anchors = np.array([[0.0, 0.0]])
    free = canvas.name_beside("free", anchors, regions, [], (8.0, 6.0))
    assert free.x > 20
    assert free.y == 0
    wall = rois.Name("wall", 10.0, 50.0, 4.0, 4.0, (10.0, -60.0), (10.0, 48.0))
    round_it = canvas.name_beside("held", anchors, regions, [wall], (8.0, 6.0))
    assert round_it.x < -40


def test_leader_lines_do_not_cross_at_page_width(drawn):
    image = flat_image(fs_lr())
    names = place_names(drawn, image, tuple(3.4 * len(o.region) for o in drawn), 5.5, 0.57)
    leaders = [(name.anchor, name.leader_end) for name in names if name.anchor]
    assert len(leaders) > 10
    assert not [pair for pair in combinations(leaders, 2) if crossing(*pair)]


def test_names_are_the_same_every_time(drawn):
    arguments = drawn, flat_image(fs_lr()), tuple(3.4 * len(o.region) for o in drawn), 5.5, 0.57
    first = place_names(*arguments)
    place_names.cache_clear()
    assert place_names(*arguments) == first


def test_a_large_name_goes_beside_and_a_small_one_inside(drawn):
    only = tuple(o for o in drawn if o.region == "PGi")
    image = flat_image(fs_lr())
    assert all(name.anchor is None for name in place_names(only, image, (4.0, 4.0), 3.0, 0.57))
    assert all(name.anchor for name in place_names(only, image, (60.0, 60.0), 8.0, 0.57))


def test_names_without_room_are_left_out(drawn):
    assert place_names(drawn[:2], flat_image(fs_lr()), (9000.0, 9000.0), 5.0, 0.57) == ()
