import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from braintuning import plots
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
    ax = plots.condition_bars(axes(), table, "alignment", ("tiny", "base"), CONDITIONS, "r", {("base", "brain-tuned")})
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.4, 0.6, 0.5, 0.7])
    assert [to_hex(bar.get_facecolor()) for bar in ax.patches[:2]] == [plots.CONDITION_COLOURS[c] for c in CONDITIONS]
    points = [line.get_ydata().tolist() for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points, [[0.3, 0.7], [0.5, 0.5], [0.4, 0.8], [0.6, 0.6]])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["tiny", "base"]
    assert ax.get_ylabel() == "r"
    (star,) = ax.texts
    assert star.get_text() == "*" and star.get_position()[0] == ax.patches[3].get_x() + ax.patches[3].get_width() / 2


def test_every_condition_has_a_colour_of_its_own_and_so_has_each_variant():
    colours = plots.colours_of((*plots.CONDITION_COLOURS, "rank-2", "rank-32"))
    assert len(set(colours.values())) == len(colours) == 9
    assert colours["pretrained"] == plots.CONDITION_COLOURS["pretrained"]


def test_participants_have_a_bar_for_each_condition():
    ax = plots.participant_bars(axes(), TABLE[TABLE["layer"] == 1], "alignment", ("SIM02", "SIM01"), CONDITIONS)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.5, 0.3, 0.5, 0.7])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["SIM02", "SIM01"]


def test_curves_are_means_over_participants_layer_by_layer():
    ax = plots.layer_curves(axes(), TABLE, "alignment", CONDITIONS)
    means = {line.get_label(): line.get_ydata().tolist() for line in ax.lines if line.get_label() in CONDITIONS}
    assert means["pretrained"] == pytest.approx([0.3, 0.4])
    assert means["brain-tuned"] == pytest.approx([0.5, 0.6])
    assert ax.get_xticks().tolist() == [0, 1]
    assert len(ax.lines) == len(CONDITIONS) * 3


def test_region_bars_have_the_group_mean_its_ceiling_and_each_participant():
    rows = [("group", "HG", 0.3, 0.5), ("group", "STG", 0.2, 0.6), ("a", "HG", 0.4, 0.5), ("b", "HG", 0.2, 0.5)]
    frame = pd.DataFrame(rows, columns=["participant", "roi", "r", "noise_ceiling"])
    ax = plots.region_bars(axes(), frame, ("STG", "HG"))
    assert [bar.get_height() for bar in ax.patches] == [0.2, 0.3]
    (ceilings,) = ax.collections
    assert [segment[0, 1] for segment in ceilings.get_segments()] == [0.6, 0.5]
    drawn = np.concatenate([np.column_stack(line.get_data()) for line in ax.lines if line.get_marker() == "o"])
    points = drawn[drawn[:, 0] > 0.5]
    assert points[:, 1].tolist() == [0.2, 0.4]
    assert (np.abs(points[:, 0] - 1) < 0.34).all()


def test_room_above_moves_nothing_on_the_page():
    fig = Figure(figsize=(4, 2))
    ax = fig.add_axes((0.1, 0.2, 0.5, 0.6))
    text = fig.text(0.5, 0.9, "note")
    before = ax.get_position().bounds * np.array([4, 2, 4, 2])
    bottom = plots.room_above(fig, 3.0)
    assert fig.get_size_inches().tolist() == [4, 5]
    np.testing.assert_allclose(ax.get_position().bounds * np.array([4, 5, 4, 5]), before)
    assert text.get_position()[1] * 5 == pytest.approx(1.8)
    assert bottom * 5 == pytest.approx(2)


def test_style_keeps_text_in_pdfs_and_conditions_can_be_told_apart_by_the_colour_blind():
    with mpl.rc_context():
        plots.use_style()
        assert mpl.rcParams["pdf.fonttype"] == 42
    rgb = np.array([mpl.colors.to_rgb(colour) for colour in plots.CONDITION_COLOURS.values()])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    deuteranope = linear @ np.array([[0.625, 0.375, 0], [0.7, 0.3, 0], [0, 0.3, 0.7]]).T
    distances = np.linalg.norm(deuteranope[:, None] - deuteranope, axis=-1)
    assert distances[~np.eye(len(rgb), dtype=bool)].min() > 0.1


def test_small_print_stays_inside_its_figure():
    fig = Figure(figsize=(3.0, 2.0), layout="constrained")
    fig.subplots()
    plots.small_print_below(fig, "Weights: " + "; ".join(f"a model of some length, number {n}" for n in range(12)))
    fig.draw_without_rendering()
    box = fig.get_supxlabel() and fig._supxlabel.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= fig.bbox.width and box.y0 >= 0
