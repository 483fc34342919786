import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import nilearn.datasets
import numpy as np
import pytest
from braintuning.cortex import fsaverage
from braintuning.cortex.surface import read_mesh
from braintuning.errors import InputError
from nibabel.freesurfer import write_geometry
from scipy.spatial.transform import Rotation
from tiny_subject import icosphere, region_at, write_annotation, write_fsaverage

PREFIXES = {"left": "lh", "right": "rh"}


def reference(*arguments, **named):
    return fsaverage.read_reference(*fsaverage.reference_files(*arguments, **named))


@pytest.fixture(scope="module")
def bundled():
    files = nilearn.datasets.fetch_surf_fsaverage("fsaverage5")
    return {h: read_mesh(files[f"sphere_{h}"])[0] for h in PREFIXES}


class _Counting(SimpleHTTPRequestHandler):
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Annotations of fsaverage's size on loopback, with the MD5 they have; no network for the sphere."""
    folder, names = tmp_path / "served", np.array(["A1", "PGp", "V1"])
    folder.mkdir()
    addresses = {}
    handler = type("Handler", (_Counting,), {})
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    for k, (hemisphere, prefix) in enumerate(PREFIXES.items()):
        numbers = np.random.default_rng(k).integers(0, 3, fsaverage.N_FSAVERAGE)
        path = folder / f"{prefix}.annot"
        write_annotation(path, [f"{prefix[0].upper()}_{name}_ROI" for name in names[numbers]])
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        addresses[hemisphere] = (f"http://127.0.0.1:{http.server_port}/{path.name}", md5)
    monkeypatch.setattr(fsaverage, "ANNOTATIONS", addresses)
    real = nilearn.datasets.fetch_surf_fsaverage

    def offline(mesh="fsaverage5", data_dir=None):
        if mesh != "fsaverage5":
            raise ConnectionError("no network")
        return real(mesh)

    monkeypatch.setattr(nilearn.datasets, "fetch_surf_fsaverage", offline)
    fsaverage._downloaded_spheres.cache_clear()
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield handler, addresses, names
    http.shutdown()
    http.server_close()
    thread.join()
    fsaverage._downloaded_spheres.cache_clear()


def test_labels_come_from_the_nearest_vertex_whatever_the_radius():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(80, 3)), rng.normal(size=(120, 3))
    labels = np.array([f"region {k}" for k in range(80)])
    found = fsaverage.transfer_labels(source * rng.uniform(50, 150, (80, 1)), labels, target)
    cosine = (target / np.linalg.norm(target, axis=1)[:, None]) @ (source / np.linalg.norm(source, axis=1)[:, None]).T
    np.testing.assert_array_equal(found, labels[cosine.argmax(axis=1)])


def test_planted_regions_come_back_on_a_turned_and_warped_sphere():
    source, _ = icosphere(4)
    points, _ = icosphere(3)
    points = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).apply(points) + 0.05 * np.sin(4 * points)
    points /= np.linalg.norm(points, axis=1)[:, None]
    truth, inside = region_at(points, -1, margin=0.05)
    found = fsaverage.transfer_labels(100 * source, region_at(source, -1)[0], 87 * points)
    assert inside.mean() > 0.5
    np.testing.assert_array_equal(found[inside], truth[inside])


def test_a_vertex_at_the_origin_is_refused():
    sphere = icosphere(0)[0]
    with pytest.raises(InputError, match="1 vertices at the origin or NaN"):
        fsaverage.transfer_labels(sphere, np.array(["a"] * 12), np.vstack([sphere, np.zeros(3)]))


@pytest.mark.parametrize(
    ("name", "region"),
    [("L_A1_ROI", "A1"), ("L_44_ROI", "44"), ("L_9-46d_ROI", "9-46d"), ("L_p9-46v_ROI-lh", "p9-46v"), ("???", "")],
)
def test_region_names_lose_hemisphere_and_ending(name, region):
    assert fsaverage.region_name(name, "left") == region


def test_every_hcp_mmp_name_survives():
    from braintuning.cortex.regions import hcp_mmp_labels

    for region in set(hcp_mmp_labels().tolist()) - {""}:
        assert fsaverage.region_name(f"R_{region}_ROI", "right") == region


def test_a_region_on_the_wrong_side_is_refused():
    with pytest.raises(InputError, match="R_A1_ROI: found in the left"):
        fsaverage.region_name("R_A1_ROI", "left")


def test_a_folder_of_the_user_is_read(tmp_path):
    labels, spheres = reference(write_fsaverage(tmp_path / "fsaverage"))
    points = icosphere(4)[0]
    for hemisphere, side in (("left", -1), ("right", 1)):
        assert labels[hemisphere].tolist() == region_at(points, side)[0].tolist()
        np.testing.assert_allclose(spheres[hemisphere], 100 * points, atol=1e-4)


def test_what_is_wrong_in_a_folder_is_named(tmp_path):
    folder = write_fsaverage(tmp_path / "fsaverage")
    (folder / "label" / "rh.HCPMMP1.annot").rename(folder / "label" / "rh.HCP-MMP1.annot")
    assert fsaverage.reference_files(folder)[0]["right"].name == "rh.HCP-MMP1.annot"
    write_geometry(folder / "surf" / "rh.sphere.reg", *icosphere(3))
    with pytest.raises(
        InputError, match=r"rh\.HCP-MMP1\.annot: found 2562 vertices, expected 642 as .*rh\.sphere\.reg"
    ):
        reference(folder)
    (folder / "label" / "rh.HCP-MMP1.annot").write_bytes(b"not an annotation")
    with pytest.raises(InputError, match=r"rh\.HCP-MMP1\.annot: found .*, expected a FreeSurfer annotation"):
        reference(folder)
    (folder / "surf" / "lh.sphere.reg").write_bytes(b"neither a surface")
    with pytest.raises(InputError, match=r"lh\.sphere\.reg: found something unreadable"):
        reference(folder)
    (folder / "label" / "lh.HCPMMP1.annot").unlink()
    with pytest.raises(InputError, match=r"lh\.HCPMMP1\.annot: not found"):
        reference(folder)


def test_each_mesh_begins_with_the_coarser_one(bundled):
    """Nilearn's sphere of fsaverage5: every vertex after the first n of a level halves an edge between two of them."""
    for sphere in bundled.values():
        unit = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
        for level in range(4):
            n, finer = 10 * 4**level + 2, 10 * 4 ** (level + 1) + 2
            from_coarse = np.sort(np.linalg.norm(unit[n:finer, None] - unit[None, :n], axis=2), axis=1)
            np.testing.assert_allclose(from_coarse[:, 0], from_coarse[:, 1], rtol=0.02)
            assert (from_coarse[:, 0] < 0.75 * 1.1 / 2**level).all()


def test_without_the_full_sphere_fsaverage5_takes_the_first_labels(server, bundled, tmp_path):
    handler, _, names = server
    with pytest.raises(InputError, match=r"sphere of fsaverage: cannot be downloaded .*`coarse_regions: true`"):
        reference(cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match="regions come from fsaverage5"):
        reference(cache=tmp_path / "cache", coarse=True)
    labels, spheres = reference(cache=tmp_path / "cache", coarse=True)
    assert handler.requests == 2
    for k, hemisphere in enumerate(PREFIXES):
        truth = names[np.random.default_rng(k).integers(0, 3, fsaverage.N_FSAVERAGE)]
        assert labels[hemisphere].tolist() == truth[: fsaverage.N_FSAVERAGE5].tolist()
        np.testing.assert_array_equal(spheres[hemisphere], bundled[hemisphere])


def test_the_full_sphere_is_taken_where_it_can_be_had(server, bundled, tmp_path, monkeypatch):
    points = np.random.default_rng(5).normal(size=(fsaverage.N_FSAVERAGE, 3))
    paths = {f"sphere_{hemisphere}": str(tmp_path / hemisphere) for hemisphere in PREFIXES}
    for path in paths.values():
        write_geometry(path, points, np.array([[0, 1, 2]]))
    monkeypatch.setattr(nilearn.datasets, "fetch_surf_fsaverage", lambda mesh, data_dir: paths)
    assert len(reference(cache=tmp_path / "cache")[0]["left"]) == fsaverage.N_FSAVERAGE


@pytest.mark.parametrize("fault", ["another file", "404", "nobody there"])
def test_a_download_that_fails_says_where_to_get_the_files(server, tmp_path, monkeypatch, fault):
    _, addresses, _ = server
    address, md5 = addresses["left"]
    if fault == "another file":
        md5 = "0" * 32
    address = {"404": f"{address}.gone", "nobody there": "http://127.0.0.1:1/lh.annot"}.get(fault, address)
    monkeypatch.setitem(addresses, "left", (address, md5))
    with pytest.raises(InputError) as caught:
        fsaverage.reference_files(cache=tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(address) and "3498446" in message and "label/lh.HCPMMP1.annot" in message
    assert ("MD5" in message) == (fault == "another file")
    assert "\n" not in message
    assert not (tmp_path / "cache" / "lh.HCPMMP1.annot").exists()
