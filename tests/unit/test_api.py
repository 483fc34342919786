"""The names of `import braintuning as bt`: every one resolves, and none is imported before it is asked for."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import braintuning as bt
import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "load_study", "open_dataset", "SpeechEncoder", "brain_tune", "extract_features", "EncodingModel", "noise_ceiling",
    "low_level_impact", "plot_flatmap",
}  # fmt: skip
HEAVY = ("torch", "numpy", "pandas", "transformers", "pydantic", "sklearn", "matplotlib", "peft", "himalaya", "cortex")


def fresh(code):
    """What a fresh process prints, as JSON."""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return json.loads(printed)


def test_public_names_are_those_of_the_plan():
    assert set(bt.__all__) == NAMES <= set(dir(bt))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_public_name_resolves_to_something_documented(name):
    found = getattr(bt, name)
    assert callable(found) and found.__doc__
    assert getattr(bt, name) is found


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'braintuning' has no attribute 'load_studdy'"):
        getattr(bt, "load_studdy")  # noqa: B009
    assert not hasattr(bt, "extract")


def test_rooms_are_still_found_as_modules():
    assert import_module("braintuning.study").load_study is bt.load_study


def test_import_brings_nothing_heavy():
    modules = set(fresh("import braintuning, json, sys; print(json.dumps(sorted(sys.modules)))"))
    assert not modules & set(HEAVY)
    assert {name for name in modules if name.startswith("braintuning")} == {"braintuning"}


def test_a_name_brings_only_its_room():
    code = "import braintuning as bt, json, sys; bt.load_study; print(json.dumps(sorted(sys.modules)))"
    rooms = {name.split(".")[1] for name in fresh(code) if name.startswith("braintuning.")}
    assert rooms == {"study", "errors", "results"}
