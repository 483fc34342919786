import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from braintuning.alignment import stats
from braintuning.figures import tasks
from braintuning.figures.compare import starred
from braintuning.probes import scores
from braintuning.results import load_arrays, save_arrays
from braintuning.study import load_study
from matplotlib.figure import Figure

CONDITIONS = ("pretrained", "brain-tuned", "random-brain-tuned")
PEOPLE = tuple(f"P{n}" for n in range(1, 7))
GAIN = {
    "pretrained": 0.0,
    "brain-tuned": 0.05,
    "random-brain-tuned": -0.02,
    "multi-brain-tuned": 0.05,
    "stimulus-tuned": 0.0,
}
N_SPEAKERS, N_WORDS = 8, 200


def planted(study):
    """A table of two layers of one task, and the sums it comes from where the stage would leave them."""
    rows = []
    for number, run in enumerate(study.runs()):
        rng = np.random.default_rng(number)
        share = 0.6 + GAIN[run.condition]
        errors = rng.binomial(N_WORDS, 1 - share, size=(3, N_SPEAKERS)).astype(float)
        sums = np.stack([errors, np.full_like(errors, N_WORDS)], axis=2)
        save_arrays(study.probe_file("asr", run), {"sums": sums, "layer": np.arange(3)}, {})
        for layer, validation in ((0, 0.9), (1, 0.6), (2, 0.6)):
            value = float(scores.word_accuracy(sums[layer].sum(axis=0)))
            rows.append(("asr", run.backbone, run.condition, run.participant or "", layer, value, validation))
    columns = "task backbone condition participant layer value validation".split()
    more = {
        "corpus": "spoken sentences",
        "metric": "1 - WER",
        "baseline": 0.0,
        "random_features": 0.0,
        "converged": True,
    }
    return pd.DataFrame(rows, columns=columns).assign(
        **more, n_test_speakers=N_SPEAKERS, low=lambda t: t["value"] - 0.03, high=lambda t: t["value"] + 0.03
    )


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    tiny.encoder("hubert").save_pretrained(tmp_path / "backbone")
    content = tiny.study_content(tmp_path, tmp_path / "backbone") | {
        "participants": list(PEOPLE),
        "conditions": list(CONDITIONS),
        "probes": {"tasks": ["asr"]},
    }
    return load_study(tiny.write_yaml(tmp_path / "tiny.yaml", content))


def test_the_layer_that_validates_best_is_never_the_frozen_one(study):
    chosen = tasks.best_layer(planted(study))
    assert (chosen["layer"] == 1).all() and len(chosen) == 1 + 2 * len(PEOPLE)


def test_each_participant_is_a_pair_of_models_and_people_are_tested_over_participants(study):
    table = planted(study)
    found = tasks.compare(study, table)
    assert found.groupby("against")["participant"].apply(list).tolist() == [[*PEOPLE, "all"]] * 2
    assert set(found.columns) >= {"task", "backbone", "test", "q", "n_test_speakers"}
    value = tasks.best_layer(table).set_index(["condition", "participant"])["value"]
    pretrained, single = value["pretrained", ""], found[found["against"] == "pretrained"].set_index("participant")
    differences = [value["brain-tuned", person] - pretrained for person in PEOPLE]
    assert single.loc[list(PEOPLE), "difference"].to_numpy() == pytest.approx(differences)
    assert single.loc["all", "difference"] == pytest.approx(np.mean(differences))
    assert single.loc["all", "p"] == pytest.approx(stats.signed_rank_p(differences))
    for over in (found["participant"] == "all", found["participant"] != "all"):
        assert found.loc[over, "q"].to_numpy() == pytest.approx(
            stats.false_discovery_q(found.loc[over, "p"].to_numpy())
        )


def test_intervals_are_over_the_speakers_whose_sums_are_kept_and_not_those_of_an_earlier_table(study):
    table = planted(study)
    for run in study.runs():
        chosen = (table["condition"] == run.condition) & (table["participant"] == (run.participant or ""))
        table[chosen].to_csv(study.probe_file("asr", run).with_suffix(".csv"), index=False)
    for row in tasks.gather(study).itertuples():
        sums = load_arrays(study.probe_file("asr", study.run(row.backbone, row.condition, row.participant or None)))
        ends = stats.mean_interval(1 - sums["sums"][row.layer][:, 0] / N_WORDS)
        assert (row.low, row.high) == pytest.approx(ends)


def test_jointly_tuned_models_are_one_pair_that_earns_no_star(study, tmp_path):
    content = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    content["conditions"] = ["pretrained", "multi-brain-tuned"]
    joint = load_study(tiny.write_yaml(tmp_path / "joint.yaml", content | {"tuned_together": list(PEOPLE)}))
    table = planted(joint)
    found = tasks.compare(joint, table)
    value = tasks.best_layer(table).set_index("condition")["value"]
    assert found[["against", "participant", "n_participants"]].values.tolist() == [["pretrained", "", 1]]
    assert found["difference"].tolist() == pytest.approx([value["multi-brain-tuned"] - value["pretrained"]])
    assert found["q"].tolist() == found["p"].tolist() and starred(found, 1.1).empty
    content["conditions"] = ["pretrained", "stimulus-tuned"]
    untreated = load_study(tiny.write_yaml(tmp_path / "untreated.yaml", content))
    assert tasks.compare(untreated, planted(untreated)).empty


def test_a_star_is_only_for_people_and_never_from_fewer_than_six(study):
    statistics = tasks.compare(study, planted(study))
    assert set(starred(statistics)["participant"]) <= {"all"}
    few = [row for row in statistics.to_dict("records") if row["participant"] in PEOPLE][:5]
    assert np.isnan(tasks._over(few)["p"])


def test_a_panel_shows_what_it_rests_on(study):
    fig, table = Figure(), tasks.best_layer(planted(study))
    ax = fig.add_subplot()
    tasks.panel(ax, table, ["small"], CONDITIONS)
    assert ax.get_title() == "Speech recognition: spoken sentences (stand-in)"
    assert [text.get_text() for text in ax.texts] == ["8 test speakers, layer 1"]
    first = table.index == table.index[0]
    unsettled = Figure().add_subplot()
    tasks.panel(unsettled, table.assign(converged=~first), ["small"], CONDITIONS)
    assert unsettled.texts[0].get_text() == "8 test speakers, layer 1, 1 of 13 fits not converged"
    means = table.groupby("condition")["value"].mean()
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([means[c] for c in CONDITIONS])
    connected = [line.get_ydata() for line in ax.lines if line.get_linestyle() == "-" and len(line.get_ydata()) == 3]
    connected = [y for y in connected if np.isfinite(y).sum() > 1]
    assert len(connected) == len(PEOPLE) and all(np.isnan(y[0]) for y in connected)
    (interval,) = [c for c in ax.collections if len(c.get_segments()) == 1]
    pretrained = table[table["condition"] == "pretrained"].iloc[0]
    assert interval.get_segments()[0][:, 1] == pytest.approx([pretrained["low"], pretrained["high"]])
    assert ax.get_ylim()[0] == 0


def test_random_features_have_a_line_for_each_score_that_they_reach(study):
    table = pd.concat(
        [
            tasks.best_layer(planted(study)).assign(backbone=name, random_features=level)
            for name, level in (("small", 0.25), ("large", 0.125))
        ]
    )
    ax = Figure().add_subplot()
    tasks.panel(ax, table, ["small", "large"], CONDITIONS)
    dotted = {float(line.get_ydata()[0]) for line in ax.lines if line.get_linestyle() == ":"}
    assert dotted == {0.25, 0.125}


def test_a_backbone_no_better_than_silence_is_marked(study):
    table = tasks.best_layer(planted(study))
    ax = Figure().add_subplot()
    tasks.panel(ax, table, ["small"], CONDITIONS)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["small"]
    ax = Figure().add_subplot()
    tasks.panel(ax, table.assign(value=0.0, low=0.0, high=0.0, random_features=0.01), ["small"], CONDITIONS)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["small\n(at floor)"]


def test_the_figure_leaves_out_variants_and_names_conditions_row_by_row(study):
    table = planted(study)
    figure = tasks.draw(study, table, tasks.compare(study, table), "note")
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {*CONDITIONS, "most frequent answer", "random features"}
    assert figure.axes[0].get_title(loc="left") == "a"


@pytest.mark.parametrize(("corpus", "kind"), [("spoken sentences", "stand-in"), ("LibriSpeech", "real")])
def test_a_panel_says_whether_its_corpus_is_real(study, corpus, kind):
    shown = tasks.shown(study, planted(study).assign(corpus=corpus))
    ax = Figure().subplots()
    tasks.panel(ax, shown, study.tuned_backbones, CONDITIONS)
    assert ax.get_title() == f"Speech recognition: {corpus} ({kind})"
