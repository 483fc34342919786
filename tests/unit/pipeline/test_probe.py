import shutil

import corpus_files
import pandas as pd
import pytest
import tiny
from braintuning.pipeline import probe as probe_stage
from braintuning.study import Run, load_study
from braintuning.study.settings import Probes


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    tiny.encoder("hubert").save_pretrained(tmp_path / "backbone")
    (tmp_path / "speech").mkdir()
    corpus_files.write_aligned(tmp_path / "speech", 20)
    content = tiny.study_content(tmp_path, tmp_path / "backbone") | {
        "probes": {
            "tasks": ["phonemes", "mfcc"],
            "corpora": {task: str(tmp_path / "speech") for task in ("phonemes", "mfcc")},
        }
    }
    return load_study(tiny.write_yaml(tmp_path / "tiny.yaml", content))


@pytest.mark.parametrize("task", ["phonemes", "mfcc"])
def test_the_stage_leaves_a_table_of_all_layers_and_keeps_it(study, task, monkeypatch):
    path = probe_stage.probe(study, Run("small", "pretrained"), task)
    table = pd.read_csv(path.with_suffix(".csv"))
    assert table["layer"].tolist() == [0, 1, 2] and set(table["corpus"]) == {"aligned speech"}
    wanted = "task corpus family condition participant layer metric value low high n_train n_test baseline".split()
    assert set(wanted) <= set(table.columns) and table["n_train"][0] == 12 and table["n_test"][0] == 5
    monkeypatch.setattr(probe_stage, "load_encoder", None)
    assert probe_stage.probe(study, Run("small", "pretrained"), task) == path


def test_a_corpus_that_is_absent_is_refused_or_where_the_study_says_so_spoken(study, tmp_path, monkeypatch):
    probes = study.probes.model_dump() | {"corpora": {"mfcc": str(tmp_path / "nowhere")}, "tasks": ("mfcc",)}

    def with_stand_in(allowed):
        return study.model_copy(update={"probes": Probes(**probes | {"stand_in_where_absent": allowed})})

    monkeypatch.setattr(probe_stage, "stand_in_corpus", lambda name, seed: tmp_path / "speech")
    tiny.refused(lambda: probe_stage.probe(with_stand_in(False), Run("small", "pretrained"), "mfcc"), "no such folder")
    path = probe_stage.probe(with_stand_in(True), Run("small", "pretrained"), "mfcc").with_suffix(".csv")
    assert set(pd.read_csv(path)["corpus"]) == {"spoken sentences"}
    shutil.copytree(tmp_path / "speech", tmp_path / "nowhere")
    assert with_stand_in(True).probes.corpus("mfcc") == tmp_path / "nowhere"
    path = probe_stage.probe(with_stand_in(True), Run("small", "pretrained"), "mfcc").with_suffix(".csv")
    assert set(pd.read_csv(path)["corpus"]) == {"aligned speech"}
