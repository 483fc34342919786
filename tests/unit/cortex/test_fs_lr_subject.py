import subprocess
import sys
from importlib.util import find_spec

import nibabel
import numpy as np
import pytest
from braintuning.cortex.fs_lr_subject import fs_lr_in_pycortex, without_cut_bridges
from braintuning.cortex.surface import fs_lr, hcp_mesh

pytestmark = pytest.mark.skipif(find_spec("cortex") is None, reason="pycortex is not installed")


@pytest.mark.parametrize("hemisphere", ["left", "right"])
def test_every_face_that_a_cut_removed_has_lost_a_vertex(hemisphere):
    full = hcp_mesh(hemisphere, "midthickness_MSMAll")[1]
    points, flat = hcp_mesh(hemisphere, "flat")
    kept = without_cut_bridges(full, flat, len(points))

    def bridges(faces):
        on_map = np.isin(np.arange(len(points)), faces)
        present = {frozenset(face) for face in flat.tolist()}
        return sum(on_map[face].all() and frozenset(face.tolist()) not in present for face in full)

    assert bridges(flat) > 100
    assert bridges(kept) == 0
    assert {frozenset(face) for face in kept.tolist()} <= {frozenset(face) for face in flat.tolist()}
    assert 0.97 < len(kept) / len(flat) < 1
    assert len(np.unique(flat)) - len(np.unique(kept)) < 0.02 * len(np.unique(flat))


def test_a_mesh_without_cuts_stays_as_it_is():
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    np.testing.assert_array_equal(without_cut_bridges(faces, faces, 4), faces)
    without_corner = np.array([[0, 1, 2]])
    np.testing.assert_array_equal(without_cut_bridges(faces, without_corner, 4), without_corner)


def test_pycortex_reads_the_subject_back_and_its_own_store_is_restored(tmp_path):
    with fs_lr_in_pycortex(tmp_path / "store") as (cortex, subject):
        before = cortex.db.filestore
        for k, hemisphere in enumerate(("left", "right")):
            points, faces = cortex.db.get_surf(subject, "inflated")[k]
            np.testing.assert_allclose(points, fs_lr().inflated[hemisphere][0], atol=1e-4)
            np.testing.assert_array_equal(faces, fs_lr().inflated[hemisphere][1])
        curvature = cortex.db.get_surfinfo(subject, "curvature").data
        assert np.corrcoef(curvature, fs_lr().sulcal_depth)[0, 1] == pytest.approx(-1)
    assert cortex.db.filestore != before
    image = nibabel.load(tmp_path / "store" / "subjects" / subject / "surfaces" / "flat_lh.gii")
    assert len(image.agg_data("pointset")) == 32492


def test_nothing_is_written_to_the_home_of_the_user(tmp_path):
    (tmp_path / "home").mkdir()
    code = "import sys; from pathlib import Path; from braintuning.cortex.fs_lr_subject import fs_lr_in_pycortex\n"
    code += "with fs_lr_in_pycortex(Path(sys.argv[1])): pass"
    environment = {"HOME": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path / "matplotlib"), "PATH": ""}
    environment |= {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], env=environment, check=True)
    assert not list((tmp_path / "home").rglob("*pycortex*"))
    assert (tmp_path / "store" / "subjects" / "fs_LR").is_dir()
