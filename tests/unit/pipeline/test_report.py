import pandas as pd
import pytest
from braintuning.pipeline.report import times_of_steps

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def test_times_are_added_up_step_by_step(tmp_path):
    jobs = {"tune/a.tsv": (120, 2048), "tune/b.tsv": (60, 1024), "align/P1/a.tsv": (30, 512)}
    for name, (seconds, peak) in jobs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + f"{seconds}\t0:00:00\t{peak}\t1\t1\t1\t1\t1\t1\t1\n")
    (tmp_path / "align" / "P1" / "quick.tsv").write_text(HEAD + "0.2\t0:00:00\t-\t-\t-\t-\t-\t-\t0\t0\n")
    found = times_of_steps(tmp_path)
    assert found["step"].tolist() == ["tune", "align"] and found["jobs"].tolist() == [2, 2]
    assert found["minutes"].tolist() == pytest.approx([3, 0.50333], rel=1e-4)
    assert found["longest"].tolist() == [2, 0.5] and found["peak_gib"].tolist() == [2, 0.5]


def test_a_study_run_by_hand_has_no_times(tmp_path):
    assert times_of_steps(tmp_path / "none").empty
    assert isinstance(times_of_steps(tmp_path), pd.DataFrame)
