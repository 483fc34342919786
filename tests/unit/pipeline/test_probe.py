import corpus_files
import pandas as pd
import pytest
import tiny
from braintuning.pipeline import probe as probe_stage
from braintuning.study import Run, load_study


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
    monkeypatch.setattr(probe_stage, "probed", None)
    assert probe_stage.probe(study, Run("small", "pretrained"), task) == path
