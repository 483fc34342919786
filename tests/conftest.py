import os
from pathlib import Path

import pytest

# Oracles are exact: models compute in float32 on every machine, but in the tests of other precisions.
os.environ["BRAINTUNING_PRECISION"] = "float32"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout that holds reference data in development and CI, never on a user's machine."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no shared/ folder beside the checkout")
    return folder
