"""Reading a study from its YAML file."""

import json
import re
import shlex
from pathlib import Path

import yaml
from pydantic import ValidationError

from braintuning.errors import InputError, nearest
from braintuning.results import REPOSITORY
from braintuning.study.messages import explain
from braintuning.study.recordings import People, with_people
from braintuning.study.settings import DatasetSettings
from braintuning.study.study import Study

STUDIES = REPOSITORY / "data" / "studies"


class _Yaml(yaml.SafeLoader):
    """YAML as its version 1.2 has it: `1e-4` and `1.5e4` are numbers, and no key stands there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"key {twice[0]!r} stands there twice\n{node.start_mark}")
        return super().construct_mapping(node, deep)


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_Yaml.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


def load_study(name: str | Path, root: str | None = None) -> Study:
    """Read and check a study file; `InputError` if it is not there, or names the first key or value that is not valid.

    A file with `extends: <study>`, where the study may also be a file beside it, holds only what differs: its keys
    replace those of the other study, mapping by mapping; `null` leaves out a backbone, variant or recording of it.

    Parameters
    ----------
    name : str or Path
        A name in `data/studies`, such as `demo`, or the path of a YAML file.
    root : str, optional
        Folder of the dataset, instead of the one that the file names.
    """
    root = root and str(Path(root).absolute())
    path = _path(name)
    content = _content(path)
    if root and isinstance(content.get("dataset"), dict):
        content["dataset"]["root"] = root
    try:
        study = Study.model_validate_json(json.dumps(content | _names(content), default=str))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, Study)}") from None
    study._file, study._root = path.absolute(), root
    return study


def given_name(study: Study) -> str:
    """What a command has to be told for a study: its name in `data/studies`, else the path of its file, quoted."""
    file, _ = study.source
    return file.stem if file.parent == STUDIES else shlex.quote(str(file))


def _names(content: dict) -> dict:
    """Keys of a study with names in place of patterns for participants, where its dataset has parcellated recordings.

    A `dataset` that is no valid section is left to the study's own messages.
    """
    try:
        dataset = DatasetSettings.model_validate_json(json.dumps(content.get("dataset"), default=str))
    except ValidationError:
        return {}
    if not dataset.recordings:
        return {}
    given = People.model_validate_json(json.dumps(content, default=str))
    return with_people(given, REPOSITORY / dataset.root, dataset.recordings)


def _path(name: str | Path) -> Path:
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    if not path.is_file():
        known = sorted(study.stem for study in STUDIES.glob("*.yaml"))
        raise InputError(f"{path}: no such study{nearest(str(name), known)}")
    return path


def _content(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    """What a study file says, together with what it extends."""
    if path.resolve() in seen:
        raise InputError(f"{path}: found `extends` in a circle, expected another study")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Yaml)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {type(content).__name__}, expected the keys of a study")
    if "extends" not in content:
        return content
    other = str(content.pop("extends"))
    if "name" not in content:
        raise InputError(f"{path}: found no `name` beside `extends`, expected one: results lie under it")
    beside = path.parent / other
    whole = _merged(_content(_path(beside if beside.is_file() else other), (*seen, path.resolve())), content)
    for part, key in ((whole, "backbones"), (whole, "variants"), (whole.get("dataset"), "recordings")):
        if isinstance(part, dict) and isinstance(part.get(key), dict):
            part[key] = {name: own for name, own in part[key].items() if own is not None}
    return whole


def _merged(base: dict, changes: dict) -> dict:
    """A mapping with changes, those of a mapping within it merged likewise."""
    mappings = {key for key, value in changes.items() if isinstance(value, dict) and isinstance(base.get(key), dict)}
    return base | changes | {key: _merged(base[key], changes[key]) for key in mappings}
