"""`python -m braintuning`."""

import os
import signal
import sys

from braintuning.cli import main
from braintuning.pipeline.times import INSIDE_A_JOB

if INSIDE_A_JOB not in os.environ:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what it has started ends with it
sys.exit(main())
