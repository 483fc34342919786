import numpy as np
import pandas as pd
import pytest
import tiny
from braintuning.figures import preference as figure5
from braintuning.figures import style as plots
from braintuning.pipeline import preference as preference_step
from braintuning.pipeline.preference import load_words, semantic_preference, synthesise_words, words_to_say
from braintuning.preference.pairs import PAIR_TYPES
from braintuning.results import load_arrays, save_arrays
from braintuning.study import Run, load_study
from tiny import refused

COLUMNS = "participant backbone condition layer pair_type similarity preference low high".split()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of one random model and a few word pairs, its words said."""
    folder = tmp_path_factory.mktemp("preference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINTUNING_RESULTS", str(folder / "results"))
        tiny.encoder("hubert").save_pretrained(folder / "backbone")
        content = {**tiny.study_content(tiny.write_dataset(folder / "ds").root, folder / "backbone")}
        content |= {"conditions": ["pretrained"], "preference": {"n_pairs": 4}}
        yield load_study(tiny.write_yaml(folder / "tiny.yaml", content))


def test_every_word_is_synthesised_in_every_voice_and_kept(study, monkeypatch):
    pairs, words = words_to_say(study)
    assert pairs["pair_type"].value_counts().to_dict() == dict.fromkeys(PAIR_TYPES, 4)
    synthesise_words(study)
    said = load_words(study)
    assert [(w.word, w.speaker) for w in said] == [(w, v) for v in study.preference.voices for w in words]
    assert len(study.preference.voices) == 4
    tiny.forbid(monkeypatch, preference_step, "synthesised")
    synthesise_words(study)
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(said, load_words(study), strict=True))


def test_words_that_are_not_synthesised_yet_are_named(study, tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path))
    refused(lambda: semantic_preference(study, Run("small", "pretrained")), "words.h5", "an earlier step")


def test_the_table_has_every_layer_and_type_and_a_whole_result_is_kept(study, monkeypatch):
    synthesise_words(study)
    path = semantic_preference(study, Run("small", "pretrained"))
    table = pd.read_csv(path.with_suffix(".csv"))
    assert [column for column in table.columns if column in COLUMNS] == COLUMNS
    assert len(table) == 3 * len(PAIR_TYPES) and not table.duplicated(["layer", "pair_type"]).any()
    assert load_arrays(path)["similarities"].shape == (3, 4 * len(PAIR_TYPES))
    before = path.stat().st_mtime_ns
    tiny.forbid(monkeypatch, preference_step, "word_states")
    assert semantic_preference(study, Run("small", "pretrained")).stat().st_mtime_ns == before


def with_recordings(study, folder):
    return study.model_copy(
        update={"preference": study.preference.model_copy(update={"recordings": folder and str(folder)})}
    )


def test_words_of_recordings_make_a_table_of_their_own(study, tmp_path, monkeypatch):
    synthesise_words(study)
    said = load_words(study)
    monkeypatch.setattr(preference_step, "recorded", lambda folder, wanted: said)
    (tmp_path / "alignments.jsonl").write_text("{}")
    path = semantic_preference(with_recordings(study, tmp_path), Run("small", "pretrained"), from_recordings=True)
    assert path != study.preference_file(Run("small", "pretrained")) and path.with_suffix(".csv").is_file()
    table = figure5.gather(study, recorded=True)
    assert set(table["condition"]) == {"pretrained"} and set(table["pair_type"]) == set(PAIR_TYPES)


def test_recordings_that_are_not_here_are_left_out_of_the_study_and_refused_where_asked_for(study, tmp_path):
    assert with_recordings(study, None).recordings is None
    assert with_recordings(study, tmp_path).recordings == tmp_path
    without = with_recordings(study, tmp_path / "none")
    assert without.recordings is None
    refused(lambda: semantic_preference(without, Run("small", "pretrained"), from_recordings=True), "no folder")


def test_bad_settings_are_named(study, tmp_path):
    content = tiny.study_content(study.root, tmp_path)
    for wrong, part in (({"voices": ["clara"]}, "voices"), ({"n_pairs": 1}, "n_pairs"), ({"pairs": 3}, "n_pairs")):
        path = tiny.write_yaml(tmp_path / "bad.yaml", {**content, "preference": wrong})
        refused(lambda path=path: load_study(path), part)


def similarities(gain):
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


def test_statistics_have_every_layer_of_every_tuned_model(study, tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path))
    tuned = load_study(tiny.write_yaml(tmp_path / "t.yaml", tiny.study_content(study.root, tmp_path)))
    types = words_to_say(tuned)[0]["pair_type"]
    before = types.map({"same word": 1.0, "synonyms": 0.2, "near homophones": 0.6, "random": 0.0}).to_numpy()
    meant = types.map({"same word": 1.0, "synonyms": 0.5, "near homophones": 0.6, "random": 0.0}).to_numpy()
    for run in tuned.runs():
        similarities = [before, meant if run.condition == "brain-tuned" else before, 0 * before]
        save_arrays(tuned.preference_file(run), {"similarities": np.array(similarities)}, {})
    table = figure5.compare(tuned)
    keys = ["participant", "backbone", "condition", "layer"]
    assert list(table.columns) == [*keys, "difference", "low", "high", "reason"] and not table.duplicated(keys).any()
    assert len(table) == 3 * len(list(tuned.tuned_runs()))
    values = table.pivot_table(index="condition", columns="layer", values="difference")
    np.testing.assert_allclose(values.loc["brain-tuned", [0, 1]], [0, 0.3], atol=1e-12)
    np.testing.assert_allclose(values.loc["random-brain-tuned", [0, 1]], 0, atol=1e-12)
    empty = table["layer"] == 2
    assert table.loc[empty, "difference"].isna().all() and (table.loc[empty, "reason"] != "").all()
    assert (table.loc[~empty, "reason"] == "").all()


def test_change_is_from_the_same_backbone_and_layer_pretrained():
    changed = figure5.with_change(similarities({"brain-tuned": 0.2}))
    assert changed.loc[changed["condition"] == "brain-tuned", "change"].to_numpy() == pytest.approx(0.2)
    assert (changed.loc[changed["condition"] == "pretrained", "change"] == 0).all()


def test_every_line_of_the_figure_is_where_its_numbers_are(study, tmp_path):
    content = tiny.study_content(study.root, tmp_path)
    tuned = load_study(tiny.write_yaml(tmp_path / "tuned.yaml", content))
    with plots.mpl.rc_context():
        fig = figure5.draw(tuned, similarities({"brain-tuned": 0.2}), "planted")
    preference, change, pairs = fig.axes[:3]
    means = {line.get_label(): line.get_ydata() for line in preference.lines}
    np.testing.assert_allclose(means["brain-tuned"], [-0.3, -0.2, -0.1])
    np.testing.assert_allclose(means["pretrained"], [-0.5, -0.4, -0.3])
    np.testing.assert_allclose({line.get_label(): line.get_ydata() for line in change.lines}["brain-tuned"], 0.2)
    (pretrained_ends, *_) = preference.collections[0].get_segments()
    assert pretrained_ends[:, 1].tolist() == pytest.approx([-0.6, -0.3])
    front = max(preference.lines, key=lambda line: line.get_zorder())
    assert front.get_label() == "brain-tuned"
    styles = {line.get_linestyle(): line.get_ydata()[0] for line in pairs.lines[:4]}
    assert styles[":"] == pytest.approx(0.9) and styles["-."] == pytest.approx(0.0)
