"""Brain-tuning: speech models fine-tuned on fMRI of people listening to stories."""

import logging
import sys

__version__ = "0.1.0"


class _Progress(logging.StreamHandler):
    """Prints events as plain lines to whatever standard output is at the moment."""

    @property
    def stream(self):  # noqa: ANN202
        return sys.stdout

    @stream.setter
    def stream(self, stream: object) -> None:
        """Ignore the stream of the moment when the handler was made."""


_logger = logging.getLogger("braintuning")
if not _logger.handlers:
    _logger.addHandler(_Progress())
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
