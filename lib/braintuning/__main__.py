"""`python -m braintuning`."""

import sys

from braintuning.cli import main

sys.exit(main())
