"""A study that extends another."""

import re

import numpy as np
import tiny
from braintuning.results import REPOSITORY
from braintuning.study import given_name, load_study
from tiny import refused


def test_a_study_holds_only_what_differs_from_another(tmp_path):
    content = tiny.study_content(tmp_path / "data", tmp_path / "model")
    base = tiny.write_yaml(tmp_path / "base.yaml", content)
    changes = {"extends": str(base), "name": "other", "tuning": {"epochs": 7}, "participants": ["P2"]}
    study, whole = load_study(tiny.write_yaml(tmp_path / "other.yaml", changes)), load_study(base)
    assert (study.name, study.tuning.epochs, study.participants) == ("other", 7, ("P2",))
    assert study.tuning.clip_seconds == whole.tuning.clip_seconds == 2.0
    assert study.stories == whole.stories and study.source[0] == tmp_path / "other.yaml"


def test_null_leaves_out_a_backbone_or_variant_of_the_study_that_is_extended(tmp_path):
    content = tiny.study_content(tmp_path / "data", tmp_path / "model")
    content["variants"] = {"short": {"condition": "brain-tuned", "tuning": {"epochs": 1}}}
    content["conditions"] = ["pretrained"]
    base = tiny.write_yaml(tmp_path / "base.yaml", content)
    mine = {"small": None, "mine": {"name": str(tmp_path / "mine")}}
    changes = {"extends": str(base), "name": "other", "backbones": mine, "variants": {"short": None}}
    study = load_study(tiny.write_yaml(tmp_path / "other.yaml", changes))
    assert list(load_study(base).backbones) == ["small"] and list(load_study(base).variants) == ["short"]
    assert list(study.backbones) == ["mine"] and not study.variants


def test_the_study_of_regions_that_the_documentation_shows_is_one(tmp_path):
    (text,) = re.findall(r"```yaml\n(extends: real-brains\n.*?)```", (REPOSITORY / "docs" / "own.md").read_text(), re.S)
    for talk in ("talk1", "talk2"):
        (tmp_path / talk / "responses").mkdir(parents=True)
        for person in ("ann", "ben", "cal", "dan"):
            np.save(tmp_path / talk / "responses" / f"{person}.npy", np.zeros((4, 3)))
    (tmp_path / "talks.yaml").write_text(text.replace("/data/talks", str(tmp_path)))
    study = load_study(tmp_path / "talks.yaml")
    assert list(study.dataset.recordings) == ["talk1", "talk2"] and study.stories.all[-1] == "talk2"
    assert study.participants == ("ann", "ben", "cal", "dan") and study.tuned_together == ("ann", "cal")
    assert study.encoding == load_study("real-brains").encoding


def test_studies_may_extend_in_a_row_and_not_in_a_circle(tmp_path):
    content = tiny.study_content(tmp_path / "data", tmp_path / "model")
    paths = [tmp_path / f"{name}.yaml" for name in "abc"]
    tiny.write_yaml(paths[0], content)
    tiny.write_yaml(paths[1], {"extends": "a.yaml", "name": "b", "tuning": {"epochs": 7}})
    tiny.write_yaml(paths[2], {"extends": str(paths[1]), "name": "c", "tuning": {"batch_size": 3}})
    assert load_study(paths[2]).tuning.model_dump().items() >= {"epochs": 7, "batch_size": 3}.items()
    tiny.write_yaml(paths[0], {"extends": f"../{tmp_path.name}/c.yaml", "name": "a"})
    refused(lambda: load_study(paths[2]), "extends", "circle")


def test_what_is_extended_is_named_where_it_is_missing(tmp_path):
    refused(
        lambda: load_study(tiny.write_yaml(tmp_path / "x.yaml", {"extends": "papre", "name": "x"})), "papre", "paper"
    )


def test_the_study_of_components_is_the_papers_but_for_its_tuning():
    paper, components = load_study("paper"), load_study("paper-components")
    changed = {key for key in type(paper).model_fields if getattr(paper, key) != getattr(components, key)}
    assert changed == {"name", "title", "tuning", "variants"}


def test_a_command_is_told_the_name_of_a_study_or_the_path_of_its_file(tmp_path):
    content = tiny.study_content(tmp_path / "data", tmp_path / "model")
    path = tiny.write_yaml(tmp_path / "my study.yaml", content)
    assert given_name(load_study(path)) == f"'{path}'" and given_name(load_study("paper")) == "paper"


def test_a_folder_may_be_named_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    content = tiny.study_content("~/data", tmp_path / "model")
    content["dataset"]["fsaverage"] = "~/fsaverage"
    study = load_study(tiny.write_yaml(tmp_path / "x.yaml", content))
    assert (study.root, study.dataset.fsaverage) == (tmp_path / "data", f"{tmp_path}/fsaverage")


def test_a_study_that_extends_another_has_a_name_of_its_own(tmp_path):
    """Else its results would take the place of the other's."""
    path = tiny.write_yaml(tmp_path / "mine.yaml", {"extends": "demo", "participants": ["SIM01"]})
    refused(lambda: load_study(path), "mine.yaml", "`name`")
