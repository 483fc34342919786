"""A participant's own cortex from a pycortex database and FreeSurfer files, and pycortex kept to our own folders."""

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import nibabel
import numpy as np
from scipy.sparse import csr_matrix, diags, vstack

from braintuning.cortex import fsaverage
from braintuning.cortex.subject import (
    Cortex,
    fs_lr_cortex_of_points,
    fs_lr_cortex_of_vertices,
    load_cortex,
    regions_of_voxels,
    save_cortex,
)
from braintuning.cortex.surface import HEMISPHERES, Surface, mesh_adjacency, read_mesh, side_by_side, vertex_normals
from braintuning.errors import InputError
from braintuning.results import CACHE, listed, require_file

FORMAT = 2
SMOOTHING_STEPS = 20


def participant_cortex(
    derivative: Path,
    participant: str,
    fsaverage_folder: Path | None = None,
    cache: Path = CACHE,
    coarse_regions: bool = False,
) -> Cortex:
    """The cortex of a participant of ds003020, real or simulated; made once and then read from the cache.

    Its voxels are those of `mask_thick` in C order of the (z, y, x) mask, or the vertices of fs_LR. The transform is
    that of `transform_of`. `InputError` if a file is missing, cannot be read, or does not fit the others.

    Parameters
    ----------
    derivative : Path
        Folder with `pycortex-db/<participant>/` and `freesurfer_subjdir/<participant>/`. Simulated listeners have
        only `space.json` in the former, which names the space of their responses.
    fsaverage_folder, coarse_regions
        As `folder` and `coarse` of `fsaverage.reference_files`.
    cache : Path
        Where the result is kept, under a name that changes with the size or time of any source file.
    """
    subject = Path(derivative) / "pycortex-db" / participant
    if not subject.is_dir():
        raise InputError(f"{subject}: not found, expected the participant's folder of the pycortex database")
    if (subject / "space.json").exists():
        return _simulated(subject / "space.json")
    freesurfer = Path(derivative) / "freesurfer_subjdir" / participant
    if not freesurfer.is_dir():
        raise InputError(
            f"{freesurfer}: not found, expected {participant}'s FreeSurfer files, without which no region is known "
            f"(ds003020 has them for UTS01 to UTS08)"
        )
    transform = transform_of(Path(derivative), participant)
    annotations, average = fsaverage.reference_files(fsaverage_folder, Path(cache) / "fsaverage", coarse_regions)
    sources = (*_own_files(subject, transform, freesurfer), *annotations.values(), *average.values())
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    name = hashlib.sha256(json.dumps([FORMAT, *facts]).encode()).hexdigest()[:16]
    stored = Path(cache) / "cortex" / f"{participant}-{name}.h5"
    if stored.is_file():
        return load_cortex(stored)
    spheres = {h: read_mesh(freesurfer / "surf" / f"{prefix}.sphere.reg")[0] for h, prefix in fsaverage.PREFIX.items()}
    regions, reference = fsaverage.read_reference(annotations, average)
    labels = [fsaverage.transfer_labels(reference[h], regions[h], spheres[h]) for h in HEMISPHERES]
    on_cortex = fsaverage.cortex_mask(freesurfer, tuple(len(names) for names in labels))
    cortex = subject_cortex(subject, transform, np.concatenate(labels), spheres, on_cortex, Path(cache) / "pycortex")
    save_cortex(cortex, stored)
    return cortex


def transform_of(derivative: Path, participant: str) -> str:
    """Name of a participant's pycortex transform.

    It is the one that ds003020's table `subject_xfms.json` ({participant: name}) has; without that, or where it lacks
    the participant, `<participant>_auto`, else the only one that there is. `InputError` where the table names one that
    there is not, or several are there and none is named.
    """
    table, folder = derivative / "subject_xfms.json", derivative / "pycortex-db" / participant / "transforms"
    names, named = [path.name for path in listed(folder) if path.is_dir()], None
    if table.exists() or table.is_symlink():
        content = require_file(table).read_bytes()
        try:
            named = json.loads(content.decode("utf-8-sig")).get(participant)
        except (ValueError, AttributeError):
            raise InputError(f"{table}: not a JSON table, expected the name of each participant's transform") from None
        if named is not None and named not in names:
            found = f"found transform {named!r} of {participant}"
            raise InputError(f"{table}: {found}, expected one of those in {folder}: {', '.join(names) or 'none'}")
    usual = f"{participant}_auto"
    if chosen := named or (usual if usual in names else names[0] if len(names) == 1 else None):
        return chosen
    how = f'expected one, {usual}, or its name in {table}, such as {{"{participant}": "{(names or [usual])[0]}"}}'
    raise InputError(f"{folder}: found {len(names)} transforms ({', '.join(names) or 'none'}), {how}")


def _simulated(space_file: Path) -> Cortex:
    try:
        found = json.loads(require_file(space_file).read_text())
        space, n_points = found["space"], found.get("points_per_hemisphere")
    except (ValueError, KeyError, TypeError, AttributeError):
        space = "nothing readable"
    if space != "fs_LR_32k":
        raise InputError(f"{space_file}: found space {space!r}, expected 'fs_LR_32k'")
    return fs_lr_cortex_of_points(n_points) if n_points else fs_lr_cortex_of_vertices()


def _own_files(subject: Path, transform: str, freesurfer: Path) -> list[Path]:
    """Files of a participant from which a cortex is made; `InputError` naming the first that is missing."""
    prefixes = fsaverage.PREFIX.values()
    paths = [_surface_file(subject, f"{kind}_{p}") for kind in ("flat", "inflated", "pia", "wm") for p in prefixes]
    volumes = ("matrices.xfm", "reference.nii.gz", "mask_thick.nii.gz")
    paths += [subject / "transforms" / transform / name for name in volumes]
    paths.append(subject / "surface-info" / "sulcaldepth.npz")
    for prefix in prefixes:
        paths += [freesurfer / "surf" / f"{prefix}.sphere.reg", freesurfer / "label" / f"{prefix}.cortex.label"]
    optional = ("sulcaldepth.npz", "lh.cortex.label", "rh.cortex.label")
    return [require_file(path) for path in paths if path.name not in optional or path.exists()]


def _surface_file(subject: Path, kind: str) -> Path:
    """GIFTI as most participants have it, or the NumPy archive that UTS02 has, in pycortex's order of preference."""
    gifti, archive = (subject / "surfaces" / f"{kind}.{suffix}" for suffix in ("gii", "npz"))
    return require_file(archive if archive.exists() and not gifti.exists() else gifti)


def subject_cortex(
    subject: Path,
    transform: str,
    vertex_labels: np.ndarray,
    spheres: dict[str, np.ndarray],
    on_cortex: np.ndarray | None,
    store: Path,
) -> Cortex:
    """The cortex of a pycortex subject, in whose folder nothing is written; `InputError` if files do not fit.

    Without `on_cortex` (n_vertices,) the vertices of the flat mesh are the cortex; `spheres` may be empty; pycortex
    writes into `store`.
    """
    flat, inflated, pia, wm = (
        {h: read_mesh(_surface_file(subject, f"{kind}_{prefix}")) for h, prefix in fsaverage.PREFIX.items()}
        for kind in ("flat", "inflated", "pia", "wm")
    )
    n_vertices = tuple(len(inflated[h][0]) for h in HEMISPHERES)
    for meshes, kind in ((flat, "flat"), (pia, "pia"), (wm, "wm")):
        found = tuple(len(meshes[h][0]) for h in HEMISPHERES)
        if found != n_vertices:
            raise InputError(
                f"{subject}/surfaces: found {found} vertices in {kind}, expected {n_vertices} as in inflated"
            )
    for h in spheres:
        if len(spheres[h]) != len(inflated[h][0]):
            raise InputError(
                f"{subject}: found {len(inflated[h][0])} vertices in the {h} hemisphere, expected {len(spheres[h])} as "
                f"the participant's sphere.reg has"
            )
    coordinates, faces = side_by_side(flat["left"], flat["right"])
    folds = np.concatenate([_gyral_convexity((pia[h][0] + wm[h][0]) / 2, pia[h][1]) for h in HEMISPHERES])
    surface = Surface(
        name=subject.name,
        vertices_per_hemisphere=n_vertices,
        inflated=inflated,
        sphere=spheres,
        sulcal_depth=_sulcal_depth(subject / "surface-info" / "sulcaldepth.npz", folds),
        cortex=~np.isnan(coordinates[:, 0]) if on_cortex is None else on_cortex,
        flat_coordinates=coordinates,
        flat_faces=faces,
    )
    labels = np.where(surface.cortex, vertex_labels, "")
    matrix = diags(surface.cortex.astype(np.float64)).tocsr() @ voxel_shares(subject, transform, store)
    matrix.eliminate_zeros()
    return Cortex(surface, labels, regions_of_voxels(matrix, labels), matrix)


def _gyral_convexity(coordinates: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """How far each vertex stands out of its neighbours, (n,) in mm, smoothed: positive on gyri, negative in sulci.

    It is the umbrella Laplacian's part along the outward normal.
    """
    adjacency = mesh_adjacency(faces, len(coordinates))
    mean_of_neighbours = diags(1 / np.maximum(adjacency.sum(axis=1), 1)) @ adjacency
    outward = vertex_normals(coordinates, faces)
    convexity = ((coordinates - mean_of_neighbours @ coordinates) * outward).sum(axis=1)
    for _ in range(SMOOTHING_STEPS):
        convexity = (convexity + mean_of_neighbours @ convexity) / 2
    return convexity


def _sulcal_depth(path: Path, folds: np.ndarray) -> np.ndarray:
    """FreeSurfer's depth with the sign that the folds have (pycortex stores -sulc, older databases may not)."""
    if not path.exists():
        return folds
    try:
        with np.load(require_file(path), allow_pickle=False) as archive:
            depth = np.concatenate([archive["left"], archive["right"]]).astype(np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: found {type(error).__name__}, expected arrays 'left' and 'right'") from None
    if depth.shape != folds.shape:
        raise InputError(f"{path}: found {depth.shape} values, expected {folds.shape}, one per vertex")
    return depth if depth @ (folds - folds.mean()) >= 0 else -depth


def voxel_shares(subject: Path, transform: str, store: Path) -> csr_matrix:
    """Share of each voxel of `mask_thick` in each vertex, csr_matrix of float64 (n_vertices, n_voxels).

    Pycortex's `line_nearest`: 64 points from white matter to pia under each vertex, each taking the voxel that it lies
    in. So a vertex averages its whole depth of grey matter, no voxel outside it is blended in as with interpolation,
    and a voxel's weight is the length of cortex in it, which decides its region.

    Voxels are in C order of the (z, y, x) mask; rows sum to 1, or less where the line leaves the mask. A mask of
    another shape than the transform's reference, or without a voxel, is an `InputError`. Pycortex sees the subject
    through links in a folder under `store`, as it writes into the folder of every subject it is asked for.
    """
    mask_file = subject / "transforms" / transform / "mask_thick.nii.gz"
    try:
        mask = np.asarray(nibabel.load(require_file(mask_file)).dataobj).T != 0
    except (OSError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{mask_file}: found {type(error).__name__}, expected a NIfTI mask") from None
    Path(store).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=store) as folder:
        linked = Path(folder) / f"{subject.name}-{Path(folder).name}"
        for part in ("surfaces", "transforms"):
            (linked / part).mkdir(parents=True)
        for path in (*listed(subject / "surfaces"), subject / "transforms" / transform):
            (linked / path.relative_to(subject)).symlink_to(path.resolve(), target_is_directory=path.is_dir())
        with pycortex_with_subjects(Path(folder), store) as cortex, redirect_stdout(StringIO()):
            try:
                mapper = cortex.get_mapper(linked.name, transform, "line_nearest")
            except (OSError, ValueError, KeyError) as error:
                where = mask_file.parent / "matrices.xfm"
                raise InputError(f"{where}: pycortex cannot map with it ({error}), expected its transform") from None
    shape = tuple(int(n) for n in mapper.shape)
    if mask.shape != shape or not mask.any():
        raise InputError(
            f"{mask_file}: found {int(mask.sum())} voxels in shape {mask.shape}, expected some in {shape} (z, y, x)"
        )
    return csr_matrix(vstack(mapper.masks).tocsc()[:, np.flatnonzero(mask.ravel())])


@contextmanager
def pycortex_with_subjects(folder: Path, store: Path) -> Iterator[ModuleType]:
    """Pycortex with the subjects in `folder`; its database is restored at the end. `store` as in `import_pycortex`."""
    cortex = import_pycortex(store)
    before, config = cortex.db.filestore, cortex.options.config
    cached = config.get("basic", "cache", fallback=None)
    try:
        config.remove_option("basic", "cache")
        cortex.db.filestore = str(folder)
        cortex.db.reload_subjects()
        yield cortex
    finally:
        cortex.db.filestore = before
        if cached is not None:
            config.set("basic", "cache", cached)
        if Path(before).is_dir():
            cortex.db.reload_subjects()


def import_pycortex(store: Path) -> ModuleType:
    """Import pycortex with its options under `store`, not in the user's home; `InputError` if it is not installed."""
    options = Path(store).resolve() / "options"
    options.mkdir(parents=True, exist_ok=True)
    import matplotlib.pyplot  # noqa: F401 (it keeps its own folders where the user has them)

    variables = ("HOME",) if sys.platform == "darwin" else ("XDG_CONFIG_HOME", "XDG_DATA_HOME")
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(dict.fromkeys(variables, str(options)))
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            import cortex
    except ImportError as error:
        raise InputError(
            f"package pycortex: cannot be imported ({error}), expected it; `pip install pycortex`"
        ) from None
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return cortex
