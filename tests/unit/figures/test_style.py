from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from braintuning.cortex.page import wrap
from braintuning.figures import map_and_bars, style
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

CONDITIONS = ("pretrained", "brain-tuned")
TABLE = pd.DataFrame(
    [
        ("SIM01", "pretrained", 0, 0.2),
        ("SIM01", "pretrained", 1, 0.3),
        ("SIM01", "brain-tuned", 0, 0.4),
        ("SIM01", "brain-tuned", 1, 0.7),
        ("SIM02", "pretrained", 0, 0.4),
        ("SIM02", "pretrained", 1, 0.5),
        ("SIM02", "brain-tuned", 0, 0.6),
        ("SIM02", "brain-tuned", 1, 0.5),
    ],
    columns=["participant", "condition", "layer", "alignment"],
)


def axes():
    return Figure(figsize=(3, 2)).add_subplot()


def test_bars_are_means_in_the_order_asked_for_and_points_are_participants():
    table = TABLE[TABLE["layer"] == 1].assign(backbone="tiny")
    table = pd.concat([table, table.assign(backbone="base", alignment=0.1 + table["alignment"])])
    ax = style.condition_bars(axes(), table, "alignment", ("tiny", "base"), CONDITIONS, "r", {("base", "brain-tuned")})
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.4, 0.6, 0.5, 0.7])
    assert [to_hex(bar.get_facecolor()) for bar in ax.patches[:2]] == [
        style.CONDITION_LOOKS[c].colour for c in CONDITIONS
    ]
    points = [line.get_ydata().tolist() for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points, [[0.3, 0.7], [0.5, 0.5], [0.4, 0.8], [0.6, 0.6]])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["tiny", "base"]
    assert ax.get_ylabel() == "r"
    (star,) = ax.texts
    assert star.get_text() == "*" and star.get_position()[0] == ax.patches[3].get_x() + ax.patches[3].get_width() / 2


def baseline_of(ax):
    """Left end, right end and height of each piece of the line across bars."""
    lines = [drawn for drawn in ax.collections if drawn.get_gid() == style.BASELINE_GID]
    return [(*piece[:, 0], piece[0, 1]) for drawn in lines for piece in drawn.get_segments()]


def test_the_line_of_the_baseline_is_at_the_mean_of_its_column_across_every_bar():
    table = TABLE[TABLE["layer"] == 1].assign(backbone="tiny", nuisance=[0.1, 0.1, 0.3, 0.3])
    both = pd.concat([table, table.assign(backbone="base", nuisance=[0.5, 0.6, 0.7, np.nan])])
    ax = style.condition_bars(axes(), both, "alignment", ("tiny", "base"), CONDITIONS, baseline="nuisance")
    pieces = [(-0.5, 0.5, 0.2), (0.5, 1.5, 0.2), (2.5, 3.5, 0.6), (3.5, 4.5, 0.6)]
    np.testing.assert_allclose(baseline_of(ax), pieces)
    assert baseline_of(style.condition_bars(axes(), both, "alignment", ("tiny", "base"), CONDITIONS)) == []


def test_a_layers_curve_has_the_line_of_the_baseline_across_all_layers():
    table = TABLE.assign(nuisance=[0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.3])
    ax = style.layer_curves(axes(), table, "alignment", CONDITIONS, baseline="nuisance")
    np.testing.assert_allclose(baseline_of(ax), [(-0.25, 1.25, 0.2)])


def test_the_legend_names_the_baseline_after_the_conditions():
    fig = Figure(figsize=(7.2, 3))
    legend = style.condition_legend(fig, CONDITIONS, baseline="word rate, envelope", loc="upper center")
    assert [text.get_text() for text in legend.get_texts()] == [*CONDITIONS, "word rate, envelope"]


def test_every_condition_has_a_colour_of_its_own_and_so_has_each_variant():
    looks = style.looks_of((*style.CONDITION_LOOKS, "rank-2", "rank-32"))
    assert len({look.colour for look in looks.values()}) == len(looks) == 11
    assert looks["pretrained"] == style.CONDITION_LOOKS["pretrained"]


def test_curves_are_means_over_participants_layer_by_layer():
    ax = style.layer_curves(axes(), TABLE, "alignment", CONDITIONS)
    means = {line.get_label(): line.get_ydata().tolist() for line in ax.lines if line.get_label() in CONDITIONS}
    assert means["pretrained"] == pytest.approx([0.3, 0.4])
    assert means["brain-tuned"] == pytest.approx([0.5, 0.6])
    assert ax.get_xticks().tolist() == [0, 1]
    assert len(ax.lines) == len(CONDITIONS) * 3


def test_room_above_moves_nothing_on_the_page():
    fig = Figure(figsize=(4, 2))
    ax = fig.add_axes((0.1, 0.2, 0.5, 0.6))
    text = fig.text(0.5, 0.9, "note")
    before = ax.get_position().bounds * np.array([4, 2, 4, 2])
    bottom = map_and_bars.room_above(fig, 3.0)
    assert fig.get_size_inches().tolist() == [4, 5]
    np.testing.assert_allclose(ax.get_position().bounds * np.array([4, 5, 4, 5]), before)
    assert text.get_position()[1] * 5 == pytest.approx(1.8)
    assert bottom * 5 == pytest.approx(2)


@pytest.mark.parametrize("backbones", [("tiny",), ("tiny", "base")])
@pytest.mark.parametrize("n_conditions", [3, 4, 8])
def test_the_legend_of_bars_above_a_map_covers_no_title(backbones, n_conditions):
    conditions = list(style.CONDITION_LOOKS)[:n_conditions]
    rows = [(b, c, roi, "SIM01") for b in backbones for c in conditions for roi in style.REGIONS]
    table = pd.DataFrame(rows, columns=["backbone", "condition", "roi", "participant"])
    table = table.assign(alignment=0.2, nuisance=0.1, nuisance_features="word rate, envelope, position")
    with mpl.rc_context():
        style.use_style()
        fig = Figure(figsize=(7.2, 6))
        map_and_bars.bars_above(
            fig, table, "alignment", "r", backbones, conditions, table.iloc[:0], "nuisance", table.iloc[:0]
        )
        fig.draw_without_rendering()
        legend = fig.legends[0].get_window_extent()
        assert len(fig.axes) == 2 and not any(legend.overlaps(ax.title.get_window_extent()) for ax in fig.axes)


def test_style_keeps_text_in_pdfs_and_conditions_can_be_told_apart_by_the_colour_blind():
    with mpl.rc_context():
        style.use_style()
        assert mpl.rcParams["pdf.fonttype"] == 42
    rgb = np.array([mpl.colors.to_rgb(look.colour) for look in style.CONDITION_LOOKS.values()])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    deuteranope = linear @ np.array([[0.625, 0.375, 0], [0.7, 0.3, 0], [0, 0.3, 0.7]]).T
    distances = np.linalg.norm(deuteranope[:, None] - deuteranope, axis=-1)
    assert distances[~np.eye(len(rgb), dtype=bool)].min() > 0.1


def test_small_print_stays_inside_its_figure():
    fig = Figure(figsize=(3.0, 2.0), layout="constrained")
    fig.subplots()
    style.small_print_below(fig, "Weights: " + "; ".join(f"a model of some length, number {n}" for n in range(12)))
    fig.draw_without_rendering()
    box = fig.get_supxlabel() and fig._supxlabel.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= fig.bbox.width and box.y0 >= 0


def grey(colour):
    return 255 * np.array(mpl.colors.to_rgb(colour)) @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("looks", [style.CONDITION_LOOKS.values(), style.VARIANT_LOOKS])
def test_conditions_can_be_told_apart_in_grey(looks):
    for one, other in combinations(looks, 2):
        assert one.hatch != other.hatch or abs(grey(one.colour) - grey(other.colour)) > 40, (one, other)
        assert one.marker != other.marker


def test_a_missing_bar_says_so_and_lines_join_one_participants_neighbours_alone():
    rows = [("P1", "a", 1.0), ("P1", "c", 3.0), ("P1", "d", 4.0), ("", "e", 5.0), ("P1", "b", np.nan)]
    table = pd.DataFrame(rows, columns=["participant", "condition", "value"]).assign(backbone="base")
    ax = style.condition_bars(axes(), table, "value", ["base"], list("abcde"))
    assert [bar.get_x() + bar.get_width() / 2 for bar in ax.patches] == pytest.approx([0, 2, 3, 4])
    assert [(text.get_text(), text.xy[0]) for text in ax.texts] == [("n/a", 1)]
    (joined,) = [line for line in ax.lines if line.get_marker() == "None" and len(line.get_xdata()) == 5]
    np.testing.assert_array_equal(joined.get_ydata(), [1, np.nan, 3, 4, np.nan])


def test_bars_without_any_value_stand_on_an_axis_without_numbers():
    rows = [("P1", "a", np.nan), ("P1", "b", np.nan)]
    table = pd.DataFrame(rows, columns=["participant", "condition", "value"]).assign(backbone="base")
    ax = style.condition_bars(axes(), table, "value", ["base"], ["a", "b"])
    left, right = ax.get_xlim()
    assert [text.get_text() for text in ax.texts] == ["n/a", "n/a"] and left < 0 and 1 < right
    assert left - 0 == pytest.approx(1 - right) and not len(ax.get_yticks())


def test_a_legend_reads_row_by_row():
    fig = Figure(figsize=(7.2, 3))
    legend = style.condition_legend(fig, tuple(style.CONDITION_LOOKS), loc="upper center")
    fig.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in legend.get_texts()}
    read = sorted(boxes, key=lambda name: (-round(boxes[name].y0), boxes[name].x0))
    assert read == list(style.CONDITION_LOOKS)


def test_axes_share_a_range_unless_one_would_be_flat():
    similar, apart = Figure().subplots(1, 2), Figure().subplots(1, 2)
    for row, tops in ((similar, (1.0, 0.5)), (apart, (1.0, 0.1))):
        for ax, top in zip(row, tops, strict=True):
            ax.set_ylim(0, top)
        style.share_y_where_it_fits(row)
    assert [ax.get_ylim()[1] for ax in similar] == [1.0, 1.0]
    assert [ax.get_ylim()[1] for ax in apart] == [1.0, 0.1]


def test_small_print_has_no_word_alone_on_its_last_line():
    text = "Whole grid on simulated listeners. Weights: some of these and some of those. Glasser et al. " * 2 + "2016"
    lines = wrap(text, 7.2, 6.0).splitlines()
    assert " ".join(lines) == text
    assert len(lines[-1]) > 0.6 * len(lines[0])
