"""Every setting of a study, changed in turn: what the workflow would run again is what the steps would not keep."""

import importlib
import re
from typing import get_args

import corpus_files
import pytest
import steps
import tiny
from braintuning.datasets.lebel import LebelDataset
from braintuning.errors import InputError
from braintuning.pipeline import recipes
from braintuning.results import REPOSITORY, fingerprint
from braintuning.study import Run, Study, load_study
from braintuning.study.settings import Section

OF_FILES = {
    "dataset.kind",
    "dataset.root",
    "dataset.simulation",
    "dataset.voxels",
    "dataset.recordings",
    "probes.corpora",
}
"""Settings that say which files are read: steps know these by their content, the workflow by name."""

CHANGES = {
    "title": "Another title",
    "stories.train": ["harbour", "orchard"],
    "stories.validation": ["kitchen", "extra"],
    "stories.test": ["extra"],
    "stories.held_out": ["extra"],
    "stories.tuning_only": ["extra"],
    "lacks": {"P1": ["spare"]},
    "tuned_together": ["P2", "P1"],
    "joint_tuning": {"lora_rank": 3},
    "joint_responses": "mean",
    "dataset.tr": 1.9,
    "dataset.row_offset": 0.25,
    "dataset.unstored_volumes": 9,
    "dataset.sound_starts": 9.0,
    "controls.text_models": ["sentence-transformers/all-MiniLM-L6-v2"],
    "controls.n_targets": 13,
    "tuning.clip_seconds": 1.5,
    "tuning.targets": "components",
    "tuning.n_components": 2,
    "tuning.head_start": "ridge",
    "tuning.context_seconds": 4.0,
    "tuning.pooling": "learned",
    "tuning.keep_weight": 0.5,
    "tuning.clip_ends": 0.5,
    "tuning.epochs": 3,
    "tuning.patience": 2,
    "tuning.batch_size": 4,
    "tuning.trunk_learning_rate": 1e-3,
    "tuning.head_learning_rate": 2e-3,
    "tuning.warmup_fraction": 0.2,
    "tuning.weight_decay": 0.1,
    "tuning.permutation_block_rows": 3,
    "tuning.loss": "spatial correlation",
    "tuning.lora_rank": 1,
    "tuning.lora_alpha": 8.0,
    "tuning.lora_dropout": 0.2,
    "tuning.seed": 7,
    "features.window_seconds": 3.0,
    "features.hop_seconds": 0.7,
    "features.step_seconds": 0.3,
    "features.batch_size": 5,
    "encoding.delays": [1, 2, 3],
    "encoding.mask_by": "false discovery rate",
    "encoding.log10_alpha_min": 0.5,
    "encoding.log10_alpha_max": 3.5,
    "encoding.n_alphas": 4,
    "encoding.validation_splits": 2,
    "encoding.validation_chunk_rows": 4,
    "encoding.validation_fraction": 0.3,
    "encoding.test_skip_rows": 1,
    "encoding.ceiling_threshold": 0.95,
    "encoding.mask_from": "validation",
    "encoding.permutation_block_rows": 3,
    "encoding.permutations": 60,
    "encoding.folds": 3,
    "encoding.high_pass_seconds": 100.0,
    "encoding.seed": 3,
    "low_level.features": ["articulation"],
    "low_level.layers": [1],
    "low_level.stories": ["harbour"],
    "low_level.removal": "every lag",
    "preference.voices": ["clara", "rosa"],
    "preference.n_pairs": 3,
    "preference.recordings": "nowhere",
    "preference.seed": 2,
    "probes.tasks": ["mfcc"],
    "probes.seed": 1,
    "probes.stand_in_where_absent": True,
    "figures.notebooks": ["fig2"],
    "figures.layer": 1,
    "figures.backbone": "small",
    "figures.base_and_large": ["small", "small"],
    "figures.story_counts": [1],
    "figures.published_counts": {"P1": 5},
}
UNCHANGED = {
    "name",
    "participants",
    "backbones",
    "conditions",
    "variants",
    "dataset.fsaverage",
    "dataset.coarse_regions",
}
"""Which results there are, and where regions come from: tested with `align`, whose recipe holds the regions."""


DECIDES_NOTHING = {
    "title",
    "features.batch_size",
    "encoding.permutation_block_rows",
    "encoding.permutations",
    "low_level.removal",
    "preference.recordings",
    "probes.tasks",
    "probes.stand_in_where_absent",
    "figures.notebooks",
    "figures.backbone",
    "figures.base_and_large",
    "figures.story_counts",
    "figures.published_counts",
}
"""Settings of figures, of cost, and of which results there are: they change none of those below."""


class Asked(Exception):
    """Carries the recipe by which a step asks whether its result is there."""


def recipe_that_a_step_stores(step, function, *arguments):
    module = importlib.import_module(f"braintuning.pipeline.{step}")

    def asked(path, recipe):
        raise Asked(fingerprint(recipe))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "is_done", asked)
        try:
            getattr(module, function)(*arguments)
        except (Asked, InputError) as found:
            return str(found)
    raise AssertionError(f"{function} did not ask")


RUNS = {condition: Run("small", condition) for condition in ("pretrained", "lm-tuned", "multi-brain-tuned")}
RUNS["brain-tuned"] = Run("small", "brain-tuned", "P1")
PRETRAINED = RUNS["pretrained"]


def both(study: Study) -> dict[str, tuple[str, str]]:
    """For each result: the fingerprint that the workflow compares, and that of the recipe that the step stores."""
    asked = {
        "ceiling": (recipes.ceiling(study, "P1"), ("ceiling", "measure_ceiling", study, "P1")),
        "extract": (recipes.extract(study, PRETRAINED), ("extract", "extract_layers", study, [PRETRAINED])),
        "align": (recipes.align(study, "P1"), ("align", "align", study, "P1", PRETRAINED)),
        "nuisance": (recipes.nuisance(study, "P1"), ("align", "align_nuisance", study, "P1")),
        "low-level features": (
            recipes.low_level_features(study, "P1"),
            ("low_level", "measure_low_level_features", study, "P1"),
        ),
        "low-level alone": (
            recipes.low_level_alone(study, "P1"),
            ("low_level", "measure_low_level_alone", study, "P1"),
        ),
        "low level": (recipes.low_level(study, "P1"), ("low_level", "measure_impact", study, "P1", PRETRAINED)),
        "words": (recipes.words(study), ("preference", "synthesise_words", study)),
        "preference": (recipes.preference(study, PRETRAINED), ("preference", "semantic_preference", study, PRETRAINED)),
        "probe": (recipes.probe(study, PRETRAINED, "mfcc"), ("probe", "probe", study, PRETRAINED, "mfcc")),
    }
    for condition in ("brain-tuned", "lm-tuned", "multi-brain-tuned"):
        asked[condition] = recipes.tune(study, RUNS[condition]), ("tune", "tune_model", study, RUNS[condition])
    return {result: (recipe.fingerprint, recipe_that_a_step_stores(*step)) for result, (recipe, step) in asked.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study whose results that others are made from are there, and a way to load it changed."""
    folder = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINTUNING_RESULTS", str(folder / "results"))
        patch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
        files = tiny.write_dataset(folder / "ds", ("spare", "extra"))
        tiny.encoder("hubert").save_pretrained(folder / "backbone")
        (folder / "speech").mkdir()
        corpus_files.write_aligned(folder / "speech", 20)
        content = tiny.study_content(files.root, folder / "backbone")
        content |= {"conditions": ["pretrained", "brain-tuned", "lm-tuned", "multi-brain-tuned"]}
        content |= {"tuned_together": ["P1", "P2"], "controls": {"text_models": ["glove-6b-50d"], "n_targets": 12}}
        content |= {"preference": {"n_pairs": 4}}
        content["stories"] |= {"train": [*tiny.TRAIN, "spare"]}
        content["probes"] = {
            "tasks": ["mfcc", "phonemes"],
            "corpora": dict.fromkeys(("mfcc", "phonemes"), str(folder / "speech")),
        }

        def changed(setting=None, value=None):
            section, *parents, key = (content, *setting.split(".")) if setting else (content, "name")
            whole = {**content, **{parent: {**content.get(parent, {})} for parent in parents}}
            section = whole[parents[0]] if parents else whole
            section[key] = value if setting else content["name"]
            return load_study(tiny.write_yaml(folder / "tiny.yaml", whole))

        study = changed()
        for participant in study.participants:
            steps.impact(study, participant, PRETRAINED)
        yield changed, both(study)


def fields(section=Study, prefix=""):
    """Dotted names of all settings."""
    for name, field in section.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = [kind for kind in kinds if issubclass(kind, Section)]
        if inner and name not in ("simulation", "backbones", "variants", "recordings"):
            yield from fields(inner[0], f"{name}.")
        else:
            yield prefix + name


def test_every_setting_is_changed():
    assert set(fields()) == CHANGES.keys() | OF_FILES | UNCHANGED


@pytest.mark.parametrize("setting", CHANGES)
def test_the_workflow_runs_again_what_the_steps_would_not_keep(made, setting):
    changed, before = made
    after = both(changed(setting, CHANGES[setting]))
    different = {result: tuple(a != b for a, b in zip(after[result], before[result], strict=True)) for result in before}
    assert {result: found for result, found in different.items() if len(set(found)) > 1} == {}
    assert any(found[0] for found in different.values()) == (setting not in DECIDES_NOTHING)


def test_figures_are_drawn_again_when_a_variant_comes_into_them(made):
    changed, _ = made
    variants = ({"near": {"condition": "brain-tuned", "in_every_figure": shown}} for shown in (False, True))
    unseen, seen = (recipes.figure(changed("variants", variant), "fig2").fingerprint for variant in variants)
    assert unseen == recipes.figure(changed(), "fig2").fingerprint != seen


def test_every_rule_of_the_workflow_compares_a_recipe():
    rules = re.split(r"(?m)^(?:use )?rule ", (REPOSITORY / "Snakefile").read_text())[1:]
    without = {rule.split(":")[0].split()[0] for rule in rules if "        recipe=" not in rule}
    assert len(rules) > 15 and without == {"all", "report"}
