import os
import subprocess
import sys
from pathlib import Path

import nibabel
import pytest
from braintuning.cortex.pycortex_mapper import voxel_shares
from tiny_subject import write_fsaverage, write_subject

PARTICIPANT = "UTS03"


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    root = tmp_path_factory.mktemp("brain")
    facts = write_subject(root / "derivative", PARTICIPANT, seed=3)
    write_fsaverage(root / "fsaverage")
    return root, facts


def shares(brain, store):
    return voxel_shares(brain[0] / "derivative" / "pycortex-db" / PARTICIPANT, f"{PARTICIPANT}_auto", store)


def tree(folder: Path) -> list[tuple]:
    return sorted((str(p.relative_to(folder)), p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.rglob("*"))


def test_nothing_is_written_into_the_dataset(brain, tmp_path):
    before = tree(brain[0] / "derivative")
    assert shares(brain, tmp_path).shape == (1284, brain[1].n_voxels)
    assert tree(brain[0] / "derivative") == before
    assert [p.name for p in tmp_path.iterdir()] == ["options"]


def test_pycortex_writes_neither_to_the_home_nor_beside_the_packages(brain, tmp_path):
    home, plots = tmp_path / "home", tmp_path / "plots"
    home.mkdir()
    packages = Path(sys.prefix) / "share" / "pycortex"
    site = Path(nibabel.__file__).parents[2]
    code = f"""
import sys
from pathlib import Path
import braintuning.datasets, braintuning.pipeline.steps
from braintuning.cortex.pycortex import participant_cortex
assert "cortex" not in sys.modules
root = Path({str(brain[0])!r})
participant_cortex(root / "derivative", {PARTICIPANT!r}, root / "fsaverage", Path({str(tmp_path / "cache")!r}))
assert "cortex" in sys.modules
import os
assert "XDG_CONFIG_HOME" not in os.environ
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    environment |= {"HOME": str(home), "MPLCONFIGDIR": str(plots), "PYTHONDONTWRITEBYTECODE": "1"}
    before = tree(packages), tree(site / "cortex"), tree(home)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tree(packages), tree(site / "cortex"), tree(home)) == before
    assert (done.stdout, done.stderr) == ("", "")
    assert list((tmp_path / "cache" / "pycortex" / "options").rglob("options.cfg"))


def test_a_pycortex_that_the_user_imported_keeps_its_database(brain, tmp_path):
    import cortex

    before, subjects = cortex.db.filestore, list(cortex.db.subjects) if Path(cortex.db.filestore).is_dir() else None
    shares(brain, tmp_path)
    assert cortex.db.filestore == before
    if subjects is not None:
        assert list(cortex.db.subjects) == subjects
