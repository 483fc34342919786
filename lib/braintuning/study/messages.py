"""What a study file is told that cannot be read."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from braintuning.errors import nearest
from braintuning.study.simulation import BY_NAME, NUMBER, Section

OF_UNIONS = ("float", "int", "str", "none")
"""What pydantic adds to the place of a value that may be of several types."""


def explain(error: ValidationError, whole: type[Section]) -> str:
    """The first thing that is wrong with a section: its key, what was found, and what was expected."""
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    *parents, key = (str(part) for part in problem["loc"] if part not in (NUMBER, BY_NAME, *OF_UNIONS))
    where = f" in `{'.'.join(parents)}`" if parents else ""
    if problem["type"] == "extra_forbidden":
        return f"unknown key `{key}`{where}{nearest(key, _keys(parents, whole))}"
    found = "" if problem["type"] == "missing" else f": found {problem['input']!r}"
    return f"key `{key}`{where}{found}: {problem['msg']}"


def _keys(parents: list[str], kind: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """The valid keys of the section that lies under these keys."""
    for parent in parents:
        kind = get_args(kind)[1] if get_origin(kind) is Mapping else kind.model_fields[parent].annotation
        kind = get_args(kind)[0] if get_origin(kind) is UnionType else kind
    return kind.model_fields
