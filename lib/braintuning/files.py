"""Files that are either whole or absent, and where they came from."""

import hashlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

from braintuning.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
ANNEX_POINTER = b"/annex/objects/"
CACHE = Path(os.environ.get("BRAINTUNING_CACHE", REPOSITORY / "data" / "cache"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds.

    The block may make a file or a folder there. When it raises, what it left is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = uuid.uuid4().hex[:8]
    temporary, replaced = (path.parent / f".{state}-{unique}-{path.name}" for state in ("partial", "replaced"))
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"{path}: nothing was written")
        if path.is_dir() and not path.is_symlink():
            os.replace(path, replaced)
        os.replace(temporary, path)
    finally:
        for left_over in (temporary, replaced):
            if left_over.is_dir():
                shutil.rmtree(left_over)
            else:
                left_over.unlink(missing_ok=True)


def require_file(path: Path) -> Path:
    """Path of a file that exists and has content on this disk.

    Raises
    ------
    InputError
        If there is no such file, if it is empty, or if its content was never downloaded: a link whose target is not
        there, or a git-annex pointer in its place.
    """
    path = Path(path)
    if path.is_symlink() and not path.exists():
        target = path.readlink()
        raise InputError(f"{path}: a link to {target}, whose content is not here; {_how_to_get(path)}")
    if not path.is_file():
        raise InputError(f"{path}: {'a folder' if path.is_dir() else 'nothing'} found, expected a file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    with open(path, "rb") as file:
        if file.read(len(ANNEX_POINTER)) == ANNEX_POINTER:
            raise InputError(f"{path}: a git-annex pointer, whose content is not here; {_how_to_get(path)}")
    return path


def _how_to_get(path: Path) -> str:
    return f"expected the file: `datalad get {path}` or `python -m braintuning fetch` brings it"


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that is removed afterwards, with what a killed run left in it before."""
    folder = Path(path).with_name(f".scratch-{Path(path).name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def on_disk(array: np.ndarray, path: Path) -> np.ndarray:
    """Write an array to `path` and return it as a read-only map of that file, so that it takes no memory of its own.

    Raises
    ------
    InputError
        The disk has no room for it.
    """
    require_space(path.parent, array.nbytes)
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def require_space(folder: Path, n_bytes: int) -> None:
    """Raise `InputError` unless the disk that holds `folder` has `n_bytes` free."""
    folder = Path(folder)
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise InputError(f"{folder}: {free / 1e9:.1f} GB free on its disk, {n_bytes / 1e9:.1f} GB needed")


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_commit() -> str:
    """Short commit of the code that runs, with `+` when files differ from it; `unknown` outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + (
            "+" if git("status", "--porcelain", "lib", "notebooks") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    return {name: version(name) for name in ("numpy", "scipy", "torch", "transformers", "himalaya")}
