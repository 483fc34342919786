"""Every condition on the tiny dataset, from tuning to the figures that compare them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import steps
import tiny
from braintuning.alignment.mask import used_voxels
from braintuning.datasets import open_dataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.figures import alignment, claims, compare, evidence, panels, tables
from braintuning.figures.style import REGIONS
from braintuning.pipeline.align import align
from braintuning.pipeline.card import add_scores, base_facts
from braintuning.pipeline.pictures import amounts
from braintuning.pipeline.recipes import AIMS
from braintuning.pipeline.tune import learning_material, tune_model
from braintuning.results import load_arrays
from braintuning.study import load_study
from braintuning.study.settings import Simulation
from huggingface_hub import ModelCard
from safetensors.numpy import load_file
from tiny import TEST, TRAIN
from transformers import AutoModel

CONDITIONS = ["pretrained", "brain-tuned", "random-brain-tuned", "bigslm-tuned", "lm-tuned", "stimulus-tuned"]
CONDITIONS += ["multi-brain-tuned", "multi-rank-1"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINTUNING_RESULTS", str(folder / "results"))
        patch.setenv("BRAINTUNING_FIGURES", str(folder / "figures"))
        patch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
        patch.setattr(
            "braintuning.pipeline.recipes.AIMS", dict.fromkeys(CONDITIONS, "control")
        )  # their responses follow nothing that sounds
        files = tiny.write_dataset(folder / "ds")
        tiny.encoder("hubert").save_pretrained(folder / "backbone")
        tiny.encoder("wav2vec2", seed=4).save_pretrained(folder / "teacher")
        content = tiny.study_content(files.root, folder / "backbone")
        content["backbones"] = {"small": {**content["backbones"]["small"], "teacher": str(folder / "teacher")}}
        content |= {
            "conditions": CONDITIONS,
            "tuned_together": ["P1", "P2"],
            "variants": {"multi-rank-1": {"condition": "multi-brain-tuned", "tuning": {"lora_rank": 1}}},
            "controls": {"text_models": ["glove-6b-50d"], "n_targets": 12},
        }
        content["encoding"] |= {"permutation_block_rows": 3, "permutations": 50}
        content["stories"] = {
            "train": [TRAIN[0], "kitchen"],
            "validation": [TRAIN[1]],
            "test": list(TEST),
        }
        content["figures"] |= {"story_counts": [1, 2]}
        yield load_study(tiny.write_yaml(folder / "tiny.yaml", content))


@pytest.fixture(scope="module")
def models(study):
    return {run.name: steps.tuned(study, run) for run in study.tuned_runs()}


@pytest.fixture(scope="module")
def table(study, models):
    for participant, run in study.alignments():
        steps.aligned(study, participant, run)
    for participant in study.participants:
        steps.baseline(study, participant)
    for run in study.tuned_runs():
        add_scores(study, run)
    return tables.gather(study)


def test_each_condition_leaves_a_model_that_transformers_loads_with_a_card(study, models):
    assert len(models) == 2 + 2 + 5
    for name, folder in models.items():
        before = AutoModel.from_pretrained(study.backbones["small"].name).state_dict()
        after = AutoModel.from_pretrained(folder).state_dict()
        moved = {key for key in before if not np.array_equal(before[key], after[key])}
        assert any(key.startswith("encoder.layers") for key in moved), name
        assert not any(key.startswith("feature_extractor") for key in moved), name
        card = (folder / "README.md").read_text()
        facts = ModelCard(card).data
        assert facts.library_name == "transformers" and facts.base_model is None
        assert f"# {name}" in card and "local folder backbone" in card and str(folder.parent) not in card
        assert "dataset: A tiny study" in card and TRAIN[0] in card
        losses = pd.read_csv(folder / "history.csv")["validation_loss"]
        best = losses[1:].min()
        assert f"{best:.5g} at epoch {losses[1:].idxmin()} of 2, {best / losses[0]:.2%} of that of" in card
        assert ("did not learn" in card) == (best >= losses[0])


def test_alignment_is_in_the_card_once_for_each_participant_and_the_model_stays_done(study, models, table):
    folder = models["small_multi-brain-tuned"]
    facts, made = ModelCard.load(folder / "README.md").data, (folder / "provenance.json").read_bytes()
    last = tables.at_layer(table, -1)
    chosen = last[(last["condition"] == "multi-brain-tuned") & last["roi"].isin(REGIONS)]
    expected = sorted(chosen["alignment"].round(4))
    assert sorted(result.metric_value for result in facts.eval_results) == pytest.approx(expected, abs=1e-4)
    assert len(expected) == 4 and facts.model_name == "small_multi-brain-tuned"
    before = (folder / "README.md").read_bytes()
    run = study.run("small", "multi-brain-tuned")
    align(study, "P2", run)
    assert (folder / "README.md").read_bytes() == before and b"| P2 | late language regions |" in before
    assert (folder / "provenance.json").read_bytes() == made
    assert tune_model(study, run) == folder
    assert (folder / "README.md").read_bytes() == before
    add_scores(study, run)
    assert (folder / "README.md").read_bytes() == before


def test_cards_name_a_base_model_only_if_the_hub_can_have_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "model").mkdir(parents=True)
    assert base_facts("openai/whisper-tiny.en")["base_model"] == "openai/whisper-tiny.en"
    assert base_facts("data/models/hubert-small") == {"license": "mit"}  # of its own card
    for name in ("here/model", str(tmp_path / "here" / "model"), "a/b/c", "nothing..like it"):
        assert base_facts(name) == {"license": "unknown"}


def test_a_model_that_did_not_learn_is_left_untuned_and_its_card_and_figures_say_so(study, models, table, monkeypatch):
    learnt = {
        name: (pd.read_csv(folder / "history.csv")["share_of_untuned"] < 1).any() for name, folder in models.items()
    }
    name = next(name for name, good in learnt.items() if not good and "random" not in name)
    backbone, condition, *participant = name.split("_")
    run = study.run(backbone, condition, *participant)
    monkeypatch.setattr("braintuning.pipeline.recipes.AIMS", AIMS)
    again = study.model_copy()
    monkeypatch.setattr(type(again), "model_folder", lambda _, run: models[name].parent.parent / "again" / run.name)
    folder = tune_model(again, run)
    before, after = (AutoModel.from_pretrained(f).state_dict() for f in (study.backbones["small"].name, folder))
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert not load_file(folder / "head.safetensors")["weight"].any()
    assert "did not learn**; the weights are the untuned model's" in (folder / "README.md").read_text()
    monkeypatch.undo()
    printed = tables.small_print(study, table)
    for other, good in learnt.items():
        assert (other in printed) == (not good and "random" not in other)
    assert ("Did not learn, so left as pretrained: " in printed) and "nan" not in printed
    assert printed.endswith("Surface: the participant's own. Regions: HCP-MMP1.0, Glasser et al. 2016")
    simulated = study.dataset.model_copy(update={"simulation": Simulation()})
    printed = tables.small_print(study.model_copy(update={"dataset": simulated}), table)
    assert printed.endswith("Surface and regions: HCP S1200 fs_LR, Glasser et al. 2016")


def test_lora_of_a_joint_model_changes_nothing_but_the_four_projections(study, models):
    before = AutoModel.from_pretrained(study.backbones["small"].name).state_dict()
    after = AutoModel.from_pretrained(models["small_multi-rank-1"]).state_dict()
    moved = {key for key in before if not np.array_equal(before[key], after[key])}
    assert moved and all(
        key.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight")) for key in moved
    )


def test_heads_have_the_size_of_what_they_learn(study, models):
    used = {p: np.flatnonzero(used_voxels(study, p)) for p in study.participants}
    heads = {name: load_file(folder / "head.safetensors") for name, folder in models.items()}
    np.testing.assert_array_equal(heads["small_brain-tuned_P2"]["voxels"], used["P2"])
    both = np.union1d(used["P1"], used["P2"])
    np.testing.assert_array_equal(heads["small_multi-brain-tuned"]["voxels"], both)
    assert heads["small_multi-brain-tuned"]["weight"].shape == (len(both), 16)
    assert heads["small_lm-tuned"]["weight"].shape == heads["small_bigslm-tuned"]["weight"].shape == (12, 16)


def test_participants_who_tuned_no_joint_model_are_never_read(study, monkeypatch):
    read = []
    whole = LebelDataset.responses

    def watched(dataset, participant, story, voxels=None):
        read.append(participant)
        return whole(dataset, participant, story, voxels)

    monkeypatch.setattr(LebelDataset, "responses", watched)
    alone = study.model_copy(update={"tuned_together": ("P2",)})
    dataset = open_dataset(study)
    learning_material(alone, study.run("small", "multi-brain-tuned"), dataset)
    assert set(read) == {"P2"}
    read.clear()
    learning_material(study, study.run("small", "lm-tuned"), dataset)
    assert not read


def test_every_cell_is_filled_and_every_model_is_its_own(study, table):
    cells = table.groupby(["participant", "condition", "layer", "roi"]).size()
    assert len(cells) == 2 * len(CONDITIONS) * 3 * 6 and (cells == 1).all()
    last = tables.at_layer(table, -1)
    late = last[last["roi"] == "late_language"].pivot(index="condition", columns="participant", values="alignment")
    assert late.notna().all().all() and len(np.unique(late["P1"].round(6))) == len(CONDITIONS)


def test_statistics_name_their_test_and_give_no_star_for_two_participants(study, table):
    statistics = compare.compare(study, open_dataset(study), REGIONS)
    assert set(statistics["test"]) == {compare.WITHIN, compare.ABOVE_CHANCE, compare.OVER}
    within = statistics[statistics["participant"] != "all"]
    assert within["p"].between(1 / 51, 1).all() and (within["low"] <= within["high"]).all()
    assert statistics.loc[statistics["participant"] == "all", "p"].isna().all()
    assert compare.starred(statistics).empty and not statistics["star"].any()
    assert alignment.what_a_star_is(statistics, statistics).startswith("No stars: over fewer than 6 participants")
    last = tables.at_layer(table, -1).set_index(["participant", "condition", "roi"])["alignment"]
    for row in within[within["reference"] == "pretrained"].itertuples():
        expected = last[row.participant, row.condition, row.roi] - last[row.participant, "pretrained", row.roi]
        assert row.difference == pytest.approx(expected, abs=1e-5)


def test_a_star_needs_six_participants_and_a_small_q():
    rows = [
        ("all", "pretrained", 0.01),
        ("all", "pretrained", 0.2),
        ("P1", "pretrained", 0.001),
        ("all", "chance", 0.001),
    ]
    table = pd.DataFrame(rows, columns=["participant", "reference", "q"])
    assert compare.starred(table).index.tolist() == [0]


def planted_rows(study, monkeypatch, p_of):
    """Statistics of a study whose differences over participants have the p that `p_of(condition, reference)` says."""

    def within(study, dataset, participant, backbone, condition, roi, against, other=None):
        row = {"backbone": backbone, "condition": condition, "reference": against, "roi": roi, "n_voxels": 1}
        row |= {"participant": participant, "n_participants": 1, "difference": p_of(condition, against), "p": 0.5}
        return row | {"test": "", "low": 0, "high": 0, "tr_values": []}

    monkeypatch.setattr(compare, "within_participant", within)
    monkeypatch.setattr(compare.stats, "signed_rank_p", lambda differences: differences[0])
    return compare.compare(study, None, REGIONS)


def test_tests_against_chance_and_variants_do_not_help_a_star(study, monkeypatch):
    eight = study.model_copy(update={"participants": tuple(f"P{n}" for n in range(8))})
    p = {"brain-tuned": 0.0234}
    statistics = planted_rows(
        eight, monkeypatch, lambda c, against: 0.0078 if against == "chance" or c == "multi-rank-1" else p.get(c, 0.9)
    )
    over = (
        statistics[statistics["participant"] == compare.EVERYONE]
        .set_index(["condition", "reference", "roi"])
        .sort_index()
    )
    assert over.loc[("brain-tuned", "pretrained"), "q"].to_numpy() == pytest.approx(0.0234 * 12 / 2)
    assert over.loc[("multi-rank-1", "pretrained"), "q"].to_numpy() == pytest.approx(0.0078)
    assert over.loc[("brain-tuned", "chance"), "q"].to_numpy() == pytest.approx(0.0078)
    assert set(over.index[over["star"]].get_level_values(0)) == {"multi-rank-1"}
    families = statistics.groupby("family")["participant"].nunique()
    assert (families == 1).all() and len(families) == 9 * (3 * 2 + 1)


def test_brain_tuned_models_are_compared_with_their_permuted_control_outside_the_stars(study, monkeypatch):
    eight = study.model_copy(update={"participants": tuple(f"P{n}" for n in range(8))})
    statistics = planted_rows(eight, monkeypatch, lambda c, against: 0.0078 if against in compare.ASIDE else 0.9)
    against = statistics[statistics["reference"] == "random-brain-tuned"]
    assert set(against["condition"]) == {"brain-tuned"} and len(against) == 9 * len(REGIONS)
    over = against[against["participant"] == compare.EVERYONE]
    assert over["q"].to_numpy() == pytest.approx(0.0078) and not statistics["star"].any()
    alone = planted_rows(eight.model_copy(update={"conditions": ("brain-tuned",)}), monkeypatch, lambda *_: 0.9)
    assert "random-brain-tuned" not in set(alone["reference"])


def test_figure_says_which_test_is_behind_its_stars(study, monkeypatch):
    eight = study.model_copy(update={"participants": tuple(f"P{n}" for n in range(8))})
    few = planted_rows(eight, monkeypatch, lambda c, _: 0.002 if c == "brain-tuned" else 0.9)
    assert alignment.what_a_star_is(few, few).endswith("controlled over 12 differences, variants apart")
    said = alignment.what_a_star_is(few, few[~few["condition"].isin(study.variants)])
    assert said.startswith("*: q < 0.05, two-sided Wilcoxon signed-rank test over 8 participants against pretrained")
    assert said.endswith("controlled over 12 differences")
    none = planted_rows(eight, monkeypatch, lambda *_: 0.9)
    assert alignment.what_a_star_is(none, none).endswith("; none reached")
    others = few[few["condition"] != "brain-tuned"]
    assert alignment.what_a_star_is(few, others).endswith("over 12 differences, variants apart; none reached")


def test_figure_says_what_stands_in_for_an_objective_of_whisper(study, models, tmp_path, monkeypatch):
    assert alignment.stand_ins(study) == []
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path))
    folder = study.model_folder(study.run("small", "stimulus-tuned"))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    assert "reconstructs masked" in alignment.stand_ins(study)[0]
    drawn = {}
    monkeypatch.setattr(tables, "alignment_change", lambda *_, **__: None)
    monkeypatch.setattr(tables, "draw_change", lambda *given, **_: drawn.setdefault("note", given[-1]))
    monkeypatch.setattr(alignment, "bars_above", lambda *_: None)
    statistics = planted_rows(study, monkeypatch, lambda *_: 0.9)
    cortex = SimpleNamespace(surface=None, vertex_labels=None)
    dataset, table = SimpleNamespace(cortex=lambda _: cortex), pd.DataFrame({"backbone": ["small"], "layer": [0]})
    alignment.draw(study, table, statistics, dataset, "the study")
    assert "No stars" in drawn["note"] and "Whisper" in drawn["note"] and drawn["note"].endswith("the study")


def test_a_region_without_voxels_is_a_row_without_numbers_and_the_others_count(study, table, monkeypatch):
    whole, dataset = compare.used_voxels, open_dataset(study)
    outside = tiny.cortex().voxel_labels != "A1"
    monkeypatch.setattr(compare, "used_voxels", lambda s, p: whole(s, p) & (outside if p == "P1" else True))
    row = compare.within_participant(study, dataset, "P1", "small", "brain-tuned", "primary_auditory", "pretrained")
    assert row["n_voxels"] == 0 and np.isnan([row["difference"], row["p"], row["low"]]).all()
    statistics = compare.compare(study, dataset, ["primary_auditory"])
    chosen = statistics[(statistics["condition"] == "brain-tuned") & (statistics["reference"] == "pretrained")]
    over, second = (chosen.set_index("participant").loc[name] for name in ("all", "P2"))
    assert over["n_participants"] == 1 and over["difference"] == second["difference"]
    elsewhere = SimpleNamespace(voxel_labels=np.where(outside, tiny.cortex().voxel_labels, "V1"))
    monkeypatch.setattr(type(dataset), "cortex", lambda *_: elsewhere)
    row = compare.within_participant(study, dataset, "P2", "small", "brain-tuned", "primary_auditory", "pretrained")
    assert row["n_voxels"] == 0 and np.isnan(row["difference"])


def test_two_participants_are_judged_by_what_is_known_within_them(study, table):
    measures = {"alignment": tables.at_layer(table, -1).assign(value=lambda t: t["alignment"])}
    dataset = open_dataset(study)
    judged = claims.judge(study, measures, dataset=dataset)
    nobody = judged["participants"] == "held out"
    assert set(judged.loc[nobody, "verdict"]) == {"not defined"}
    judged = judged[~nobody]
    assert set(judged["interval"]) == {"blocks of TRs"} and judged["p"].notna().all()
    assert set(judged["test"]) == {evidence.EVERY, evidence.ANY}
    row = judged[judged["claim"] == "brain-tuning leaves primary auditory"].iloc[0]
    within = [
        compare.within_participant(study, dataset, name, "small", "brain-tuned", row.roi, "pretrained")
        for name in study.participants
    ]
    assert row.p == pytest.approx(min(1, 2 * min(r["p"] for r in within)))
    assert row.effect == pytest.approx(np.mean([r["difference"] for r in within]), abs=1e-5)
    assert row.low < row.effect < row.high


def test_fewer_stories_are_those_that_come_first(study, models):
    run = study.run("small", "pretrained")
    all_of_them = load_arrays(steps.aligned(study, "P1", run))["alignment"]
    one, two = (align(study, "P1", run, first=n) for n in (1, 2))
    np.testing.assert_array_equal(load_arrays(two)["alignment"], all_of_them)
    assert not np.allclose(load_arrays(one)["alignment"], all_of_them, equal_nan=True)
    hours = [pd.read_csv(path.with_suffix(".csv"))["hours"].iloc[0] for path in (one, two)]
    assert hours == pytest.approx([1 / 60, 2 / 60], rel=1e-4)


def test_held_out_stories_give_a_second_column(study, models):
    stories = study.stories.model_copy(update={"train": TRAIN[:1], "held_out": ("kitchen",)})
    other = study.model_copy(update={"stories": stories, "name": "heldout"})
    path = steps.aligned(other, "P1", study.run("small", "pretrained"))
    table, scores = pd.read_csv(path.with_suffix(".csv")), load_arrays(path)
    assert table["alignment_held_out"].notna().any()
    assert not np.allclose(scores["held_out_r"], scores["r"], equal_nan=True)
    assert scores["predicted"].shape == (18, used_voxels(other, "P1").sum())


@pytest.mark.parametrize(("panel", "says"), [("figA4", True), ("figA3", False)])
def test_a_panel_of_one_layer_says_which_it_is(study, table, panel, says):
    _, figure = panels.make(study, open_dataset(study), panel)
    assert ("Last layer. " in figure.get_supxlabel().replace("\n", " ")) == says


@pytest.mark.parametrize(
    "draw",
    [panels.layers, panels.participants, panels.language_models, panels.ablation],
)
def test_figures_are_drawn_with_a_bar_or_line_for_each_condition(study, table, draw, tmp_path):
    shown = tables.at_layer(table, -1) if draw is panels.participants else table
    figure = draw(study, shown, tables.small_print(study, shown))
    figure.savefig(tmp_path / "figure.png", dpi=50)
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert "pretrained" in labels and len(labels) >= 3
    for ax in figure.axes:
        assert ax.patches or ax.lines


def test_transfer_separates_those_who_tuned_from_those_who_did_not(study, table):
    alone = study.model_copy(update={"tuned_together": ("P2",)})
    figure = panels.transfer(alone, table, "")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["jointly tuned", "held out"]
    last = tables.at_layer(table, -1)
    chosen = last[(last["roi"] == "late_language") & (last["condition"] == "pretrained")].set_index("participant")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights[0] == pytest.approx(chosen.loc["P2", "alignment"])
    assert heights[3] == pytest.approx(chosen.loc["P1", "alignment"])


def test_amounts_of_data_have_a_row_for_each_number_of_stories(study, models):
    alone = study.model_copy(update={"tuned_together": ("P2",)})
    for participant, run, n_stories in amounts(alone):
        steps.extracted(alone, run)
        align(alone, participant, run, first=n_stories)
    table = panels.gather_amounts(alone)
    assert set(table["participant"]) == {"P1"} and set(table["n_stories"]) == {1, 2}
    assert set(table["condition"]) == {"pretrained", "brain-tuned", "multi-brain-tuned"}
    figure = panels.draw_amounts(alone, table, "")
    assert len(figure.axes[0].lines) == 3 * 2 + 1
