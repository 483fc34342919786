import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from braintuning.cortex import pycortex as pycortex_subject
from braintuning.cortex.flatmap import plot_flatmap
from braintuning.cortex.pycortex import _gyral_convexity, participant_cortex, transform_of, voxel_shares
from braintuning.cortex.subject import fs_lr_cortex_of_points, fs_lr_cortex_of_vertices
from braintuning.errors import InputError
from matplotlib.figure import Figure
from nibabel.freesurfer import write_geometry
from tiny import refused
from tiny_subject import PIAL, VOXEL, WHITE, icosphere, write_fsaverage, write_subject

PARTICIPANT = "UTS03"


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    root = tmp_path_factory.mktemp("brain")
    facts = write_subject(root / "derivative", PARTICIPANT, seed=3)
    write_fsaverage(root / "fsaverage")
    return root, facts, participant_cortex(root / "derivative", PARTICIPANT, root / "fsaverage", root / "cache")


@pytest.fixture
def copy(brain, tmp_path):
    """A copy of the participant to damage, read with a cache of its own."""
    shutil.copytree(brain[0] / "derivative", tmp_path / "derivative")
    return tmp_path / "derivative", lambda: participant_cortex(
        tmp_path / "derivative", PARTICIPANT, brain[0] / "fsaverage", tmp_path / "cache"
    )


def voxel_centres(facts) -> np.ndarray:
    """Millimetres of each voxel of the mask, in the order of the responses: z slowest, x fastest."""
    found = []
    for z in range(facts.mask.shape[0]):
        for y in range(facts.mask.shape[1]):
            for x in range(facts.mask.shape[2]):
                if facts.mask[z, y, x]:
                    found.append(np.linalg.solve(facts.mm_to_voxel, [x, y, z, 1])[:3])
    return np.array(found)


def test_planted_regions_come_back(brain):
    _, facts, cortex = brain
    assert facts.inside.mean() > 0.5
    np.testing.assert_array_equal(cortex.vertex_labels[facts.inside], facts.labels[facts.inside])
    np.testing.assert_array_equal(cortex.surface.cortex, facts.on_cortex)
    assert not cortex.vertex_labels[~facts.on_cortex].any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_voxels_are_in_the_order_of_the_responses(brain, axis):
    _, facts, cortex = brain
    assert cortex.n_voxels == facts.n_voxels == len(voxel_centres(facts))
    vertices = cortex.to_vertices(voxel_centres(facts)[:, axis])
    error = (vertices - facts.middle[:, axis])[facts.on_cortex]
    assert np.abs(error).max() < 0.5 * VOXEL + 0.5 * (PIAL - WHITE)


def test_the_shares_are_the_length_of_grey_matter_in_each_voxel(brain):
    _, facts, cortex = brain
    centres, shares = voxel_centres(facts), cortex.vertices_from_voxels.toarray()
    direction = facts.middle - np.where(facts.middle[:, :1] < 0, -1, 1) * [[20.0, 0, 0]]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depths = (np.arange(2000) + 0.5) / 2000 * (PIAL - WHITE) - (PIAL - WHITE) / 2
    for vertex in np.flatnonzero(facts.on_cortex)[::37]:
        points = facts.middle[vertex] + depths[:, None] * direction[vertex]
        inside = (np.abs(points[:, None] - centres) <= VOXEL / 2).all(axis=2)
        np.testing.assert_allclose(shares[vertex], inside.mean(axis=0), atol=3 / 64)
    assert shares[~facts.on_cortex].sum() == 0


def test_a_value_planted_in_a_voxel_comes_out_over_it_and_nowhere_else(brain):
    _, facts, cortex = brain
    voxel = int(cortex.vertices_from_voxels.sum(axis=0).argmax())
    values = np.zeros(cortex.n_voxels)
    values[voxel] = 1
    seen = np.nan_to_num(cortex.to_vertices(values))
    reach = np.linalg.norm(facts.middle - voxel_centres(facts)[voxel], axis=1)
    assert seen.max() > 0.5
    assert (reach[seen > 0] < 0.9 * VOXEL + 0.5 * (PIAL - WHITE)).all()
    assert not seen[reach > 2 * VOXEL].any()
    known = cortex.to_vertices(np.full(cortex.n_voxels, 3.3))
    np.testing.assert_allclose(known[facts.on_cortex], 3.3, rtol=1e-12)
    assert np.isnan(known[~facts.on_cortex]).all()


def test_voxels_have_the_region_of_the_cortex_in_them(brain):
    _, facts, cortex = brain
    side = np.where(facts.middle[:, :1] < 0, -1, 1) * [[20.0, 0, 0]]
    number = np.full(facts.mask.shape, -1)
    number[facts.mask] = np.arange(facts.n_voxels)
    length = [{} for _ in range(facts.n_voxels)]
    for depth in (np.arange(300) + 0.5) / 300:
        radius = WHITE + depth * (PIAL - WHITE)
        points = side + (facts.middle - side) * radius / ((WHITE + PIAL) / 2)
        x, y, z = np.rint(points @ facts.mm_to_voxel[:3, :3].T + facts.mm_to_voxel[:3, 3]).astype(int).T
        for vertex, voxel in enumerate(number[z, y, x]):
            if facts.on_cortex[vertex]:
                region = cortex.vertex_labels[vertex]
                length[voxel][region] = length[voxel].get(region, 0) + 1
    clear = 0
    for voxel, by_region in enumerate(length):
        first, second = sorted([*by_region.values(), 0, 0], reverse=True)[:2]
        if not by_region:
            assert cortex.voxel_labels[voxel] == ""
        elif first - second > 30:
            clear += 1
            assert cortex.voxel_labels[voxel] == max(by_region, key=by_region.get)
    assert clear > 100 and not all(length)


def test_the_cache_is_used_and_follows_the_files(copy, monkeypatch):
    derivative, read = copy
    first = read()
    monkeypatch.setattr(pycortex_subject, "subject_cortex", lambda *_: pytest.fail("made again"))
    again = read()
    assert again.voxel_labels.tolist() == first.voxel_labels.tolist()
    assert (again.vertices_from_voxels != first.vertices_from_voxels).nnz == 0
    monkeypatch.undo()
    mask_file = derivative / "pycortex-db" / PARTICIPANT / "transforms" / f"{PARTICIPANT}_auto" / "mask_thick.nii.gz"
    image = nibabel.load(mask_file)
    mask = np.asarray(image.dataobj).copy()
    mask[tuple(np.argwhere(mask)[0])] = 0
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), mask_file)
    assert read().n_voxels == first.n_voxels - 1


def test_archives_instead_of_gifti_give_the_same(brain, tmp_path):
    """UTS02 has surfaces as .npz."""
    write_subject(tmp_path / "derivative", PARTICIPANT, seed=3, suffix="npz")
    found = participant_cortex(tmp_path / "derivative", PARTICIPANT, brain[0] / "fsaverage", tmp_path / "cache")
    assert found.voxel_labels.tolist() == brain[2].voxel_labels.tolist()
    np.testing.assert_array_equal(found.surface.flat_coordinates, brain[2].surface.flat_coordinates)


def transforms(derivative: Path, *names: str) -> Path:
    """Give the participant's one transform these names."""
    folder = derivative / "pycortex-db" / PARTICIPANT / "transforms"
    usual = folder / f"{PARTICIPANT}_auto"
    for name in names:
        shutil.copytree(usual, folder / name)
    shutil.rmtree(usual)
    return folder


def test_a_transform_of_any_name_is_found_where_there_is_but_one(copy, brain):
    derivative, read = copy
    folder = transforms(derivative, "func to anat, 2nd")
    for junk in ("._func", ".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / junk).write_text("x")
        (folder.parent / "surfaces" / junk).write_text("x")
    (folder.parent / "surfaces" / "._flat_lh.gii").write_text("x")
    assert read().voxel_labels.tolist() == brain[2].voxel_labels.tolist()


def test_the_table_of_transforms_says_which_of_several(copy, brain):
    derivative, read = copy
    folder, table = transforms(derivative, "fullhead", "retinotopy"), derivative / "subject_xfms.json"
    (folder / "retinotopy" / "mask_thick.nii.gz").unlink()
    sentence = ("found 2 transforms (fullhead, retinotopy)", "UTS03_auto, or its name in", '{"UTS03": "fullhead"}')
    refused(read, folder, table, *sentence)
    table.write_text('{"UTS01": "UTS01_auto"}')
    refused(read, folder, table, *sentence)
    table.write_text('\ufeff{"UTS01": "UTS01_auto", "UTS03": "fullhead"}', encoding="utf-8")
    assert read().voxel_labels.tolist() == brain[2].voxel_labels.tolist()
    table.write_text('{"UTS03": "retinotopy"}')
    refused(read, folder / "retinotopy" / "mask_thick.nii.gz")
    table.write_text('{"UTS03": "UTS03_auto"}')
    refused(read, table, "'UTS03_auto' of UTS03", "expected one of", "fullhead, retinotopy")


def test_the_table_comes_before_the_usual_name(copy):
    derivative, _ = copy
    folder = derivative / "pycortex-db" / PARTICIPANT / "transforms"
    shutil.copytree(folder / f"{PARTICIPANT}_auto", folder / "fullhead")
    assert transform_of(derivative, PARTICIPANT) == f"{PARTICIPANT}_auto"
    (derivative / "subject_xfms.json").write_text('{"UTS03": "fullhead"}')
    assert transform_of(derivative, PARTICIPANT) == "fullhead"


@pytest.mark.parametrize("text", ["[1]", "{", '"UTS03_auto"', "/annex/objects/MD5E-s1--0.json", '{"UTS03": ["a"]}'])
def test_a_table_of_transforms_that_is_none_is_named(copy, text):
    (copy[0] / "subject_xfms.json").write_text(text)
    refused(copy[1], copy[0] / "subject_xfms.json", "expected")


def test_a_participant_without_a_transform_is_told_so(copy):
    folder = transforms(copy[0])
    refused(copy[1], folder, "found 0 transforms (none)", '{"UTS03": "UTS03_auto"}')


def test_simulated_listeners_lie_on_the_group_surface(tmp_path):
    folder = tmp_path / "pycortex-db" / "SIM01"
    folder.mkdir(parents=True)
    (folder / "space.json").write_text(json.dumps({"space": "fs_LR_32k"}))
    assert participant_cortex(tmp_path, "SIM01") is fs_lr_cortex_of_vertices()
    (folder / "space.json").write_text(json.dumps({"space": "fs_LR_32k", "points_per_hemisphere": 300}))
    assert participant_cortex(tmp_path, "SIM01") is fs_lr_cortex_of_points(300)
    for text in ('{"space": "MNI"}', "[]", "{"):
        (folder / "space.json").write_text(text)
        with pytest.raises(InputError, match=r"space\.json: found space .* expected 'fs_LR_32k'"):
            participant_cortex(tmp_path, "SIM01")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("pycortex-db/UTS03", r"pycortex-db/UTS03: not found"),
        ("freesurfer_subjdir/UTS03", r"freesurfer_subjdir/UTS03: not found, .*UTS01 to UTS08"),
        ("pycortex-db/UTS03/surfaces/flat_rh.gii", r"flat_rh\.gii: nothing found"),
        ("pycortex-db/UTS03/transforms/UTS03_auto/mask_thick.nii.gz", r"mask_thick\.nii\.gz: nothing found"),
        ("pycortex-db/UTS03/transforms/UTS03_auto/matrices.xfm", r"matrices\.xfm: nothing found"),
        ("freesurfer_subjdir/UTS03/surf/lh.sphere.reg", r"lh\.sphere\.reg: nothing found"),
    ],
)
def test_a_missing_piece_is_one_sentence(copy, missing, message):
    path = copy[0] / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=message) as caught:
        copy[1]()
    assert "\n" not in str(caught.value)


def test_pieces_that_do_not_fit_are_named(copy):
    derivative, read = copy
    database, spheres = (
        derivative / "pycortex-db" / PARTICIPANT,
        derivative / "freesurfer_subjdir" / PARTICIPANT / "surf",
    )
    transform = database / "transforms" / f"{PARTICIPANT}_auto"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)), transform / "mask_thick.nii.gz")
    with pytest.raises(InputError, match=r"mask_thick.*found 120 voxels in shape \(6, 5, 4\).* \(10, 11, 22\)"):
        read()
    (transform / "mask_thick.nii.gz").write_bytes(b"no volume at all")
    with pytest.raises(InputError, match=r"mask_thick\.nii\.gz: found"):
        read()
    (database / "surfaces" / "pia_lh.gii").write_text("<no gifti>")
    with pytest.raises(InputError, match=r"pia_lh\.gii: found something unreadable"):
        read()
    write_geometry(spheres / "lh.sphere.reg", *icosphere(2))
    with pytest.raises(InputError, match=r"lh\.cortex\.label: found vertex 641, expected less than 162"):
        read()
    (spheres.parent / "label" / "lh.cortex.label").unlink()
    shutil.copy(database / "surfaces" / "wm_lh.gii", database / "surfaces" / "pia_lh.gii")
    with pytest.raises(InputError, match=r"found 642 vertices in the left hemisphere, expected 162"):
        read()


def test_without_the_cortex_label_the_flat_mesh_tells_the_medial_wall(copy, brain):
    derivative, read = copy
    for label in (derivative / "freesurfer_subjdir" / PARTICIPANT / "label").glob("*.cortex.label"):
        label.unlink()
    surface = read().surface
    np.testing.assert_array_equal(surface.cortex, ~np.isnan(surface.flat_coordinates[:, 0]))
    assert (surface.cortex != brain[1].on_cortex).mean() < 0.1


def test_convexity_is_positive_on_hills_and_negative_in_valleys():
    points, faces = icosphere(5)
    height = np.cos(8 * points[:, 2])
    convexity = _gyral_convexity(points * (30 + 3 * height[:, None]), faces)
    assert np.corrcoef(convexity, height)[0, 1] > 0.8
    assert convexity[height > 0.9].mean() > 0 > convexity[height < -0.9].mean()


@pytest.mark.parametrize("sign", [1, -1])
def test_stored_depth_gets_the_sign_of_the_folds(tmp_path, sign):
    folds = np.random.default_rng(0).normal(size=20)
    depth = folds + 0.1
    np.savez(tmp_path / "depth.npz", left=sign * depth[:8], right=sign * depth[8:])
    np.testing.assert_allclose(pycortex_subject._sulcal_depth(tmp_path / "depth.npz", folds), depth)
    with pytest.raises(InputError, match=r"found \(20,\) values, expected \(21,\)"):
        pycortex_subject._sulcal_depth(tmp_path / "depth.npz", np.zeros(21))


def test_a_flat_map_with_outlines_is_drawn(brain):
    figure = Figure(figsize=(5, 2.5))
    ax = figure.add_axes([0, 0, 1, 1])
    assert plot_flatmap(voxel_centres(brain[1])[:, 2], brain[2], cmap="viridis", vmin=-15, vmax=15, ax=ax) is ax
    figure.canvas.draw()
    assert len(ax.collections) > 1


def test_a_participant_of_real_size_is_mapped_and_read_again(tmp_path):
    """Pycortex's own S1, 304,380 vertices, with fs_LR's count of regions made up from its coordinates."""
    source = Path(sys.prefix) / "share" / "pycortex" / "db" / "S1"
    if not source.is_dir():
        pytest.skip("pycortex has no S1 here")
    from braintuning.cortex.subject import load_cortex, save_cortex

    for part in ("surfaces", "transforms"):
        shutil.copytree(source / part, tmp_path / "S1" / part)
    transform = tmp_path / "S1" / "transforms" / "fullhead"
    reference = nibabel.load(transform / "reference.nii.gz")
    everywhere = np.ones(reference.shape[:3], np.uint8)
    nibabel.save(nibabel.Nifti1Image(everywhere, reference.affine), transform / "mask_thick.nii.gz")
    pia = [nibabel.load(tmp_path / "S1" / "surfaces" / f"pia_{h}.gii").agg_data("pointset") for h in ("lh", "rh")]
    labels = np.array([f"region {k}" for k in (np.concatenate(pia)[:, 1] // 10).astype(int).tolist()])
    cortex = pycortex_subject.subject_cortex(tmp_path / "S1", "fullhead", labels, {}, None, tmp_path / "store")
    assert cortex.surface.n_vertices == 304_380
    assert cortex.surface.cortex.sum() == 292_025
    shares = np.asarray(cortex.vertices_from_voxels.sum(axis=1)).ravel()
    np.testing.assert_allclose(shares[cortex.surface.cortex], 1)
    save_cortex(cortex, tmp_path / "cortex.h5")
    assert load_cortex(tmp_path / "cortex.h5").n_voxels == cortex.n_voxels


def shares_of(brain, store):
    return voxel_shares(brain[0] / "derivative" / "pycortex-db" / PARTICIPANT, f"{PARTICIPANT}_auto", store)


def tree(folder: Path) -> list[tuple]:
    return sorted((str(p.relative_to(folder)), p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.rglob("*"))


def test_nothing_is_written_into_the_dataset(brain, tmp_path):
    before = tree(brain[0] / "derivative")
    assert shares_of(brain, tmp_path).shape == (1284, brain[1].n_voxels)
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
    shares_of(brain, tmp_path)
    assert cortex.db.filestore == before
    if subjects is not None:
        assert list(cortex.db.subjects) == subjects
