import os
from pathlib import Path

import pytest
import tiny
import tiny_people

# Oracles are exact: models compute in float32 on every machine, but in the tests of other precisions.
os.environ["BRAINTUNING_PRECISION"] = "float32"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout that holds reference data in development and CI, never on a user's machine."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no shared/ folder beside the checkout")
    return folder


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tiny.TinyDataset:
    """A dataset that nobody changes, with two models beside its folder."""
    folder = tmp_path_factory.mktemp("pristine")
    tiny.encoder("hubert").save_pretrained(folder / "backbone")
    tiny.encoder("whisper").save_pretrained(folder / "whisper")
    return tiny.write_dataset(folder / "ds")


@pytest.fixture
def files(tmp_path: Path, pristine: tiny.TinyDataset) -> tiny.TinyDataset:
    """The same to change."""
    return tiny.copy_dataset(pristine, tmp_path / "ds")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of regions that nobody changes."""
    folder = tmp_path_factory.mktemp("recordings")
    for name in tiny_people.PEOPLE:
        tiny_people.write_recording(folder, name)
    return folder
