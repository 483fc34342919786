import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from importlib.util import find_spec

import chromium
import numpy as np
import pytest
from braintuning.cortex.regions import hcp_mmp_labels, members
from braintuning.cortex.surface import fs_lr, hcp_mesh
from braintuning.cortex.viewer import Layer, fs_lr_in_pycortex, server, without_cut_bridges, write_viewer
from braintuning.errors import InputError

pytestmark = pytest.mark.skipif(find_spec("cortex") is None, reason="pycortex is not installed")
N = 64984


def planted():
    """0.9 in the late language regions of the left hemisphere, 0.05 elsewhere."""
    inside = members(hcp_mmp_labels(), "late_language") & (np.arange(N) < 32492)
    return np.where(inside, 0.9, 0.05)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("pycortex")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, store):
    root = tmp_path_factory.mktemp("viewer")
    layers = {
        "alignment (r)": Layer(planted(), vmin=0.0, vmax=1.0, threshold=0.1),
        "brain-tuned minus pretrained": Layer(planted() - 0.5, symmetric=True),
    }
    (root / "study" / "viewer").mkdir(parents=True)
    (root / "study" / "viewer" / "old.txt").write_text("left over")
    page = write_viewer(root / "study" / "viewer", layers, title="Planted", store=store)
    assert page == root / "study" / "viewer" / "index.html"
    return page.parent


def test_the_folder_is_whole_small_and_names_its_layers(folder):
    assert [path.name for path in folder.parent.iterdir()] == ["viewer"]
    assert not (folder / "old.txt").exists()
    page = (folder / "index.html").read_text()
    assert "<title>Planted</title>" in page
    assert "alignment (r)" in page and "brain-tuned minus pretrained" in page
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 12_000_000
    (surface,) = folder.glob("*.json")
    for name in json.loads(surface.read_text()).get("materials", []):
        assert (folder / name).exists()
    assert not re.search(r'(?:src|href)="(?:/[^/]|file:)', page)


def test_bad_layers_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="found no layer, expected at least one map of 64984 vertices"):
        write_viewer(tmp_path / "viewer", {}, title="r")
    with pytest.raises(InputError, match=r"layer 'r' on fs_LR-32k: found shape \(59412,\), expected \(64984,\)"):
        write_viewer(tmp_path / "viewer", {"r": Layer(np.zeros(59412))}, title="r")
    with pytest.raises(InputError, match="all 64984 are NaN"):
        write_viewer(tmp_path / "viewer", {"r": Layer(np.full(N, np.nan))}, title="r")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"found no index\.html"):
        server(tmp_path)


def test_a_taken_port_is_named(folder):
    with server(folder) as first, pytest.raises(InputError, match=f"port {first.server_port}: cannot be opened"):
        server(folder, first.server_port)


def test_the_server_answers_this_machine(folder):
    with server(folder) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{running.server_port}/") as reply:
            assert reply.read() == (folder / "index.html").read_bytes()
        running.shutdown()


@pytest.mark.parametrize("hemisphere", ["left", "right"])
def test_every_face_that_a_cut_removed_has_lost_a_vertex(hemisphere):
    full = hcp_mesh(hemisphere, "midthickness_MSMAll")[1]
    points, flat = hcp_mesh(hemisphere, "flat")
    kept = without_cut_bridges(full, flat, len(points))

    def faces_of(faces):
        return set(map(frozenset, faces.tolist()))

    removed = faces_of(full) - faces_of(flat)

    def bridges(faces):
        on_map = set(faces.ravel().tolist())
        return sum(face <= on_map for face in removed)

    assert bridges(flat) > 100
    assert bridges(kept) == 0
    assert faces_of(kept) <= faces_of(flat)
    assert 0.97 < len(kept) / len(flat) < 1
    assert len(np.unique(flat)) - len(np.unique(kept)) < 0.02 * len(np.unique(flat))


def test_a_mesh_without_cuts_stays_as_it_is():
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    np.testing.assert_array_equal(without_cut_bridges(faces, faces, 4), faces)
    without_corner = np.array([[0, 1, 2]])
    np.testing.assert_array_equal(without_cut_bridges(faces, without_corner, 4), without_corner)


def test_pycortex_reads_the_subject_back_and_its_own_store_is_restored(store):
    with fs_lr_in_pycortex(store) as (cortex, subject):
        before = cortex.db.filestore
        for k, hemisphere in enumerate(("left", "right")):
            points, faces = cortex.db.get_surf(subject, "inflated")[k]
            np.testing.assert_allclose(points, fs_lr().inflated[hemisphere][0], atol=1e-4)
            np.testing.assert_array_equal(faces, fs_lr().inflated[hemisphere][1])
        curvature = cortex.db.get_surfinfo(subject, "curvature").data
        assert np.corrcoef(curvature, fs_lr().sulcal_depth)[0, 1] == pytest.approx(-1)
    assert cortex.db.filestore != before
    with np.load(store / "subjects" / subject / "surfaces" / "flat_lh.npz") as mesh:
        assert len(mesh["pts"]) == 32492


def test_nothing_is_written_to_the_home_of_the_user(tmp_path, store):
    (tmp_path / "home").mkdir()
    code = "import sys; from pathlib import Path; from braintuning.cortex.viewer import fs_lr_in_pycortex\n"
    code += "with fs_lr_in_pycortex(Path(sys.argv[1])): pass"
    environment = {"HOME": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path / "matplotlib"), "PATH": ""}
    environment |= {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(store)], env=environment, check=True)
    assert not list((tmp_path / "home").rglob("*pycortex*"))
    assert (store / "subjects" / "fs_LR").is_dir() and (store / "options").is_dir()


def test_a_browser_shows_colours_where_the_data_are(folder, tmp_path):
    with server(folder) as running, chromium.page(tmp_path) as page:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{running.server_port}/")
        chromium.wait_for(lambda: brain(page).mean() > 0.01, 90)
        flatten = 'viewer.animate([{state: "mix", idx: 0.2, value: 1}])'
        page.evaluate(flatten)
        chromium.wait_for(lambda: flat_and_still(page), 60)
        image = shown(page)
        running.shutdown()
    warm = (image[..., 0] - image[..., 2] > 60) & (image[..., 0] > 120)
    grey = (np.ptp(image, axis=-1) < 15) & (image[..., 0] > 40)
    columns = np.flatnonzero((warm | grey).any(axis=0))
    middle = (columns[0] + columns[-1]) // 2
    expected = (planted() > 0.5).sum() / (hcp_mmp_labels() != "").sum()
    share = warm.sum() / (warm | grey).sum()
    assert warm[:, middle:].sum() < 0.02 * warm.sum()
    assert 0.4 * expected < share < 2.5 * expected


def shown(page):
    """The part of the window where the brain is, without title and colour bar; all grey (51) while it loads."""
    image = page.screenshot().astype(int)
    return image[int(0.24 * len(image)) : int(0.86 * len(image))]


def brain(page):
    return shown(page).max(axis=-1) > 60


def flat_and_still(page):
    """Whether the brain is as wide as only the flat map is, and where it was a second ago."""
    before = brain(page)
    time.sleep(1)
    rows, columns = before.any(axis=1).sum(), before.any(axis=0).sum()
    return columns > 1.8 * rows > 0 and np.array_equal(before, brain(page))
