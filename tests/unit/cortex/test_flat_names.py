from itertools import combinations

import numpy as np
import pytest
from braintuning.cortex import flat_names
from braintuning.cortex.flat_names import place_names
from braintuning.cortex.raster import flat_image
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels, outlines
from braintuning.cortex.surface import fs_lr
from matplotlib.path import Path as Curve

REGIONS = tuple(dict.fromkeys(GROUPS["early_auditory"] + GROUPS["late_language"]))


@pytest.fixture(scope="module")
def drawn():
    return outlines(fs_lr(), hcp_mmp_labels(), REGIONS)


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
    pixel = image.x[1] - image.x[0]
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
            rows = slice(*np.rint((name.y + np.array([-0.5, 0.5]) * name.height - image.y[0]) / pixel).astype(int))
            columns = slice(*np.rint((name.x + np.array([-0.5, 0.5]) * name.width - image.x[0]) / pixel).astype(int))
            assert not everywhere[rows, columns].any()


def test_crossings_are_counted_as_by_solving_for_the_meeting_point():
    rng = np.random.default_rng(0)
    starts, ends, segments = rng.normal(size=(40, 2)), rng.normal(size=(40, 2)), rng.normal(size=(15, 2, 2))
    counted = flat_names._crossings(starts, ends, segments)
    solved = [sum(crossing((a, b), segment) for segment in segments) for a, b in zip(starts, ends, strict=True)]
    assert counted.tolist() == solved
    assert 0 < np.mean(solved) < 10


def test_a_leader_takes_the_longer_way_round_another():
    canvas = flat_names._Canvas(np.arange(-100.0, 101), np.arange(-60.0, 61), clearance=1.0)
    regions = np.zeros((121, 201), bool)
    regions[:, 60:121] = True
    anchors = np.array([[0.0, 0.0]])
    free, short = canvas.name_beside("free", anchors, regions, [], (8.0, 6.0))
    assert free.x > 20
    assert free.y == 0
    wall = flat_names.Name("wall", 10.0, 50.0, 4.0, 4.0, (10.0, -60.0), (10.0, 48.0))
    round_it, long = canvas.name_beside("held", anchors, regions, [wall], (8.0, 6.0))
    assert round_it.x < -40
    assert short < long < flat_names.FORBIDDEN


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


def test_names_keep_off_regions_that_have_none_and_leave_out_no_name_for_it(drawn):
    image = flat_image(fs_lr())
    auditory = tuple(o for o in drawn if o.region in GROUPS["early_auditory"])
    language = tuple(o for o in drawn if o.region in GROUPS["late_language"])
    widths = tuple(3.4 * len(o.region) for o in language)
    taken = np.any([outline.mask for outline in auditory], axis=0)
    covered = {}
    for unnamed in (auditory, ()):
        names = place_names(language, image, widths, 5.5, 0.57, unnamed)
        assert len(names) == len(language)
        columns, rows = (
            np.rint((np.array(at) - axis[0]) / (image.x[1] - image.x[0])).astype(int)
            for at, axis in (([n.x for n in names], image.x), ([n.y for n in names], image.y))
        )
        covered[len(unnamed)] = taken[rows, columns].sum()
    assert covered[len(auditory)] == 0 < covered[0]
    everything = (flat_names.Outline("all", "left", (), taken.shape, (slice(None), slice(None)), taken | True),)
    assert len(place_names(language, image, widths, 5.5, 0.57, everything)) == len(language)
