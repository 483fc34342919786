from copy import deepcopy
from datetime import date

import pytest
import yaml
from braintuning.errors import InputError
from braintuning.figures.tables import shown_conditions
from braintuning.pipeline import recipes
from braintuning.study import STUDIES, Run, load_study

CONTENT = {
    "name": "small",
    "title": "Small",
    "dataset": {"kind": "lebel", "root": "data/small"},
    "participants": ["P1", "P2", "P3"],
    "stories": {"train": ["a", "b"], "validation": ["c"], "test": ["d"]},
    "backbones": {"tiny": {"name": "lab/tiny"}, "base": {"name": "lab/base"}},
    "conditions": ["pretrained", "brain-tuned", "random-brain-tuned"],
    "figures": {"notebooks": ["fig2"]},
}


@pytest.fixture
def load(tmp_path):
    """Load a study whose keys, dotted, are set as asked."""

    def load_with(changes=None, **options):
        content = deepcopy(CONTENT)
        for dotted, value in (changes or {}).items():
            section, *parents, key = content, *dotted.split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
            section[key] = value
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_study(path, **options)

    return load_with


@pytest.mark.parametrize("name", [path.stem for path in sorted(STUDIES.glob("*.yaml"))])
def test_shipped_study_loads(name, request):
    if "kind: parcels" in (STUDIES / f"{name}.yaml").read_text():
        request.getfixturevalue("shared")
    study = load_study(name)
    assert study.name == name
    assert list(study.alignments()) or not study.participants


def test_demo_and_real_data_are_shipped():
    assert {path.stem for path in STUDIES.glob("*.yaml")} >= {"demo", "alice", "real-brains"}
    assert load_study("demo").dataset.simulation


def test_defaults_are_those_of_the_paper(load):
    study = load()
    tuning, encoding, features = study.tuning, study.encoding, study.features
    assert (study.dataset.tr, tuning.clip_seconds, tuning.batch_size, tuning.epochs) == (2.0045, 10, 128, 30)
    assert (study.dataset.sound_starts, study.dataset.row_offset, tuning.clip_ends) == (None, 0.5, 1.0)
    assert (tuning.trunk_learning_rate, tuning.head_learning_rate, tuning.warmup_fraction) == (5e-5, 1e-4, 0.1)
    assert (features.window_seconds, features.hop_seconds) == (16, 0.1)
    assert (encoding.delays, encoding.n_alphas, encoding.log10_alpha_min, encoding.log10_alpha_max) == (
        (1, 2, 3, 4),
        15,
        1,
        4,
    )
    assert (encoding.validation_splits, encoding.validation_chunk_rows, encoding.validation_fraction) == (3, 20, 0.25)
    assert (encoding.test_skip_rows, encoding.ceiling_threshold, encoding.mask_from) == (40, 0.4, "test")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("tunning", "unknown key `tunning`; did you mean 'tuning'"),
        ("tuning.epoch", "unknown key `epoch` in `tuning`; did you mean 'epochs'"),
        ("encoding.delay", "unknown key `delay` in `encoding`; did you mean 'delays'"),
        ("dataset.simulation.repeat", "unknown key `repeat` in `dataset.simulation`; did you mean 'repeats'"),
        ("backbones.tiny.pad", "unknown key `pad` in `backbones.tiny`; did you mean 'pad_to_30s'"),
        ("figures.zzzz", "unknown key `zzzz` in `figures`, expected one of: notebooks, layer"),
    ],
)
def test_unknown_key_is_named_with_the_nearest(load, key, words):
    with pytest.raises(InputError) as error:
        load({key: 1})
    assert words in str(error.value)
    assert "small.yaml" in str(error.value)


def test_unknown_key_of_a_backbone_that_is_called_like_a_key(load):
    with pytest.raises(InputError, match=r"unknown key `pad` in `backbones.name`; did you mean 'pad_to_30s'"):
        load({"backbones.name": {"name": "lab/tiny", "pad": 1}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tuning.epochs", 0),
        ("tuning.epochs", 2.5),
        ("tuning.epochs", "3"),
        ("tuning.epochs", True),
        ("tuning.epochs", date(2024, 1, 1)),
        ("tuning.trunk_learning_rate", "fast"),
        ("tuning.warmup_fraction", 1.0),
        ("dataset.tr", 0),
        ("dataset.tr", float("inf")),
        ("dataset.kind", "bids"),
        ("encoding.log10_alpha_min", float("nan")),
        ("encoding.delays", [-1]),
        ("encoding.folds", 1),
        ("encoding.mask_from", "trained"),
        ("backbones.tiny.pad_to_30s", "no"),
        ("conditions", "brain-tuned"),
        ("participants", "P1"),
        ("features", None),
        ("stories", ["a", "b"]),
    ],
)
def test_ill_typed_value_names_its_key(load, key, value):
    with pytest.raises(InputError) as error:
        load({key: value})
    assert key.rpartition(".")[2] in str(error.value).partition("small.yaml: key ")[2]


def test_a_number_may_have_an_exponent_and_no_point(tmp_path):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(CONTENT) + "tuning: {trunk_learning_rate: 1e-4}\n")
    assert load_study(tmp_path / "s.yaml").tuning.trunk_learning_rate == 1e-4


@pytest.mark.parametrize("use", ["train", "validation", "test"])
def test_trap_stories_by_position_in_a_list_are_refused(load, use):
    with pytest.raises(InputError, match=f"stories.{use}"):
        load({f"stories.{use}": [0, 1]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stories.train": ["a"]}, "found 1 training stories, expected at least 2"),
        ({"stories.validation": []}, "no validation story"),
        ({"participants": []}, "no participant"),
        ({"lacks.P2": ["a"]}, "found 1 training stories, expected at least 2 of P2"),
        ({"lacks.P2": ["c"]}, "no validation story of P2"),
        ({"lacks.P2": ["d"]}, "no test story of P2"),
        (
            {
                **{"conditions": ["pretrained", "multi-brain-tuned"], "tuned_together": ["P1", "P2"]},
                **{"stories.validation": ["c", "e"], "lacks": {"P1": ["c"], "P2": ["e"]}},
            },
            "found 2 training and 0 validation stories that all participants of",
        ),
        (
            {
                **{"stories.train": ["a", "b", "e"], "low_level": {"stories": ["e"]}, "lacks.P2": ["e"]},
                **{"figures.notebooks": ["fig3"]},
            },
            "no story of `low_level: stories` that P2 has",
        ),
        (
            {"conditions": ["brain-tuned", "random-brain-tuned"], "figures.notebooks": ["fig3"]},
            "no `pretrained` among the conditions of",
        ),
        ({"lacks.P9": ["a"]}, "unknown participant 'P9' in `lacks`"),
        ({"lacks.P2": ["zz"]}, "unknown story 'zz' in `lacks`"),
        ({"conditions": ["pretrained"], "stories.validation": [], "encoding.mask_from": "validation"}, "no validation"),
        ({"stories.test": ["a"]}, "a story is used twice"),
        ({"stories.test": ["part/a"]}, "found story 'part/a' in `stories`, expected a name without a slash"),
        ({"stories.validation": ["d"]}, "a story is used twice"),
        ({"stories.train": ["a", "b", "a"]}, "a story is used twice"),
    ],
)
def test_study_that_cannot_tune_or_test_a_model(load, changes, words):
    with pytest.raises(InputError, match=words):
        load(changes)


def test_pretrained_models_alone_need_no_stories_to_tune_on(load):
    study = load({"conditions": ["pretrained"], "stories.train": ["a"], "stories.validation": []})
    assert study.stories.all == ("a", "d")


def test_only_the_participant_that_lacks_a_story_goes_without(load):
    study = load({"stories.train": ["a", "b", "e"], "lacks.P2": ["b"]})
    assert study.stories_for("P1") == study.stories
    assert study.stories_for("P2").train == ("a", "e")
    assert study.stories_for("P2").all == ("a", "e", "c", "d")


@pytest.mark.parametrize("key", ["name", "dataset", "stories", "backbones", "conditions", "figures"])
def test_missing_key_is_named(tmp_path, key):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({k: v for k, v in CONTENT.items() if k != key}))
    with pytest.raises(InputError, match=f"s.yaml: key `{key}`: Field required"):
        load_study(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"- a\n- b\n", "found list, expected the keys of a study"),
        (b"just words", "found str"),
        (b"", "found NoneType"),
        (b"name: [unclosed", "not YAML"),
        (b"tuning: {epochs: 1}\nname: a\ntuning: {seed: 1}", "not YAML: key 'tuning' stands there twice"),
        (b"title: caf\xe9", "not YAML"),
    ],
)
def test_file_that_is_no_study(tmp_path, content, words):
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(InputError, match=f"s.yaml: {words}"):
        load_study(tmp_path / "s.yaml")


@pytest.mark.parametrize(("name", "words"), [("dmo", "did you mean 'demo'"), ("zzzzzz", "expected one of: alice, ")])
def test_missing_study_is_named_with_the_nearest(name, words):
    with pytest.raises(InputError, match=f"{name}.yaml: no such study.*{words}"):
        load_study(name)


def test_dataset_folder_from_the_command_line_wins(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(root="mine").root == tmp_path / "mine"
    assert load().root.parts[-2:] == ("data", "small")


def test_runs_are_every_model_once_and_alignments_every_comparison_once(load):
    study = load()
    conditions = ("brain-tuned", "random-brain-tuned")
    tuned = [Run(b, c, p) for b in ("tiny", "base") for c in conditions for p in ("P1", "P2", "P3")]
    pretrained = [Run("tiny", "pretrained"), Run("base", "pretrained")]
    assert len(list(study.runs())) == 14 and set(study.runs()) == {*tuned, *pretrained}
    compared = {(r.participant, r) for r in tuned} | {(p, r) for p in study.participants for r in pretrained}
    assert len(list(study.alignments())) == 18 and set(study.alignments()) == compared


def test_result_paths_are_unique_and_in_the_results_folder(load, tmp_path, monkeypatch):
    study = load()
    monkeypatch.setenv("BRAINTUNING_RESULTS", "")
    assert study.results.parts[-3:] == ("data", "results", "small")
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path))
    paths = [study.features_file(run) for run in study.runs()]
    paths += [study.model_folder(run) for run in study.runs()]
    paths += [study.scores_file(*comparison) for comparison in study.alignments()]
    paths += [study.ceiling_file(participant) for participant in study.participants]
    assert len(set(paths)) == len(paths) == 14 + 14 + 18 + 3
    assert all(path.is_relative_to(tmp_path / "small") for path in paths)


@pytest.mark.parametrize(("key", "value"), [("participants", ["P1", "P1"]), ("conditions", ["pretrained"] * 2)])
def test_results_would_overwrite_each_other(load, key, value):
    with pytest.raises(InputError, match="twice"):
        load({key: value})


def test_underscores_that_give_two_models_one_name_are_refused(load):
    tiny = {"name": "openai/whisper-tiny.en"}
    variant = {"b_brain-tuned": {"condition": "brain-tuned"}}
    with pytest.raises(InputError, match="found one name, a_b_brain-tuned_P1, for the results of both"):
        load({"backbones": {"a_b": tiny, "a": tiny}, "variants": variant, "conditions": ["brain-tuned", *variant]})


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "../small"), ("participants", ["P/1"]), ("backbones", {"lab/tiny": {"name": "lab/tiny"}})],
)
def test_name_that_is_no_folder_name_is_refused(load, key, value):
    with pytest.raises(InputError, match=f"`{key}|in `{key}"):
        load({key: value})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("shares", {"late_language": [0.5, 0.5, 0.5]}, "found `shares` of late_language that sum to 1.5 in"),
        ("shares", {"late_langage": [0.5, 0.5, 0.0]}, "`late_langage` in `dataset.simulation.shares`|late_langage"),
        ("shares", {"late_language": [0.5, 0.5]}, "late_language"),
        ("response_peaks", [6.5, 4.5], "found `response_peaks` from 6.5 to 4.5 in `simulation`, expected the smaller"),
        (
            "response_widths",
            [1.2, 0.9],
            "found `response_widths` from 1.2 to 0.9 in `simulation`, expected",
        ),
        ("attention", 0.0, "key `attention` in `dataset.simulation`"),
        ("drift_share", 1.0, "key `drift_share` in `dataset.simulation`"),
        ("noise_fwhm", -6.0, "key `noise_fwhm` in `dataset.simulation`"),
    ],
)
def test_listeners_that_cannot_be_are_refused(load, key, value, words):
    with pytest.raises(InputError, match=words) as error:
        load({"dataset.simulation": {key: value}})
    assert "\n" not in str(error.value) and "small.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("tinny", "pretrained"), "unknown backbone 'tinny'; did you mean 'tiny'"),
        (("tiny", "brain-tund", "P1"), "unknown condition 'brain-tund'; did you mean 'brain-tuned'"),
        (("tiny", "brain-tuned", "P9"), "unknown participant 'P9'; did you mean 'P[123]'"),
        (("tiny", "brain-tuned"), "unknown participant None, expected one of: P1, P2, P3"),
    ],
)
def test_part_that_is_not_in_the_study_is_named(load, parts, words):
    with pytest.raises(InputError, match=words):
        load().run(*parts)


def test_run_by_its_parts(load):
    assert load().run("tiny", "brain-tuned", "P2") == Run("tiny", "brain-tuned", "P2")
    assert load().run("tiny", "pretrained", "P2") == Run("tiny", "pretrained")
    with pytest.raises(InputError, match="unknown condition 'pretrained'"):
        load({"conditions": ["brain-tuned"]}).run("tiny", "pretrained")


def test_an_unknown_condition_is_named_with_the_nearest(load):
    with pytest.raises(InputError, match=r"unknown condition 'braintuned' in `conditions`; did you mean 'brain-tuned'"):
        load({"conditions": ["braintuned"]})


CONTROLS = {
    "conditions": ["pretrained", "bigslm-tuned", "lm-tuned", "stimulus-tuned", "multi-brain-tuned", "rank-2"],
    "tuned_together": ["P1", "P3"],
    "variants": {"rank-2": {"condition": "multi-brain-tuned", "tuning": {"lora_rank": 2, "loss": "cosine + huber"}}},
    "backbones.tiny.teacher": "openai/whisper-base",
    "backbones.base.teacher": "openai/whisper-medium",
}


def test_controls_have_a_model_for_all_participants(load):
    study = load(deepcopy(CONTROLS))
    runs = list(study.runs())
    assert len(runs) == 12 and {run.participant for run in runs} == {None}
    assert len(list(study.alignments())) == 12 * 3
    main = list(study.main_runs())
    assert set(runs) - set(main) == {run for run in runs if run.condition == "rank-2"} and len(main) == 10
    assert len(list(study.alignments(main))) == 10 * 3
    assert len(list(study.tuned_runs())) == 10
    multi = study.run("tiny", "rank-2", "P2")
    assert study.tuned_on(multi) == ("P1", "P3")
    assert study.tuned_on(study.run("tiny", "lm-tuned")) == ()


def test_a_variant_changes_only_what_it_names(load):
    study = load(deepcopy(CONTROLS))
    joint = study.tuning.model_copy(update={"lora_rank": 8, "trunk_learning_rate": 1e-4})
    assert study.tuning_of("rank-2") == joint.model_copy(update={"lora_rank": 2, "loss": "cosine + huber"})
    assert study.tuning_of("multi-brain-tuned") == joint
    of_its_own = study.model_copy(update={"joint_tuning": {"lora_dropout": 0.0}})
    assert of_its_own.tuning_of("multi-brain-tuned") == joint.model_copy(update={"lora_dropout": 0.0})
    assert study.tuning_of("lm-tuned") == study.tuning
    assert study.base("rank-2") == "multi-brain-tuned"


DOSES = {
    "conditions": ["pretrained", "brain-tuned", "one", "three", "pair", "pair-permuted"],
    "tuned_together": ["P3", "P1", "P2"],
    "stories.tuning_only": ["e", "f"],
    "variants": {
        "one": {"condition": "brain-tuned", "n_stories": 1},
        "three": {"condition": "brain-tuned", "n_stories": 3, "tuning": {"epochs": 2}},
        "pair": {"condition": "multi-brain-tuned", "n_stories": 2, "n_together": 2},
        "pair-permuted": {"condition": "multi-random-brain-tuned", "n_together": 2},
    },
}
LACKING = {"stories.train": ["a", "b", "g"], "lacks": {"P1": ["b"]}}


@pytest.mark.parametrize("in_every_figure", [False, True])
def test_a_variant_is_in_figures_2_to_5_only_if_the_study_says_so(load, in_every_figure):
    variants = {"near": {"condition": "brain-tuned", "in_every_figure": in_every_figure}}
    changes = {"conditions": ["pretrained", "brain-tuned", "near"], "variants": variants, "probes.tasks": ["mfcc"]}
    study = load(changes)
    shown = ["pretrained", "brain-tuned", *["near"] * in_every_figure]
    assert list(shown_conditions(study)) == shown == list(dict.fromkeys(run.condition for run in study.main_runs()))
    near = Run(next(iter(study.backbones)), "near", study.participants[0])
    for figure, file in (("fig4", study.probe_file("mfcc", near)), ("fig5", study.preference_file(near))):
        assert (file in recipes.inputs_of(study, figure)) == in_every_figure


def test_a_variant_is_tuned_on_the_first_stories_and_participants(load):
    study = load({**deepcopy(DOSES), **LACKING})
    heard = {(run.condition, run.participant): study.tuning_stories(run) for run in study.tuned_runs()}
    heard = {key: of_run for key, of_run in heard.items() if not of_run.tuning_only and of_run.validation == ("c",)}
    assert heard["brain-tuned", "P2"].train == ("a", "b", "g", "e", "f")
    assert heard["one", "P1"].train == ("a",) and heard["three", "P2"].train == ("a", "b", "g")
    assert heard["three", "P1"].train == ("a", "g", "e") and heard["pair", None].train == ("a", "g")
    assert heard["pair-permuted", None].train == ("a", "g", "e", "f")
    joint = [study.run("tiny", name) for name in ("pair", "pair-permuted")]
    assert [study.tuned_on(run) for run in joint] == [("P3", "P1")] * 2
    assert study.tuning_of("pair-permuted") == study.tuning_of("pair") != study.tuning_of("brain-tuned")


def test_stories_for_tuning_alone_fit_no_encoding_model(load):
    study = load(deepcopy(DOSES))
    assert study.encoded_stories == ("a", "b", "d") and study.stories.all == ("a", "b", "c", "d", "e", "f")
    assert recipes.align(study, "P2").stored["fitted"] == ["a", "b"]
    assert recipes.tune(study, study.run("tiny", "three", "P2")).stored["train"] == ("a", "b", "e")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"variants.three.n_stories": 5},
            "found 4 training and 1 validation .* of base_three_P1 have, expected at least 5",
        ),
        ({"lacks": {"P1": ["e", "f"]}, "variants.pair.n_stories": 3}, "found 2 training .* of base_three_P1 have"),
        ({"variants.pair.n_together": 4}, "found 3 participants in `tuned_together`, expected at least 4 for pair"),
        ({"variants.one.n_together": 2}, "found `n_together` with brain-tuned in `variants`, expected it with joint"),
        ({"variants.pair.n_together": 1}, "key `n_together` in `variants.pair`: found 1"),
        ({"variants.one.n_stories": 0}, "key `n_stories` in `variants.one`: found 0"),
        ({"stories.tuning_only": ["a"]}, "a story is used twice"),
        ({"dataset.simulation": {"noise": {"P9": 2.0}}}, "unknown participant 'P9' in `noise`"),
        ({"dataset.simulation": {"noise": {"P1": 0.0}}}, "key `P1` in `dataset.simulation.noise`: found 0.0"),
    ],
)
def test_a_dose_that_is_not_there(load, changes, words):
    with pytest.raises(InputError, match=words):
        load({**deepcopy(DOSES), **changes})


def test_stories_that_one_of_several_participants_lacks_tune_no_joint_model(load):
    study = load({**deepcopy(CONTROLS), "stories.train": ["a", "b", "e"], "lacks": {"P3": ["b"], "P2": ["a"]}})
    assert study.tuning_stories(study.run("tiny", "multi-brain-tuned")).train == ("a", "e")
    assert study.tuning_stories(study.run("tiny", "lm-tuned")).train == ("a", "b", "e")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tuned_together": ["P1"]}, "found 1 participants in `tuned_together`, expected at least 2"),
        ({"tuned_together": ["P1", "P9"]}, "unknown participant 'P9' in `tuned_together`"),
        ({"backbones.base.teacher": None}, "backbone 'base' has no `teacher`"),
        ({"variants.lm-tuned": {"condition": "lm-tuned"}}, "has the name of a condition"),
        ({"variants.nuisance": {"condition": "lm-tuned"}}, "has the name of a condition or reference"),
        ({"variants.rank-2.tuning": {"lora_rnk": 2}}, "unknown key 'lora_rnk' in `variants`; did you mean 'lora_rank'"),
        ({"joint_tuning": {"lora_alfa": 2}}, "unknown key 'lora_alfa' in `joint_tuning`"),
        ({"variants.rank-2.tuning": {"lora_rank": 0}}, "condition 'rank-2': key `lora_rank`: found 0"),
        ({"joint_tuning.lora_rank": [8]}, "key `lora_rank` in `joint_tuning`: found [8]"),
        ({"variants.rank-2.tuning": {"trunk_learning_rate": 0}}, "trunk_learning_rate"),
    ],
)
def test_controls_that_cannot_be_are_refused(load, changes, words):
    with pytest.raises(InputError) as error:
        load(deepcopy({**CONTROLS, **changes}))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features.hop_seconds": 0.05}, "found `step_seconds` 0.1 in `features`, expected at most 0.05"),
        ({"features.window_seconds": 0.05}, "found `step_seconds` 0.1 in `features`, expected at most 0.05"),
        ({"stories.test": ["d", "e"]}, "found 2 test stories, expected 1, since the noise ceiling"),
        ({"dataset.voxels": {"P9": 100}}, "unknown participant 'P9' in `voxels`; did you mean 'P"),
        ({"figures.published_counts": {"P99": 100}}, "unknown participant 'P99' in `published_counts`; did you mean"),
        ({"encoding.log10_alpha_min": 5.0}, "found `log10_alpha_min` 5 in `encoding`, expected at most"),
        ({"backbones": {}}, "key `backbones`: found {}: Dictionary should have at least 1 item"),
        ({"encoding.delays": []}, "key `delays` in `encoding`: found []"),
        ({"figures.notebooks": ["fig22"]}, "unknown notebook 'fig22' in `figures`; did you mean 'fig2'"),
        ({"low_level.stories": ["aa"]}, "unknown story 'aa' in `low_level: stories` among those of `stories: train`"),
        ({"dataset.row_offset": -0.1}, "key `row_offset` in `dataset`: found -0.1"),
        ({"dataset.row_offset": 1.5}, "key `row_offset` in `dataset`: found 1.5"),
        ({"dataset.kind": "my:Own", "dataset.row_offset": 0.0}, "found `row_offset` in `dataset`, expected none with"),
        (
            {"dataset.kind": "my:Own", "dataset.sound_starts": 8.0},
            "found `sound_starts` in `dataset`, expected none with",
        ),
        ({"dataset.tr": {"P1": 2.0, "P2": 1.5}}, "found no `tr` of P3 in `dataset`, expected a number of seconds"),
        ({"dataset.tr": {"P1": 2.0, "P2": 1.5, "P4": 2.0}}, "unknown participant 'P4' in `tr`; did you mean"),
        ({"dataset.tr": {"P1": 2.0, "P2": 1.5, "P3": 0}}, "key `P3` in `dataset.tr`: found 0"),
        ({"dataset.tr": {"P1": "2"}}, "key `P1` in `dataset.tr`: found '2'"),
        ({"dataset.tr": [2.0]}, "key `tr` in `dataset`: found [2.0]"),
        ({"dataset.sound_starts": {"P1": 9.0, "zz": 9.0}}, "unknown name 'zz' in `sound_starts`"),
        ({"dataset.sound_starts": {"P1": {"a": 9.0, "P9": 1.0}}}, "unknown name 'P9' in `sound_starts`"),
        ({"dataset.sound_starts": {"P1": {"a": -1.0}}}, "key `a` in `dataset.sound_starts.P1`: found -1"),
        ({"dataset.sound_starts": -1}, "key `sound_starts` in `dataset`: found -1"),
        ({"tuning.clip_ends": 1.5}, "key `clip_ends` in `tuning`: found 1.5"),
        ({"dataset.simulation": {"words": 9, "textgrids": "ds003020"}}, "found `words` beside `textgrids`"),
        (
            {"dataset.simulation": {"points_per_hemisphere": 99}},
            "key `points_per_hemisphere` in `dataset.simulation`: found 99",
        ),
    ],
)
def test_values_that_would_give_wrong_numbers_or_none_are_refused(load, changes, words):
    with pytest.raises(InputError) as error:
        load(changes)
    assert words in str(error.value) and "small.yaml" in str(error.value) and "\n" not in str(error.value)


def test_two_test_stories_go_with_a_ceiling_from_another_story(load):
    assert load({"stories.test": ["d", "e"], "encoding.mask_from": "validation"}).stories.test == ("d", "e")


def test_the_paper_in_small_reads_and_scores_as_the_paper_does():
    small, paper = load_study("paper-small"), load_study("paper")
    assert small.encoding == paper.encoding
    for key in ("tr", "row_offset", "unstored_volumes", "sound_starts"):
        assert getattr(small.dataset, key) == getattr(paper.dataset, key)
    for key in ("clip_seconds", "clip_ends", "warmup_fraction", "weight_decay"):
        assert getattr(small.tuning, key) == getattr(paper.tuning, key)
    assert small.low_level.features == paper.low_level.features
    assert small.features.window_seconds == paper.features.window_seconds
    assert set(small.stories.all) <= set(paper.stories.all) and small.stories.test == paper.stories.test
