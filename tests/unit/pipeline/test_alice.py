import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
from braintuning.datasets.alice import REGIONS
from braintuning.figures.alice import differences, draw
from braintuning.pipeline import alice
from braintuning.pipeline.alice import (
    align_on_last_minutes,
    groups_of,
    parts_of,
    tune_on_alice,
)
from braintuning.pipeline.recipes import ALICE_CONDITIONS, HELD_OUT, MEANS, TUNED_TOGETHER
from braintuning.study import load_study
from safetensors.torch import load_file
from scipy import stats
from tiny_alice import N_ROWS, PEOPLE, SECONDS, TR, courses, save

TIMES = np.arange(10, 372) * 2.0


def test_no_minute_is_used_twice_and_none_that_tests_is_fitted():
    parts = {name: TIMES[rows] for name, rows in parts_of(TIMES).items()}
    assert parts["train"].max() <= 480 < parts["validation"].min()
    assert parts["validation"].max() <= 540 < parts["test"].min()
    assert parts["test"].max() - parts["test"].min() == pytest.approx(180, abs=2.1)
    assert sorted([*parts["train"], *parts["validation"]]) == parts["fitted"].tolist()


def test_everybody_tunes_or_is_held_out():
    names = tuple(f"s{i:02d}" for i in range(17))
    groups = groups_of(names)
    assert sorted(groups[TUNED_TOGETHER] + groups[HELD_OUT]) == list(names)
    assert len(groups[HELD_OUT]) == 6 and not set(groups[TUNED_TOGETHER]) & set(groups[HELD_OUT])


@pytest.fixture
def table():
    rng, gain = np.random.default_rng(1), {"multi-brain-tuned": 0.1}
    rows = [
        (group, f"{group[0]}{i}", condition, roi, layer, rng.normal(0.1 + gain.get(condition, 0), 0.05))
        for group, count in ((TUNED_TOGETHER, 8), (HELD_OUT, 5), (MEANS, 2))
        for i in range(count)
        for condition in ALICE_CONDITIONS
        for roi in REGIONS
        for layer in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["group", "participant", "condition", "roi", "layer", "r"])


def test_differences_are_those_of_scipy_and_have_no_p_with_five_people(table):
    found = differences(table).set_index(["condition", "group", "roi"])
    last = table[table["layer"] == 1].pivot(index=["group", "roi", "participant"], columns="condition", values="r")
    change = (last["multi-brain-tuned"] - last["pretrained"]).loc[TUNED_TOGETHER, "LATL"]
    assert MEANS not in found.index.get_level_values("group")  # two means are no sample of people
    row = found.loc[("multi-brain-tuned", TUNED_TOGETHER, "LATL")]
    assert row["difference"] == pytest.approx(change.mean())
    assert row["p"] == pytest.approx(stats.wilcoxon(change).pvalue)
    assert row["low"] < row["difference"] < row["high"]
    assert found.xs(HELD_OUT, level="group")["p"].isna().all()
    every = last.groupby(["group", "participant"]).mean()
    expected = (every[ALICE_CONDITIONS[2]] - every["pretrained"]).loc[HELD_OUT].mean()
    assert found.loc[(ALICE_CONDITIONS[2], HELD_OUT, "all"), "difference"] == pytest.approx(expected)


def test_the_figure_has_a_point_for_each_participant(table):
    left = draw(table).axes[0]
    points = [len(line.get_xdata()) for line in left.lines if line.get_marker() == "o"]
    assert points == [3] * (8 + 5 + 2)


@pytest.fixture
def make_study(tmp_path, monkeypatch):
    """A study of four people and 90 volumes, of which 50 fit and 25 test, whose responses can be changed."""
    for name, seconds in (("FITTED_SECONDS", 120.0), ("VALIDATED_SECONDS", 40.0), ("TESTED_SECONDS", 50.0)):
        monkeypatch.setattr(alice, name, seconds)
    tiny.encoder("hubert").save_pretrained(tmp_path / "backbone")

    def make(name, change=lambda participant, values: values):
        root = tmp_path / name
        for number, participant in enumerate(PEOPLE):
            save(root, participant, change(participant, courses(number)))
        soundfile.write(root / "sound.flac", tiny.sound(5, SECONDS), 16_000)
        monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / name / "results"))
        monkeypatch.setenv("BRAINTUNING_FIGURES", str(tmp_path / name / "figures"))
        content = {
            "name": "tiny-alice", "title": "A tiny Alice", "conditions": ["pretrained"],
            "dataset": {"kind": "alice", "root": str(root), "tr": TR},
            "stories": {"train": ["alice"], "test": []},
            "backbones": {"small": {"name": str(tmp_path / "backbone"), "pad_to_30s": False}},
            "tuning": {"clip_seconds": 2.0, "epochs": 1, "batch_size": 16, "lora_rank": 2, "permutation_block_rows": 4},
            "features": {"window_seconds": 2.0, "hop_seconds": 2.0, "step_seconds": 0.5, "batch_size": 32},
            "encoding": {"delays": [1, 2], "n_alphas": 3, "validation_chunk_rows": 10, "high_pass_seconds": 32.0},
            "figures": {"notebooks": ["alice_joint"]},
        }  # fmt: skip
        return load_study(tiny.write_yaml(tmp_path / f"{name}.yaml", content))

    return make


def weights(study, condition):
    folder = tune_on_alice(study, condition)
    return {
        name: tensor.numpy()
        for file in ("model", "head")
        for name, tensor in load_file(folder / f"{file}.safetensors").items()
    }


def same(a, b):
    return all((a[name] == b[name]).all() for name in a)


def test_neither_held_out_people_nor_the_tested_minutes_reach_the_joint_model(make_study):
    held_out = groups_of(PEOPLE)[HELD_OUT]
    tested = parts_of((np.arange(N_ROWS) + 10) * TR)["test"]

    def unseen_changed(participant, values):
        values[tested] += 100 * np.random.default_rng(8).standard_normal(values[tested].shape)
        return values[::-1] if participant in held_out else values

    def one_tuned_changed(participant, values):
        return values[::-1] if participant == "s24" else values

    plain = weights(make_study("plain"), "multi-brain-tuned")
    assert "s24" not in held_out
    assert same(plain, weights(make_study("unseen"), "multi-brain-tuned"))
    assert same(plain, weights(make_study("unseen-changed", unseen_changed), "multi-brain-tuned"))
    assert not same(plain, weights(make_study("tuned-changed", one_tuned_changed), "multi-brain-tuned"))


def test_everybody_is_scored_with_every_model_and_layer_in_the_tested_minutes(make_study):
    study = make_study("plain")
    table = align_on_last_minutes(study)
    assert len(table) == len(table.drop_duplicates(["condition", "participant", "roi", "layer"])) == 3 * (4 + 2) * 6 * 3
    assert table["r"].between(-1, 1).all()
    last = table[table["layer"] == 2].pivot(index=["participant", "roi"], columns="condition", values="r")
    assert not np.allclose(last["pretrained"], last["multi-brain-tuned"])
    assert not np.allclose(last["multi-brain-tuned"], last["multi-random-brain-tuned"])
    tested = parts_of((np.arange(N_ROWS) + 10) * TR)["test"]
    first = np.stack([courses(number)[tested, 0] for number in range(len(PEOPLE))])
    first = np.stack([alice.detrend(course[:, None], TR, 32.0)[:, 0] for course in first])
    expected = np.corrcoef(first[0], first[1:].mean(axis=0))[0, 1]
    found = table[(table["participant"] == "s18") & (table["roi"] == "LATL")]["noise_ceiling"]
    assert found.to_numpy() == pytest.approx(expected)
    groups = [[PEOPLE.index(name) for name in names] for names in groups_of(PEOPLE).values()]
    means = [first[some].mean(axis=0) for some in groups]
    of_means = table[(table["group"] == MEANS) & (table["roi"] == "LATL")]
    assert set(of_means["participant"]) == {TUNED_TOGETHER, HELD_OUT}
    assert of_means["noise_ceiling"].to_numpy() == pytest.approx(np.corrcoef(*means)[0, 1])
