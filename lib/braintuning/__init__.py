"""Brain-tuning: speech models fine-tuned on fMRI of people listening to stories."""

import logging
import sys
from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "load_study": "study",
    "open_dataset": "datasets",
    "SpeechEncoder": "backbone.encoder",
    "brain_tune": "tuning.loop",
    "extract_features": "alignment.features",
    "EncodingModel": "alignment.encoding",
    "noise_ceiling": "alignment.ceiling",
    "low_level_impact": "lowlevel.impact",
    "plot_flatmap": "cortex.flatmap",
}
"""The public names, and the module that each is imported from when it is first asked for."""

__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


class _Progress(logging.StreamHandler):
    """Prints events as plain lines to whatever standard output is at the moment."""

    stream = property(lambda self: sys.stdout, lambda self, stream: None)


_logger = logging.getLogger("braintuning")
if not _logger.handlers:
    _logger.addHandler(_Progress())
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
