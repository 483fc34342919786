"""The folder of ds003020 beside `stimuli/`: `derivatives/` since version 4 of the dataset, `derivative/` before."""

from pathlib import Path

from braintuning.errors import InputError
from braintuning.results import files_below, require_file

FOLDERS = ("derivatives", "derivative")
PARTS = ("respdict.json", "TextGrids", "preprocessed_data", "pycortex-db", "freesurfer_subjdir", "subject_xfms.json")


def placed(path: str, folder: str) -> str:
    """A path below the dataset's root with the name `folder` in place of either name of the folder."""
    return f"{folder}/{path.split('/', 1)[1]}" if is_placed(path) else path


def is_placed(path: str) -> bool:
    """Whether a path below the dataset's root lies in the folder, by either name."""
    return path.split("/")[0] in FOLDERS


def find_folder(root: Path) -> str | None:
    """Name of the folder in a dataset, one of `FOLDERS`; None where the root has neither.

    Of two, it is the one that has the files: every file with content that the other has as well. `InputError` where
    each has files that the other lacks, as when a renaming was broken off.
    """
    found = [name for name in FOLDERS if (root / name).is_dir()]
    found = [name for name in found if any((root / name / part).exists() for part in PARTS)] or found
    if len(found) < 2:
        return found[0] if found else None
    new, old = (_files(root / name) for name in FOLDERS)
    if old <= new or new < old:
        return "derivatives" if old <= new else "derivative"
    alone = (("derivatives", new - old), ("derivative", old - new))
    each = [f"{len(only)} files in {name}/ alone ({min(only)})" for name, only in alone]
    raise InputError(f"{root}: found {' and '.join(each)}, expected all of them in one folder, such as {FOLDERS[0]}/")


def require_folder(root: Path) -> Path:
    """Path of the folder in a dataset; `InputError` as of `find_folder`, or where there is none."""
    if name := find_folder(root):
        return root / name
    found = f"found no {' or '.join(f'{name}/' for name in FOLDERS)} in it" if root.is_dir() else "no such folder"
    raise InputError(f"{root}: {found}, expected the root of a dataset in the layout of ds003020, with respdict.json")


def _files(folder: Path) -> set[str]:
    """Paths of the files in a folder whose content is here."""
    return {
        path.relative_to(folder).as_posix()
        for part in PARTS
        for path in [folder / part, *files_below(folder / part)]
        if path.suffix != ".part" and is_here(path)
    }


def is_here(path: Path) -> bool:
    """Whether there is a file with its content, not a pointer or an empty one in its place."""
    try:
        return path.is_file() and bool(require_file(path))
    except InputError:
        return False
