"""HCP-MMP1.0 on FreeSurfer's average surface, and its transfer to a participant's own."""

import re
import warnings
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
from nibabel.freesurfer import read_annot, read_label
from scipy.spatial import cKDTree

from braintuning.cortex.surface import HEMISPHERES, read_mesh
from braintuning.errors import InputError
from braintuning.results import CACHE, require_file

PREFIX = {"left": "lh", "right": "rh"}
ANNOTATIONS = {
    "left": ("https://ndownloader.figshare.com/files/5528816", "46a102b59b2fb1bb4bd62d51bf02e975"),
    "right": ("https://ndownloader.figshare.com/files/5528819", "75e96b331940227bbcb07c1c791c2463"),
}
"""Address and MD5 of Mills 2016, figshare 3498446: HCP-MMP1.0 projected on fsaverage."""
FIGSHARE = "https://figshare.com/articles/dataset/HCP-MMP1_0_projected_on_fsaverage/3498446"
N_FSAVERAGE, N_FSAVERAGE5 = 163_842, 10_242


def transfer_labels(source_sphere: np.ndarray, labels: np.ndarray, target_sphere: np.ndarray) -> np.ndarray:
    """Labels (m,) of the target's vertices: each has that of the nearest source vertex on the registration sphere.

    `labels` are (n,); the spheres (n, 3) and (m, 3) lie around the origin, their radii need not agree. A vertex at the
    origin or NaN is an `InputError`.
    """
    tree = cKDTree(_unit(source_sphere))
    return np.asarray(labels)[tree.query(_unit(target_sphere))[1]]


def _unit(sphere: np.ndarray) -> np.ndarray:
    radius = np.linalg.norm(sphere, axis=1, keepdims=True)
    if not (radius > 0).all():
        raise InputError(f"sphere: {int((~(radius > 0)).sum())} vertices at the origin or NaN, expected none")
    return sphere / radius


def region_name(name: str, hemisphere: str) -> str:
    """Region without hemisphere and ending ('A1' for 'L_A1_ROI'); a name of the other hemisphere is an `InputError`."""
    if name in ("???", "unknown", "Medial_wall", "Medial_Wall", ""):
        return ""
    side, region = re.fullmatch(r"(?:([LR])_)?(.+?)(?:_ROI)?(?:-[lr]h)?", name).groups()
    if side and side != hemisphere[0].upper():
        raise InputError(f"region {name}: found in the {hemisphere} hemisphere, expected in the other")
    return "" if region == "???" else region


def read_annotation(path: Path) -> np.ndarray:
    """Name at each vertex of a FreeSurfer annotation, (n,) str, '' where it has none; `InputError` if it is none."""
    require_file(path)
    try:
        numbers, _, names = read_annot(path)
    except Exception as error:
        raise InputError(f"{path}: found {type(error).__name__}, expected a FreeSurfer annotation") from None
    return np.append([name.decode() for name in names], "")[numbers]


def reference_files(
    folder: Path | None = None, cache: Path = CACHE / "fsaverage", coarse: bool = False
) -> tuple[dict[str, Path], dict[str, Path]]:
    """HCP-MMP1.0 annotations and spheres of fsaverage by hemisphere: in a user's folder, else downloaded once.

    The folder is FreeSurfer's `fsaverage`, with `label/{lh,rh}.HCPMMP1.annot` (or `HCP-MMP1`) and
    `surf/{lh,rh}.sphere.reg`. Downloads are kept in `cache`: annotations, checked by MD5, and nilearn's sphere. Where
    that cannot be had, `coarse` warns and takes that of fsaverage5, which nilearn carries and whose vertices are the
    first of fsaverage and lie 3 mm apart, so that regions have other borders. `InputError` for what is missing.
    """
    if folder is None:
        annotations = {hemisphere: _downloaded_annotation(hemisphere, Path(cache)) for hemisphere in HEMISPHERES}
        return annotations, _downloaded_spheres(Path(cache), coarse)
    folder, annotations = Path(folder), {}
    for hemisphere, prefix in PREFIX.items():
        choices = [folder / "label" / f"{prefix}.{name}.annot" for name in ("HCPMMP1", "HCP-MMP1", "HCP-MMP1_0")]
        found = [path for path in choices if path.exists()]
        if not found:
            raise InputError(f"{choices[0]}: not found, nor as {choices[1].name}; expected the HCP-MMP1.0 annotation")
        annotations[hemisphere] = require_file(found[0])
    spheres = {h: require_file(folder / "surf" / f"{prefix}.sphere.reg") for h, prefix in PREFIX.items()}
    return annotations, spheres


def _downloaded_annotation(hemisphere: str, cache: Path) -> Path:
    import pooch

    (address, md5), name = ANNOTATIONS[hemisphere], f"{PREFIX[hemisphere]}.HCPMMP1.annot"
    pooch.get_logger().setLevel("ERROR")
    try:
        return Path(pooch.retrieve(address, f"md5:{md5}", fname=name, path=cache))
    except Exception as error:
        problem = "its MD5 is another" if "hash" in str(error) else f"cannot be downloaded ({type(error).__name__})"
        raise InputError(
            f"{address}: {problem}, expected the HCP-MMP1.0 annotation of fsaverage; get {FIGSHARE} elsewhere, "
            f"put both files as label/lh.HCPMMP1.annot and rh.HCPMMP1.annot into a folder of FreeSurfer's fsaverage "
            f"(with surf/lh.sphere.reg, rh.sphere.reg), and name it under `dataset: fsaverage:` in the study"
        ) from None


@cache
def _downloaded_spheres(cache: Path, coarse: bool) -> dict[str, Path]:
    """Nilearn's full sphere if it is here or can be downloaded, else, if `coarse`, its bundled one of fsaverage5."""
    from nilearn.datasets import fetch_surf_fsaverage

    try:
        with redirect_stdout(StringIO()):
            found = fetch_surf_fsaverage("fsaverage", data_dir=str(cache))
    except Exception as error:
        if not coarse:
            raise InputError(
                f"sphere of fsaverage: cannot be downloaded ({type(error).__name__}), expected nilearn to do so; name "
                f"a folder of FreeSurfer's fsaverage under `dataset: fsaverage:` in the study, or allow borders 3 mm "
                f"coarse there with `coarse_regions: true`"
            ) from None
        warnings.warn(
            f"the sphere of fsaverage cannot be downloaded ({type(error).__name__}); regions come from fsaverage5, "
            f"whose vertices lie 3 mm apart",
            stacklevel=2,
        )
        found = fetch_surf_fsaverage("fsaverage5")
    return {h: Path(found[f"sphere_{h}"]) for h in HEMISPHERES}


def read_reference(
    annotations: dict[str, Path], spheres: dict[str, Path]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Region of each vertex ('' for none) and its place on the sphere, by hemisphere, from `reference_files`.

    Each icosahedral mesh of FreeSurfer begins with the vertices of the coarser ones, so fsaverage5 has the first labels
    of fsaverage. A file that cannot be read, or of another length, is an `InputError`. Glasser et al. 2016, Nature
    536:171; Mills 2016, HCP-MMP1.0 projected on fsaverage, figshare 3498446.
    """
    labels, coordinates = {}, {}
    for hemisphere in HEMISPHERES:
        path, names = annotations[hemisphere], read_annotation(annotations[hemisphere])
        sphere = read_mesh(spheres[hemisphere])[0]
        if len(sphere) == N_FSAVERAGE5 and len(names) == N_FSAVERAGE:
            names = names[:N_FSAVERAGE5]
        if len(names) != len(sphere):
            raise InputError(f"{path}: found {len(names)} vertices, expected {len(sphere)} as {spheres[hemisphere]}")
        short = {name: region_name(name, hemisphere) for name in np.unique(names).tolist()}
        labels[hemisphere] = np.array([short[name] for name in names.tolist()])
        coordinates[hemisphere] = sphere
    return labels, coordinates


def cortex_mask(freesurfer: Path, n_vertices: tuple[int, int]) -> np.ndarray | None:
    """Vertices of a FreeSurfer subject that `label/{lh,rh}.cortex.label` names, (n,) bool; None without these files."""
    paths = [Path(freesurfer) / "label" / f"{prefix}.cortex.label" for prefix in PREFIX.values()]
    if not all(path.exists() for path in paths):
        return None
    masks = []
    for path, n in zip(paths, n_vertices, strict=True):
        require_file(path)
        try:
            chosen = read_label(path)
        except (ValueError, IndexError) as error:
            raise InputError(f"{path}: found {type(error).__name__}, expected a FreeSurfer label") from None
        if chosen.max(initial=-1) >= n:
            raise InputError(f"{path}: found vertex {chosen.max()}, expected less than {n}")
        masks.append(np.isin(np.arange(n), chosen))
    return np.concatenate(masks)


@cache
def fsaverage5_sphere(hemisphere: str) -> np.ndarray:
    """Registration sphere of FreeSurfer's average surface as nilearn carries it, (10242, 3)."""
    from nilearn.datasets import fetch_surf_fsaverage

    return read_mesh(Path(fetch_surf_fsaverage("fsaverage5")[f"sphere_{hemisphere}"]))[0]
