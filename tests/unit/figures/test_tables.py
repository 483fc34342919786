"""The best layer: one for all participants, of each backbone, condition and region."""

import numpy as np
import pandas as pd
import pytest
from braintuning.figures import tables
from braintuning.results import save_table
from braintuning.study import load_study


def curves(values, backbone="a", condition="pretrained", roi="late_language"):
    """Table of alignment from each participant's layers."""
    rows = [
        (participant, backbone, condition, roi, layer, value)
        for participant, curve in values.items()
        for layer, value in enumerate(curve)
    ]
    return pd.DataFrame(rows, columns=["participant", "backbone", "condition", "roi", "layer", "alignment"])


def test_names_in_tables_stay_as_they_were_written(tmp_path):
    table = curves({"01": [0.1, np.nan], "NA": [0.2, 0.3], "": [0.4, 0.5]}, backbone="1", condition="nan")
    save_table(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(tables.read_tables([tmp_path / "a.h5"]), table)
    both = tables.read_tables([tmp_path / "a.h5"] * 2)
    assert both["participant"].tolist() == [*table["participant"]] * 2 and both["alignment"].isna().sum() == 2


def test_best_layer_is_that_of_the_mean_and_no_participant_s_own():
    table = curves({"P1": [0.9, 0.5, 0.1], "P2": [0.0, 0.45, 0.8]})
    (row,) = tables.best_layers(table).itertuples()
    assert row.layer == 1 and row.n_participants == 2 and row.alignment == pytest.approx(0.475)
    assert tables.at_best_layer(table)["alignment"].tolist() == [0.5, 0.45]


def test_every_backbone_condition_and_region_has_its_own():
    parts = [
        curves({"P1": [0.1, 0.2], "P2": [0.1, 0.3]}),
        curves({"P1": [0.4, 0.2], "P2": [0.4, 0.3]}, condition="brain-tuned"),
        curves({"P1": [0.6, 0.2], "P2": [0.5, 0.3]}, roi="primary_auditory"),
        curves({"P1": [0.6, 0.2, 0.9], "P2": [0.5, 0.3, 0.9]}, backbone="b"),
    ]
    found = tables.best_layers(pd.concat(parts, ignore_index=True))
    assert found[["layer", "alignment"]].to_numpy().tolist() == [[1, 0.25], [0, 0.4], [0, 0.55], [2, 0.9]]


def test_participants_without_a_value_are_not_counted_and_nobody_s_region_is_left_out():
    table = pd.concat([
        curves({"P1": [0.1, 0.2], "P2": [np.nan, np.nan]}),
        curves({"P1": [np.nan] * 2, "P2": [np.nan] * 2}, roi="primary_auditory"),
    ])  # fmt: skip
    (row,) = tables.best_layers(table).itertuples()
    assert (row.roi, row.layer, row.n_participants) == ("late_language", 1, 1) and row.alignment == 0.2


def test_equal_layers_give_the_earlier_one():
    table = curves({"P1": [0.1, 0.3, 0.3]})
    assert tables.best_layers(table)["layer"].tolist() == [1]
    shuffled = table.sample(frac=1, random_state=0)
    assert tables.best_layers(shuffled)["layer"].tolist() == [1]


def test_values_fade_in_between_the_threshold_and_a_clear_ceiling():
    study = load_study("demo")
    assert tables.faded(study) == (0.4, 0.6)
    strict = study.encoding.model_copy(update={"ceiling_threshold": 0.7})
    assert tables.faded(study.model_copy(update={"encoding": strict})) == (0.7, pytest.approx(0.8))


def test_a_change_that_is_defined_nowhere_gives_small_print():
    study = load_study("demo")
    fig = tables.draw_change(study, None, np.full(64984, np.nan), "R (%)", "Small print")
    said = " ".join(fig.texts[0].get_text().split())
    assert not fig.axes and "whisper-tiny.en has no change that is defined" in said


def test_a_layer_is_named_from_the_end_where_it_is_counted_so():
    study = load_study("demo")
    for layer, name in {-1: "last layer", -2: "layer 2 from the end", 0: "layer 0"}.items():
        chosen = study.figures.model_copy(update={"layer": layer})
        assert f"a, b: {name};" in tables.what_bars_are(study.model_copy(update={"figures": chosen}), "an interval")
