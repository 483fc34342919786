import pandas as pd
import pytest
from braintuning.pipeline.report import times_of_steps
from braintuning.pipeline.times import write_times


def test_times_are_added_up_step_by_step(tmp_path):
    jobs = {"tune/a": (120, 60, 2048), "tune/b": (60, 90, 1024), "align/P1/a": (30, 15, 512), "align/P1/b": (0.2, 0, 9)}
    for name, (seconds, cpu, peak) in jobs.items():
        write_times(tmp_path / f"{name}.tsv", seconds, cpu, peak)
    found = times_of_steps(tmp_path)
    assert found["step"].tolist() == ["tune", "align"] and found["jobs"].tolist() == [2, 2]
    assert found["minutes"].tolist() == pytest.approx([3, 0.50333], rel=1e-4)
    assert found["cpu_minutes"].tolist() == [2.5, 0.25]
    assert found["longest"].tolist() == [2, 0.5] and found["peak_gib"].tolist() == [2, 0.5]


def test_a_study_run_by_hand_has_no_times(tmp_path):
    assert times_of_steps(tmp_path / "none").empty
    assert isinstance(times_of_steps(tmp_path), pd.DataFrame)
