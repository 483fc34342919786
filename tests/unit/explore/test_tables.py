import numpy as np
import pandas as pd
import pytest
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels
from braintuning.explore.results import open_source, with_results
from braintuning.explore.tables import Tables
from braintuning.results import REPOSITORY
from braintuning.study import Run, load_study
from tiny import refused

RUN = Run("whisper-tiny.en", "brain-tuned")


@pytest.fixture
def source(monkeypatch, tmp_path):
    """The committed table of a study whose results are elsewhere."""
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("BRAINTUNING_FIGURES", raising=False)
    return open_source(load_study("demo-full"))


@pytest.fixture
def table():
    found = pd.read_csv(REPOSITORY / "figures" / "demo-full" / "fig2.csv")
    return found[(found["participant"] == "SIM02") & (found["backbone"] == "whisper-tiny.en")]


def value(table, condition, layer, roi):
    rows = table[(table["condition"] == condition) & (table["layer"] == layer) & (table["roi"] == roi)]
    (found,) = rows["alignment"]
    return found


def test_committed_tables_are_shown_where_there_are_no_results(source):
    assert type(source) is Tables and not source.has_courses
    assert "demo-full" in with_results()
    assert ("SIM02", RUN) in source.models
    assert source.n_layers("SIM02", RUN) == 5


def test_each_region_has_the_alignment_of_its_narrowest_group(source, table):
    shown, labels = source.values("SIM02", RUN, 3), hcp_mmp_labels()
    narrowest = {"A1": "primary_auditory", "LBelt": "early_auditory", "PGi": "angular_gyrus", "A5": "lateral_temporal"}
    narrowest |= {"44": "inferior_middle_frontal", "STSvp": "late_language"}
    for region, group in narrowest.items():
        expected = value(table, "brain-tuned", 3, group)
        np.testing.assert_allclose(shown[labels == region], expected)
        vertex = int(np.flatnonzero(labels == region)[0])
        place = source.place_at("SIM02", vertex)
        assert set(GROUPS[group]) == set(labels[place.vertices].tolist())
        found = source.scores("SIM02", place).set_index(["backbone", "condition", "layer"])["alignment"]
        assert found["whisper-tiny.en", "brain-tuned", 3] == pytest.approx(expected)
    assert np.isnan(shown[labels == "V1"]).all()
    assert source.place_at("SIM02", int(np.flatnonzero(labels == "V1")[0])) is None


def test_what_tables_do_not_have_is_named(source):
    refused(lambda: source.values("SIM02", RUN, 3, "noise ceiling"), "only tables", "not noise ceiling")
    refused(lambda: source.place("SIM02", "Late language"), "did you mean 'Late language regions'")
    refused(lambda: source.place("SIM02", "Primary and early auditory cortex"), "unknown")
