import numpy as np
import pandas as pd
import pytest
import tiny
from braintuning.figures import preference
from braintuning.pipeline import preference as preference_step
from braintuning.pipeline.check import check
from braintuning.pipeline.preference import load_words, semantic_preference, synthesise_words, words_to_say
from braintuning.preference.pairs import PAIR_TYPES
from braintuning.results import load_arrays
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
    table = preference.gather(study, recorded=True)
    assert set(table["condition"]) == {"pretrained"} and set(table["pair_type"]) == set(PAIR_TYPES)


def test_recordings_without_alignments_are_named(study, tmp_path):
    spoilt, run = with_recordings(study, tmp_path), Run("small", "pretrained")
    refused(lambda: semantic_preference(spoilt, run, from_recordings=True), tmp_path / "alignments.jsonl", "nothing")
    figures = study.figures.model_copy(update={"notebooks": ("fig5",)})
    refused(lambda: check(spoilt.model_copy(update={"figures": figures})), tmp_path / "alignments.jsonl", "nothing")


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
