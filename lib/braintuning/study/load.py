"""Reading a study from its YAML file."""

import json
import shlex
from pathlib import Path

import yaml
from pydantic import ValidationError

from braintuning.errors import InputError, nearest
from braintuning.results import REPOSITORY
from braintuning.study.messages import explain
from braintuning.study.recordings import with_people
from braintuning.study.settings import DatasetSettings
from braintuning.study.study import Study

STUDIES = REPOSITORY / "data" / "studies"


def load_study(name: str | Path, root: str | None = None) -> Study:
    """Read a study file; `InputError` where there is none, or for a key or value that cannot be.

    A file that says `extends: <study>` holds only what differs: its keys replace those of the other study, mapping by
    mapping; `null` in place of one of its backbones, variants or recordings leaves that out.

    Parameters
    ----------
    name
        A name in `data/studies`, or a path to a YAML file.
    root
        Folder of the dataset, instead of the one that the file names.
    """
    root = root and str(Path(root).absolute())
    path = _path(name)
    content = _content(path)
    if root and isinstance(content.get("dataset"), dict):
        content["dataset"]["root"] = root
    try:
        study = Study.model_validate_json(json.dumps(_with_names(content), default=str))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, Study)}") from None
    study._file, study._root = path.absolute(), root
    return study


def given_name(study: Study) -> str:
    """What a command has to be told for a study: its name in `data/studies`, else the path of its file, quoted."""
    file, _ = study.source
    return file.stem if file.parent == STUDIES else shlex.quote(str(file))


def _with_names(content: dict) -> dict:
    """A study's content with names in place of patterns for participants, where its dataset has parcellated recordings.

    A `dataset` that is no valid section is left to the study's own messages.
    """
    try:
        dataset = DatasetSettings.model_validate_json(json.dumps(content.get("dataset"), default=str))
    except ValidationError:
        return content
    root = REPOSITORY / Path(dataset.root).expanduser()
    return with_people(content, root, dataset.recordings) if dataset.recordings else content


def _path(name: str | Path) -> Path:
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    if not path.is_file():
        known = sorted(study.stem for study in STUDIES.glob("*.yaml"))
        raise InputError(f"{path}: no such study{nearest(str(name), known)}")
    return path


def _content(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    """What a study file says, together with what it extends."""
    if path in seen:
        raise InputError(f"{path}: found `extends` in a circle, expected another study")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {type(content).__name__}, expected the keys of a study")
    if "extends" not in content:
        return content
    whole = _merged(_content(_path(str(content.pop("extends"))), (*seen, path)), content)
    for part, key in ((whole, "backbones"), (whole, "variants"), (whole.get("dataset"), "recordings")):
        if isinstance(part, dict) and isinstance(part.get(key), dict):
            part[key] = {name: own for name, own in part[key].items() if own is not None}
    return whole


def _merged(base: dict, changes: dict) -> dict:
    """A mapping with changes, those of a mapping within it merged likewise."""
    mappings = {key for key, value in changes.items() if isinstance(value, dict) and isinstance(base.get(key), dict)}
    return base | changes | {key: _merged(base[key], changes[key]) for key in mappings}
