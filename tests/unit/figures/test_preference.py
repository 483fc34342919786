import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import tiny
from braintuning.figures import preference
from braintuning.preference.pairs import PAIR_TYPES, choose_pairs
from braintuning.results import save_arrays
from braintuning.study import load_study


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    tiny.encoder("hubert").save_pretrained(tmp_path / "backbone")
    return load_study(tiny.write_yaml(tmp_path / "tiny.yaml", tiny.study_content(tmp_path, tmp_path / "backbone")))


def similarities(gain):
    """Preference that rises with layer, and by `gain` of a condition."""
    rows = [
        (participant, "small", condition, layer, pair_type, 0.9 - 0.3 * k, -0.5 + 0.1 * layer + gain.get(condition, 0))
        for participant, condition in (("", "pretrained"), ("P1", "brain-tuned"), ("P2", "brain-tuned"))
        for layer in range(3)
        for k, pair_type in enumerate(PAIR_TYPES)
    ]
    columns = ["participant", "backbone", "condition", "layer", "pair_type", "similarity", "preference"]
    return pd.DataFrame(rows, columns=columns).assign(
        low=lambda t: t["preference"] - 0.1, high=lambda t: t["preference"] + 0.2
    )


def test_statistics_have_every_layer_of_every_tuned_model(study):
    types = choose_pairs(study.preference.n_pairs, study.preference.seed)["pair_type"]
    before = types.map({"same word": 1.0, "synonyms": 0.2, "near homophones": 0.6, "random": 0.0}).to_numpy()
    meant = types.map({"same word": 1.0, "synonyms": 0.5, "near homophones": 0.6, "random": 0.0}).to_numpy()
    for run in study.runs():
        layers = [before, meant if run.condition == "brain-tuned" else before, 0 * before]
        save_arrays(study.preference_file(run), {"similarities": np.array(layers)}, {})
    table = preference.compare(study)
    keys = ["participant", "backbone", "condition", "layer"]
    assert list(table.columns) == [*keys, "difference", "low", "high", "reason"] and not table.duplicated(keys).any()
    assert len(table) == 3 * len(list(study.tuned_runs()))
    values = table.pivot_table(index="condition", columns="layer", values="difference")
    np.testing.assert_allclose(values.loc["brain-tuned", [0, 1]], [0, 0.3], atol=1e-12)
    np.testing.assert_allclose(values.loc["random-brain-tuned", [0, 1]], 0, atol=1e-12)
    empty = table["layer"] == 2
    assert table.loc[empty, "difference"].isna().all() and (table.loc[empty, "reason"] != "").all()
    assert (table.loc[~empty, "reason"] == "").all()


def test_every_line_of_the_figure_is_where_its_numbers_are(study):
    table = similarities({"brain-tuned": 0.2})
    changes = table[(table["condition"] == "brain-tuned") & (table["pair_type"] == PAIR_TYPES[0])]
    changes = changes.assign(difference=0.2, low=0.1, high=0.3)
    with mpl.rc_context():
        fig = preference.draw(study, table, changes, "planted")
    of_layer, change, pairs = fig.axes[:3]
    means = {line.get_label(): line.get_ydata() for line in of_layer.lines}
    np.testing.assert_allclose(means["brain-tuned"], [-0.3, -0.2, -0.1])
    np.testing.assert_allclose(means["pretrained"], [-0.5, -0.4, -0.3])
    changed = {line.get_label(): line.get_ydata() for line in change.lines}
    np.testing.assert_allclose(changed["brain-tuned"], 0.2)
    np.testing.assert_allclose(changed["pretrained"], 0)
    (pretrained_ends, *_) = of_layer.collections[0].get_segments()
    assert pretrained_ends[:, 1].tolist() == pytest.approx([-0.6, -0.3])
    front = max(of_layer.lines, key=lambda line: line.get_zorder())
    assert front.get_label() == "brain-tuned"
    styles = {line.get_linestyle(): line.get_ydata()[0] for line in pairs.lines[:4]}
    assert styles[":"] == pytest.approx(0.9) and styles["-."] == pytest.approx(0.0)
