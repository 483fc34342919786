"""Doses of the tiny study: models tuned on more and on less, the table of their gains, and Figure C1 from it."""

import numpy as np
import pytest
import steps
import tiny
from braintuning.datasets import open_dataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.errors import InputError
from braintuning.figures import dose, tables
from braintuning.pipeline.recipes import inputs_of
from braintuning.pipeline.tune import learning_material
from braintuning.study import Run, load_study
from matplotlib.colors import to_hex
from tiny import PARTICIPANTS, TEST, TR, TRAIN

CLIPS = {"targets": "voxels", "head_start": "zero", "context_seconds": 0.0}
VARIANTS = {
    "one": {"condition": "brain-tuned", "n_stories": 1},
    "one-permuted": {"condition": "random-brain-tuned", "n_stories": 1},
    "two": {"condition": "brain-tuned", "n_stories": 2},
    "two-permuted": {"condition": "random-brain-tuned", "n_stories": 2},
    "one-joint": {"condition": "multi-brain-tuned", "n_stories": 1, "n_together": 2},
    "one-joint-permuted": {"condition": "multi-random-brain-tuned", "n_stories": 1, "n_together": 2},
    "clips": {"condition": "brain-tuned", "n_stories": 2, "tuning": CLIPS},
    "longer-permuted": {"condition": "random-brain-tuned", "n_stories": 2, "tuning": {**CLIPS, "epochs": 2}},
}
WAY, CLIPS_WAY = "components, ridge head, spans of 4 s", "voxels, zero head, clips"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doses")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINTUNING_RESULTS", str(folder / "results"))
        patch.setenv("BRAINTUNING_FIGURES", str(folder / "figures"))
        patch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
        files = tiny.write_dataset(folder / "ds")
        tiny.encoder("hubert").save_pretrained(folder / "backbone")
        content = tiny.study_content(files.root, folder / "backbone")
        content |= {
            "conditions": ["pretrained", *VARIANTS],
            "variants": VARIANTS,
            "tuned_together": list(PARTICIPANTS),
            "joint_tuning": {"lora_rank": None, "trunk_learning_rate": 5e-5},
            "stories": {"train": [TRAIN[0], "kitchen"], "validation": [TRAIN[1]], "test": list(TEST)},
            "figures": {"notebooks": ["figC1"]},
        }
        content["tuning"] |= {"epochs": 1, "targets": "components", "n_components": 2, "head_start": "ridge"}
        content["tuning"] |= {"context_seconds": 4.0}
        content["encoding"] |= {"permutation_block_rows": 3, "permutations": 50}
        yield load_study(tiny.write_yaml(folder / "tiny.yaml", content))


@pytest.fixture(scope="module")
def gathered(study):
    for participant, run in study.alignments():
        steps.aligned(study, participant, run)
    return dose.gather(study, open_dataset(study))


def test_every_dose_has_a_control_that_was_tuned_in_the_same_way_on_as_much(study):
    controls = {run.condition: control and control.condition for run, control in dose.doses(study)}
    expected = {"one": "one-permuted", "two": "two-permuted", "one-joint": "one-joint-permuted", "clips": None}
    assert controls == expected
    for run, control in dose.doses(study):
        assert control is None or control.participant == run.participant


def test_the_table_has_each_gain_that_the_scores_have(study, gathered):
    table, values = gathered
    assert len(table) == 2 * (2 * 3 + 1) == len(values)
    assert (table["low"] <= table["high"]).all() and table["p"].between(1 / 51, 1).all()
    scores = tables.read_tables(study.scores_file(p, run) for p, run in study.alignments())
    last = tables.at_layer(scores[scores["roi"] == dose.ROI], -1).set_index(["participant", "condition"])["alignment"]
    for row in table.itertuples():
        expected = last[row.participant, row.condition] - last[row.participant, row.reference]
        assert row.gain == pytest.approx(expected, abs=1e-5)
    assert set(table["tuning"]) == {WAY, CLIPS_WAY}
    assert table[["study", "git_commit", "versions", "recipe"]].notna().all().all() and table["noise"].isna().all()


def test_the_table_says_how_much_was_heard_by_how_many(study, gathered):
    table, dataset = gathered[0], open_dataset(study)
    heard = {1: [TRAIN[0]], 2: [TRAIN[0], "kitchen"]}
    for row in table.itertuples():
        volumes = sum(len(dataset.responses("P1", story)) for story in heard[row.n_stories])
        assert row.minutes == pytest.approx(volumes * TR / 60)
        assert row.participants == (2 if row.condition == "one-joint" else 1)
    alone = table[table["participants"] == 1].groupby("participant")["ceiling"].first()
    joint = table.loc[table["participants"] == 2, "ceiling"]
    np.testing.assert_allclose(joint, np.sqrt(np.mean(alone**2)))
    for participant, ceiling in alone.items():
        labels = tiny.voxel_labels()
        inside = dose.members(labels, dose.ROI)
        by_hand = np.nan_to_num(tiny.ceiling_by_hand(dataset.repeats(participant, TEST[0])))[inside]
        assert ceiling == pytest.approx(np.sqrt(np.mean(by_hand**2)), abs=0.05)


def test_what_the_notebook_reads_is_what_the_table_needs(study):
    wanted = {study.scores_file(p, run) for p, run in study.alignments()}
    assert wanted <= set(inputs_of(study, "figC1"))


def test_the_joint_control_has_the_responses_of_each_in_another_order(study):
    dataset = open_dataset(study)
    (true, _), (permuted, _) = (
        learning_material(study, Run("small", condition), dataset) for condition in ("one-joint", "one-joint-permuted")
    )
    assert list(true) == list(permuted) == [TRAIN[0]]
    for of_true, of_permuted in zip(true[TRAIN[0]].of_each, permuted[TRAIN[0]].of_each, strict=True):
        assert not np.array_equal(of_true, of_permuted)
        np.testing.assert_array_equal(np.sort(of_true, axis=0), np.sort(of_permuted, axis=0))
    one, other = true[TRAIN[0]].of_each
    order = [int(np.flatnonzero((one == row).all(axis=1))[0]) for row in permuted[TRAIN[0]].of_each[0]]
    np.testing.assert_array_equal(permuted[TRAIN[0]].of_each[1], other[order])


def test_laws_answers_and_figure_follow_from_the_table(study, gathered):
    table, values = gathered
    laws = dose.laws(table, values)
    assert set(laws) == {(WAY, over) for over in dose.REFERENCES}  # clips have one dose
    longer = table.assign(minutes=table["minutes"].where(table["participant"] == "P1", table["minutes"] + 0.1))
    assert set(dose.laws(longer, values)) == set(laws)
    wanted = dose.answers(laws, table)
    asked = wanted[(wanted["minutes"] == 20) & (wanted["participants"] == 2) & (wanted["tuning"] == WAY)].iloc[0]
    assert asked["gain"] == laws[WAY, asked["over"]].expected_gain(20, 2, asked["ceiling"]).gain
    assert "minutes 20, measured from" in asked["beyond"] and asked["study"] == "tiny"
    fig = dose.draw(table, laws, "note")
    drawn = {to_hex(line.get_color()): line.get_xydata() for line in fig.axes[0].lines if line.get_lw() == 1.4}
    mean = table[(table["tuning"] == WAY) & (table["over"] == "pretrained") & (table["participants"] == 1)]
    mean = mean.groupby("n_stories")[["minutes", "gain"]].mean()
    np.testing.assert_allclose(drawn[dose.TUNING_LOOKS[0].colour], mean)


def test_somebody_without_a_voxel_of_the_region_leaves_the_law_to_the_others(study, gathered, monkeypatch):
    plain, nothing = dose.within_participant, dict.fromkeys(("difference", "low", "high", "block_rows"), np.nan)

    def without_second(study, dataset, participant, *asked):
        found = plain(study, dataset, participant, *asked)
        return found | nothing | {"tr_values": np.empty(0)} if participant == "P2" else found

    monkeypatch.setattr(dose, "within_participant", without_second)
    table, values = dose.gather(study, open_dataset(study))
    second = (table["participant"] == "P2").to_numpy()
    assert np.isnan(values[second]).all()
    np.testing.assert_array_equal(values[~second], gathered[1][~second])
    assert (WAY, "pretrained") in dose.laws(table, values)


def test_a_study_without_doses_is_refused(study):
    with pytest.raises(InputError, match="found no brain-tuned model"):
        dose.gather(study.model_copy(update={"conditions": ("pretrained",)}), open_dataset(study))


def test_ways_of_tuning_have_names(study):
    assert dose.tuning_name(study.tuning) == WAY
    assert dose.tuning_name(load_study("paper").tuning) == CLIPS_WAY
