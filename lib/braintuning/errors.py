"""The exceptions that a user is meant to read, and what is said of a name that does not exist."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

KERNEL_NAMES = {"In", "Out", "get_ipython", "exit", "quit", "open"}


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the file or key, what was found there and what was expected.
    """


class NotebookError(RuntimeError):
    """A notebook stopped at something that is nobody's input; one sentence that names the file to open."""


class MissingTier(InputError):
    """A whole TextGrid, or a dataset, without the tier that was asked for."""


def nearest(found: str, valid: Collection[str]) -> str:
    """Words that end an error message: the valid name closest to what was found, or all of them."""
    close = difflib.get_close_matches(found, valid, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f", expected one of: {', '.join(valid) or 'none'}"


def check_parameters(namespace: Mapping[str, Any], *expected: str) -> None:
    """Raise `InputError` in a notebook that was given a parameter it does not have, of which papermill only warns.

    Called as `check_parameters(globals(), ...)` in the first cell after the parameters, before any import of a name.
    """
    value = str | int | float | list | dict | None
    names = {name for name, found in namespace.items() if not name.startswith("_") and isinstance(found, value)}
    if unknown := sorted(names - KERNEL_NAMES - set(expected)):
        raise InputError(f"notebook parameter {unknown[0]!r} does not exist{nearest(unknown[0], expected)}")
