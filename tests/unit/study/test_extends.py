"""A study that extends another."""

import tiny
from braintuning.study import load_study
from tiny import refused


def test_a_study_holds_only_what_differs_from_another(tmp_path):
    content = tiny.study_content(tmp_path / "data", tmp_path / "model")
    base = tiny.write_yaml(tmp_path / "base.yaml", content)
    changes = {"extends": str(base), "name": "other", "tuning": {"epochs": 7}, "participants": ["P2"]}
    study, whole = load_study(tiny.write_yaml(tmp_path / "other.yaml", changes)), load_study(base)
    assert (study.name, study.tuning.epochs, study.participants) == ("other", 7, ("P2",))
    assert study.tuning.clip_seconds == whole.tuning.clip_seconds == 2.0
    assert study.stories == whole.stories and study.source[0] == tmp_path / "other.yaml"


def test_studies_may_extend_in_a_row_and_not_in_a_circle(tmp_path):
    content = tiny.study_content(tmp_path / "data", tmp_path / "model")
    paths = [tmp_path / f"{name}.yaml" for name in "abc"]
    tiny.write_yaml(paths[0], content)
    tiny.write_yaml(paths[1], {"extends": str(paths[0]), "tuning": {"epochs": 7}})
    tiny.write_yaml(paths[2], {"extends": str(paths[1]), "tuning": {"batch_size": 3}})
    assert load_study(paths[2]).tuning.model_dump().items() >= {"epochs": 7, "batch_size": 3}.items()
    tiny.write_yaml(paths[0], {"extends": str(paths[2])})
    refused(lambda: load_study(paths[2]), "extends", "circle")


def test_what_is_extended_is_named_where_it_is_missing(tmp_path):
    refused(lambda: load_study(tiny.write_yaml(tmp_path / "x.yaml", {"extends": "papre"})), "papre", "paper")


def test_the_study_of_components_is_the_papers_but_for_its_tuning():
    paper, components = load_study("paper"), load_study("paper-components")
    changed = {key for key in type(paper).model_fields if getattr(paper, key) != getattr(components, key)}
    assert changed == {"name", "title", "tuning", "variants"}
