"""Result files: whole or absent, with the recipe that made them; and random numbers that depend on their purpose."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from braintuning.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Recipe = Mapping[str, Any]
SAMPLED_BYTES = 1 << 20
REPOSITORY = Path(__file__).resolve().parents[2]
POINTERS = {
    "a git-lfs pointer": (rb"version https://git-lfs\.", "`git lfs pull` in its folder brings it"),
    "a git-annex pointer": (rb"[/\\]annex[/\\]objects[/\\]", "{annex}"),
    "a git-annex link turned into text": (rb"(\.\.?[/\\])*\.git[^\n]{0,200}?[/\\]annex[/\\]objects[/\\]", "{annex}"),
    "a web page": (
        rb"(?i)(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<(!doctype html|html|error>)",
        "a download that went wrong leaves such a page",
    ),
}
"""What lies in place of a file whose content is not here: how it begins, and what to do."""
LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir")
CACHE = REPOSITORY / (os.environ.get("BRAINTUNING_CACHE") or "data/cache")


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
        if replaced.exists() and not path.exists():
            os.replace(replaced, path)
        for left_over in (temporary, replaced):
            if left_over.is_dir():
                shutil.rmtree(left_over)
            else:
                left_over.unlink(missing_ok=True)


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Object on each line of a JSON Lines file, after what names it in an error: the file and the line's number.

    Blank lines and byte-order marks, also of files joined to one, are left out. Raises `InputError` as of
    `require_file`, for text that is not UTF-8 and for a line without an object.
    """
    try:
        lines = require_file(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}), expected JSON Lines") from None
    for number, line in enumerate((line.removeprefix("\ufeff") for line in lines), 1):
        where = f"{path}: line {number}"
        try:
            entry = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise InputError(f"{where} is not JSON ({error}), expected an object") from None
        if isinstance(entry, dict):
            yield where, entry
        elif line.strip():
            raise InputError(f"{where} is {line.strip()[:40]!r}, expected an object in JSON")


def require_file(path: Path) -> Path:
    """Path of a file that exists and has content on this disk.

    `InputError` where there is no such file, it is empty or cannot be read, or its content was never downloaded: a link
    whose target is not there, or what git-lfs, git-annex or a failed download left in its place (`POINTERS`).
    """
    path = Path(path)
    name = shlex.quote(path.name)
    annex = f"`datalad get {name}` or `git annex get` in its folder, or for ds003020 `python -m braintuning fetch`,"
    if path.is_symlink() and not path.exists():
        target = path.readlink()
        how = f": {annex} brings it" if "annex" in target.parts else " that it links to"
        raise InputError(f"{path}: a link to {target}, whose content is not here; expected the file{how}")
    if not path.is_file():
        raise InputError(f"{path}: {'a folder' if path.is_dir() else 'nothing'} found, expected a file{instead(path)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty, expected one with content")
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    for what, (pattern, how) in POINTERS.items():
        if re.match(pattern, head):
            how = how.format(annex=f"{annex} brings it")
            raise InputError(f"{path}: {what}, whose content is not here; expected the file: {how}")
    return path


def instead(path: Path) -> str:
    """Words that end a message on a file that is not there: those of its name but for case and ending, if any are."""
    stem = Path(path).stem.lower()
    there = [p.name for p in listed(path.parent) if p.stem.lower() == stem and p != path]
    return f"; {', '.join(there)} is there" if there else ""


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """What a folder has by a pattern, sorted, but for what systems leave there, and whatever lies in such a folder.

    That is every name that begins with a dot, such as `._story.wav` and `.DS_Store` of macOS, and `LEFT_BY_SYSTEMS`.
    """
    paths = [(path, path.relative_to(folder).parts) for path in Path(folder).glob(pattern)]
    return sorted(p for p, parts in paths if not any(n.startswith(".") or n in LEFT_BY_SYSTEMS for n in parts))


def files_below(folder: Path) -> list[Path]:
    """Files in a folder and in those within it, also through links to folders; sorted, and left out as by `listed`.

    A link to a folder that it lies in is not followed.
    """

    def inside(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
        for path in listed(folder):
            if not path.is_dir():
                yield path
            elif (real := path.resolve()) not in above:
                yield from inside(path, above | {real})

    return sorted(inside(Path(folder), frozenset((Path(folder).resolve(),))))


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
    """Write an array to `path`, if the disk has room, and return it as a read-only map that takes no memory."""
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


def git_commit() -> str:
    """Short commit of the code that runs, with `+` when files differ from it; `unknown` outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.check_output(["git", "-C", REPOSITORY, *arguments], text=True, stderr=subprocess.DEVNULL)

    try:
        changed = git("status", "--porcelain", "lib", "notebooks")
        return git("rev-parse", "--short=10", "HEAD").strip() + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on; of himalaya, which only low-level impact needs, where it is."""
    found = {name: version(name) for name in ("numpy", "scipy", "scikit-learn", "torch", "transformers")}
    with suppress(PackageNotFoundError):
        found["himalaya"] = version("himalaya")
    return found


def generator(seed: int, *labels: str | int) -> np.random.Generator:
    """A generator for one purpose: the same `seed` and `labels` always give the same numbers."""
    digest = hashlib.sha256("/".join(map(str, (seed, *labels))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def fingerprint(content: Any) -> str:  # noqa: ANN401
    """Short SHA-256 of anything that JSON can hold, the same whatever the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def inputs_fingerprint(paths: Iterable[Path], root: Path) -> str:
    """Short SHA-256 over names from `root` on, sizes, and first and last MiB of files, quick even for gigabytes."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{os.path.relpath(path, root)} {path.stat().st_size}\n".encode())
        with open(path, "rb") as file:
            digest.update(file.read(SAMPLED_BYTES))
            file.seek(max(path.stat().st_size - SAMPLED_BYTES, 0))
            digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def provenance(recipe: Recipe, **more: str) -> dict[str, Any]:
    """What a result file carries: its recipe, the code's commit, package versions, and whatever else is given."""
    return {"recipe": recipe, "git_commit": git_commit(), "versions": package_versions(), **more}


def provenance_of(path: Path) -> dict[str, Any] | None:
    """Provenance that a result (HDF5 file or folder) carries; None where there is no whole result."""
    try:
        if path.is_dir():
            found = json.loads((path / "provenance.json").read_text())
        else:
            with h5py.File(path) as file:
                found = json.loads(file.attrs["provenance"])
    except (OSError, KeyError, ValueError):
        return None
    return found if "recipe" in found else None


def made_result(path: Path) -> dict[str, Any]:
    """Provenance of an earlier step's result; `InputError` where that is not there."""
    if (made := provenance_of(path)) is None:
        raise InputError(f"{path}: not there, expected the result of an earlier step; `make figures` makes it")
    return made


def is_done(path: Path, recipe: Recipe) -> bool:
    """Whether a whole result made by this recipe lies at `path`."""
    found = provenance_of(path)
    return found is not None and fingerprint(found["recipe"]) == fingerprint(recipe)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], carried: Mapping[str, Any]) -> None:
    """Write named arrays and their provenance to an HDF5 file, whole or not at all; one under two names only once."""
    first = {}
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, array in arrays.items():
            known = first.setdefault(id(array), name)
            file[name] = array if known == name else file[known]
        file.attrs["provenance"] = json.dumps(carried, default=str)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an HDF5 file of this project, by name; `InputError` where it cannot be read."""
    try:
        with h5py.File(require_file(path)) as file:
            return {name: file[name][()] for name in file}
    except OSError as error:
        raise InputError(
            f"{path}: found a damaged result ({error}), expected HDF5; delete it to have it made"
        ) from None


def save_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV, whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def provenance_columns(study: str, carried: Mapping[str, Any]) -> dict[str, str]:
    """Columns that tell where the rows of a table come from."""
    return {
        "study": study,
        "weights": carried.get("weights", ""),
        "device": carried.get("device", ""),
        "inputs": carried["recipe"].get("inputs", ""),
        "recipe": fingerprint(carried["recipe"]),
        "git_commit": carried["git_commit"],
        "versions": " ".join(f"{name}={version}" for name, version in carried["versions"].items()),
    }
