"""Numbers that a study gives once, or by name: for each participant, each story, or both."""

from collections.abc import Mapping

from braintuning.errors import InputError


def own(value: float | Mapping, key: str, *names: str) -> float:
    """The number that a setting has under some names, whichever comes first; `InputError` where it has none."""
    while isinstance(value, Mapping):
        found = [name for name in names if name in value]
        if not found:
            raise InputError(f"found no `{key}` of {' or '.join(names)} in `dataset`, expected a number of seconds")
        value = value[found[0]]
    return value


def names_in(value: float | Mapping | None) -> list[str]:
    """Every name that a setting has numbers for, at any depth."""
    if not isinstance(value, Mapping):
        return []
    return [*value, *(name for inner in value.values() for name in names_in(inner))]
