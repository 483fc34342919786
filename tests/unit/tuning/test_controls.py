from types import SimpleNamespace

import numpy as np
import pytest
from braintuning.errors import InputError
from braintuning.study import load_study
from braintuning.tuning.controls import permute_blocks


@pytest.mark.parametrize(
    ("rows", "block"), [(11, 10), (20, 10), (21, 10), (29, 10), (291, 10), (30, 7), (2, 1), (300, 1), (19, 18)]
)
def test_every_block_moves_whole_and_no_row_keeps_its_place(rows, block):
    blocks = [list(range(start, min(start + block, rows))) for start in range(0, rows, block)]
    for seed in range(30):
        order = permute_blocks(rows, block, np.random.default_rng(seed)).tolist()
        assert sorted(order) == list(range(rows))
        assert all(row != place for place, row in enumerate(order))
        farthest = np.abs(np.array(order) - np.arange(rows)).min()
        assert farthest >= block or rows < 4 * block, "a row stays near the sound that evoked it"
        for one in blocks:
            place = order.index(one[0])
            assert order[place : place + len(one)] == one


def test_order_is_random_and_repeatable():
    orders = [permute_blocks(100, 10, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_every_arrangement_that_moves_all_blocks_is_as_likely():
    rng = np.random.default_rng(0)
    drawn = [tuple(permute_blocks(4, 1, rng)) for _ in range(1800)]
    counts = [drawn.count(order) for order in set(drawn)]
    assert len(counts) == 9
    assert 150 < min(counts) and max(counts) < 250


@pytest.mark.parametrize("rows", [0, 3, 10])
def test_one_block_cannot_be_permuted(rows):
    with pytest.raises(InputError, match=f"found {rows} rows, expected more than one block of 10"):
        permute_blocks(rows, 10, np.random.default_rng(0))


def test_trap_control_sees_another_window_than_treatment(monkeypatch):
    from braintuning.pipeline import tune as tune_stage
    from braintuning.tuning.joint import CommonCortex

    study = load_study("demo")
    responses = np.arange(47, dtype=np.float32)[:, None]
    dataset = SimpleNamespace(
        responses=lambda participant, story, used: responses,
        audio=lambda story: np.arange(100, dtype=np.float32),
        tr_times=lambda story: np.arange(47) * 2.0045,
        n_voxels=lambda participant: 1,
    )
    monkeypatch.setattr(tune_stage, "_shared_head", lambda *_: CommonCortex(np.arange(1)))
    treatment, control = (
        tune_stage.learning_material(study, study.run("whisper-tiny.en", condition, "SIM01"), dataset)[0]["thewell"]
        for condition in ("brain-tuned", "random-brain-tuned")
    )
    np.testing.assert_array_equal(control.audio, treatment.audio)
    np.testing.assert_array_equal(control.times, treatment.times)
    np.testing.assert_array_equal(treatment.of_each[0], responses)
    assert (control.of_each[0] != responses).all()
    assert sorted(control.of_each[0][:, 0]) == list(range(47))
