"""The one exception that a user is meant to read."""

import difflib


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the file or key, what was found there and what was expected.
    """


class MissingTier(InputError):
    """A whole TextGrid, or a dataset, without the tier that was asked for."""


def nearest(found: str, valid: tuple[str, ...]) -> str:
    """Words that end an error message: the valid name closest to what was found, or all of them."""
    close = difflib.get_close_matches(found, valid, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f", expected one of: {', '.join(valid) or 'none'}"
