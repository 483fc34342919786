from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from braintuning.cortex.outlines import SMALL_NAME_POINTS, outlines, place_names
from braintuning.cortex.raster import view_image
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels
from braintuning.cortex.surface import fs_lr
from braintuning.errors import InputError
from matplotlib.path import Path as Curve

REGIONS = tuple(dict.fromkeys(GROUPS["early_auditory"] + GROUPS["late_language"]))
WHOLE = (-217.9, 695.7, -173.8, 174.1)


@pytest.fixture(scope="module")
def drawn():
    return outlines(fs_lr(), hcp_mmp_labels(), REGIONS)


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
    whole = outlines(surface, labels, ("late_language",))
    assert [(o.region, o.hemisphere) for o in whole] == [("late_language", "left"), ("late_language", "right")]
    for outline in whole:
        parts = [o.mask for o in drawn if o.region in GROUPS["late_language"] and o.hemisphere == outline.hemisphere]
        np.testing.assert_array_equal(outline.mask, np.any(parts, axis=0))


def box(name, points, points_per_mm):
    """Left, right, bottom and top of a name in the map's mm."""
    wide, high = 0.7 * points * len(name.text) / points_per_mm, 1.15 * points / points_per_mm
    return name.x - wide / 2, name.x + wide / 2, name.y - high / 2, name.y + high / 2


def overlapping(boxes):
    return [(a, b) for a, b in combinations(boxes, 2) if a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]]


def crossing(a, b):
    """Whether two segments meet, from the solution of a + s (b - a) = c + t (d - c)."""
    (p, q), (r, s) = np.array(a), np.array(b)
    try:
        along = np.linalg.solve(np.stack([q - p, r - s], axis=1), r - p)
    except np.linalg.LinAlgError:
        return False
    return bool(((along > 0) & (along < 1)).all())


def other_surface():
    """The same flat map under another name: names have no fixed places there."""
    return replace(fs_lr(), name="UTS03")


@pytest.mark.parametrize("surface", [fs_lr, other_surface])
@pytest.mark.parametrize("points_per_mm", [0.57, 0.4, 0.28, 0.15])
def test_names_do_not_overlap_and_lie_on_the_map_with_an_anchor_in_their_region(surface, points_per_mm):
    surface, points = surface(), 4.9 if points_per_mm > 0.5 else 4.1
    drawn = outlines(surface, hcp_mmp_labels(), REGIONS)
    names, points = place_names(surface, drawn, points_per_mm, points, WHOLE)
    boxes = [box(name, points, points_per_mm) for name in names]
    assert not overlapping(boxes)
    for left, right, bottom, top in boxes:
        assert WHOLE[0] <= left and right <= WHOLE[1] and WHOLE[2] <= bottom and top <= WHOLE[3]
    for name in names:
        at = name.anchor or (name.x, name.y)
        assert any(Curve(line).contains_point(at) for o in drawn if o.region == name.text for line in o.lines)
    if surface is fs_lr() or points_per_mm > 0.2:
        assert sorted(name.text for name in names) == sorted(outline.region for outline in drawn)


def test_names_beside_regions_hide_none_of_them(drawn):
    everywhere = np.any([outline.mask for outline in drawn], axis=0)
    for surface, points_per_mm in ((fs_lr(), 0.57), (fs_lr(), 0.28), (other_surface(), 0.57)):
        image = view_image(surface)
        names, points = place_names(surface, drawn, points_per_mm, 4.5, WHOLE)
        for name in names:
            if name.anchor:
                left, right, bottom, top = box(name, 0.85 * points, points_per_mm)
                hidden = everywhere[(image.y > bottom) & (image.y < top)][:, (image.x > left) & (image.x < right)]
                assert not hidden.any(), name


def test_leader_lines_on_fs_lr_do_not_cross_at_page_width(drawn):
    names, _ = place_names(fs_lr(), drawn, 0.57, 4.9, WHOLE)
    leaders = [(name.anchor, (name.x, name.y)) for name in names if name.anchor]
    assert len(leaders) > 10
    assert not [pair for pair in combinations(leaders, 2) if crossing(*pair)]


def test_a_magnified_map_has_finer_places_and_a_tiny_one_smaller_names(drawn):
    auditory = [outline for outline in drawn if outline.region in GROUPS["early_auditory"]]
    beside = {
        s: sum(n.anchor is not None for n in place_names(fs_lr(), auditory, s, 4.1, WHOLE)[0])
        for s in (0.28, 0.57, 1.2)
    }
    assert beside[0.28] > beside[0.57] > beside[1.2]
    assert place_names(fs_lr(), drawn, 1.2, 4.1, WHOLE)[0] == place_names(fs_lr(), drawn, 0.57, 4.1, WHOLE)[0]
    assert place_names(fs_lr(), drawn, 0.57, 4.1, WHOLE)[1] == 4.1
    assert place_names(fs_lr(), drawn, 0.1375, 4.1, WHOLE)[1] == pytest.approx(SMALL_NAME_POINTS / 2)


def test_on_other_surfaces_names_keep_off_boxes_and_within_bounds_and_one_without_room_is_left_out(drawn):
    language = [outline for outline in drawn if outline.region in GROUPS["late_language"]]
    window = (-60.0, 120.0, -140.0, -20.0)
    names, points = place_names(other_surface(), language, 0.57, 4.9, WHOLE, [window])
    assert len(names) > 0.9 * len(language)
    assert not any(window in pair for pair in overlapping([window, *(box(name, points, 0.57) for name in names)]))
    right_auditory = [o for o in drawn if o.region in GROUPS["early_auditory"] and o.hemisphere == "right"]
    window = (403.0, 478.0, -89.0, -13.0)
    names, points = place_names(other_surface(), right_auditory, 0.91, 4.1, window)
    assert len(names) == 6
    for left, right, bottom, top in (box(name, points, 0.91) for name in names):
        assert window[0] <= left and right <= window[1] and window[2] <= bottom and top <= window[3]
    assert place_names(other_surface(), drawn, 0.57, 300.0, WHOLE)[0] == []
    assert place_names(other_surface(), [], 0.57, 4.9, WHOLE)[0] == []
