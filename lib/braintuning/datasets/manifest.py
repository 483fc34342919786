"""Which files of a dataset a study needs, and which of them lie on disk whole."""

import csv
import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from braintuning.errors import InputError
from braintuning.results import ANNEX_POINTER, REPOSITORY

MANIFEST = REPOSITORY / "data" / "manifests" / "ds003020.tsv"
COLUMNS = ("path", "bytes", "md5")
RECORD = ".braintuning-verified.jsonl"
RESPONSES = "derivative/preprocessed_data/"
TEXTGRIDS = "derivative/TextGrids/"
VOLUMES = "derivative/respdict.json"
SURFACES = {
    "derivative/pycortex-db/": ("surfaces/*", "surface-info/*", "transforms/*", "overlays.svg"),
    "derivative/freesurfer_subjdir/": (
        "surf/?h.sphere.reg",
        "label/?h.cortex.label",
        "label/?h.aparc.a2009s.annot",
    ),
}


@dataclass(frozen=True)
class Entry:
    """One file of a dataset: `path` below its root with forward slashes, size in `bytes`, `md5` as 32 hex digits."""

    path: str
    bytes: int
    md5: str


@dataclass(frozen=True)
class Problem:
    """A file that is not what the manifest says.

    `kind` is missing, size, md5, link or unreadable; `text` is a sentence that names the file.
    """

    path: str
    kind: str
    text: str


@dataclass(frozen=True)
class Plan:
    """What there is to do: files known to be whole, files of the right size not yet checked, and files to fetch."""

    complete: list[Entry]
    unchecked: list[Entry]
    to_fetch: list[Entry]
    bytes_left: Mapping[str, int]

    @property
    def n_bytes(self) -> int:
        """Bytes still to be transferred; what broken downloads left behind is not counted again."""
        return sum(self.bytes_left.values())


def read_manifest(path: Path) -> list[Entry]:
    """Read a tab-separated manifest with the columns path, bytes and md5.

    Raises
    ------
    InputError
        If the file is absent, lacks a column, is empty, or has a row that is no file of a dataset.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a manifest ({error})") from error
    table = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    absent = [column for column in COLUMNS if column not in (table.fieldnames or [])]
    if absent:
        raise InputError(f"{path}: the first line lacks {', '.join(absent)}; expected tab-separated path, bytes, md5")
    entries = [_entry(row, f"{path} line {table.line_num}") for row in table]
    if not entries:
        raise InputError(f"{path}: lists no file")
    seen = set()
    for entry in entries:
        if entry.path in seen:
            raise InputError(f"{path}: lists {entry.path} twice")
        seen.add(entry.path)
    return entries


def _entry(row: Mapping[str, str | None], where: str) -> Entry:
    path, size, md5 = (row[column] or "" for column in COLUMNS)
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or str(PurePosixPath(path)) != path:
        raise InputError(f"{where}: path is {path!r}, expected a path below the dataset's root")
    if not re.fullmatch(r"[0-9]+", size):
        raise InputError(f"{where}: bytes is {size!r}, expected a whole number")
    if not re.fullmatch(r"[0-9a-f]{32}", md5):
        raise InputError(f"{where}: md5 is {md5!r}, expected 32 hexadecimal digits")
    return Entry(path, int(size), md5)


def select(
    entries: Iterable[Entry], participants: Sequence[str], stories: Sequence[str], surfaces: bool = True
) -> list[Entry]:
    """Files that a study of some stories needs, in the manifest's order.

    Per story its sound and TextGrid; the table of volumes if listed; per participant and story the responses. With
    `surfaces` also each participant's pycortex surfaces, transforms, surface information and overlays (not pycortex's
    caches), and of FreeSurfer `sphere.reg`, `white`, `pial` and the a2009s annotation.

    Raises
    ------
    InputError
        If a participant or story is unknown, a participant lacks a story, or a surface is not in the manifest.
    """
    by_path = {entry.path: entry for entry in entries}
    known_participants = {path.split("/")[2] for path in by_path if path.startswith(RESPONSES)}
    known_stories = {PurePosixPath(path).stem for path in by_path if path.startswith(TEXTGRIDS)}
    for participant in participants:
        require_known("participant", participant, known_participants)
    wanted = {VOLUMES} & by_path.keys()
    for story in stories:
        require_known("story", story, known_stories)
        wanted |= {f"stimuli/{story}.wav", f"{TEXTGRIDS}{story}.TextGrid"}
        for participant in participants:
            responses = f"{RESPONSES}{participant}/{story}.hf5"
            if responses not in by_path:
                raise InputError(f"participant {participant} has no story {story}: the manifest lists no {responses}")
            wanted.add(responses)
    if surfaces:
        wanted.update(path for participant in participants for path in _surface_paths(by_path, participant))
    absent = sorted(wanted - by_path.keys())
    if absent:
        raise InputError(f"the manifest lists no {absent[0]}")
    return [entry for path, entry in by_path.items() if path in wanted]


def _surface_paths(paths: Collection[str], participant: str) -> list[str]:
    found = []
    for folder, patterns in SURFACES.items():
        root = f"{folder}{participant}/"
        below = [path for path in paths if path.startswith(root)]
        for pattern in patterns:
            matching = [path for path in below if fnmatchcase(path, root + pattern)]
            if not matching:
                raise InputError(f"participant {participant} lacks surfaces: the manifest lists no {root}{pattern}")
            found += matching
    return found


def require_known(kind: str, name: str, known: Collection[str]) -> None:
    """Raise `InputError` unless `name` is among `known`; the sentence gives the nearest name that is."""
    if name not in known:
        folded = {valid.casefold(): valid for valid in sorted(known)}
        nearest = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0)
        hint = f"; the nearest known one is {folded[nearest[0]]}" if nearest else ""
        raise InputError(f"unknown {kind} {name!r}{hint}")


def md5(path: Path) -> str:
    """MD5 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def part_path(target: Path) -> Path:
    """Where a download grows until it is whole and takes the name `target`."""
    return target.with_name(target.name + ".part")


def plan(entries: Iterable[Entry], dest: Path) -> Plan:
    """Sort files by what is left to do, from their sizes and from the record of earlier checks; no file is opened.

    Raises
    ------
    InputError
        If a folder may not be looked into.
    """
    dest = Path(dest)
    record = _read_record(dest)
    complete, unchecked, to_fetch, bytes_left = [], [], [], {}
    try:
        for entry in entries:
            target = dest / entry.path
            if _size(target) != entry.bytes:
                to_fetch.append(entry)
                part = _size(part_path(target)) or 0
                bytes_left[entry.path] = entry.bytes - part if part <= entry.bytes else entry.bytes
            elif record.get(entry.path) == _state(entry, target):
                complete.append(entry)
            else:
                unchecked.append(entry)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be looked at ({error.strerror})") from error
    return Plan(complete, unchecked, to_fetch, bytes_left)


def verify(
    entries: Sequence[Entry], dest: Path, report: Callable[[Entry, Problem | None], None] | None = None
) -> list[Problem]:
    """Compare the size, then the MD5 of files with a manifest; a git-annex link to present content counts as the file.

    Files that are right are recorded, so that a later fetch does not read them again. `report` is called once a file,
    in order, with None where nothing is wrong.
    """
    problems = []
    with ThreadPoolExecutor(4) as pool:
        for entry, problem in zip(entries, pool.map(lambda entry: check(entry, dest), entries), strict=True):
            if problem:
                problems.append(problem)
            if report:
                report(entry, problem)
    return problems


def check(entry: Entry, dest: Path) -> Problem | None:
    """What is wrong with one file below `dest`, or None; a file that is right is recorded."""
    target = Path(dest) / entry.path
    try:
        size = _size(target)
        if size is None:
            return _absent(entry, target)
        if size != entry.bytes:
            if _is_annex_pointer(target):
                return Problem(entry.path, "link", _annex_sentence(entry))
            return Problem(entry.path, "size", f"{entry.path}: {size} bytes, the manifest says {entry.bytes}")
        found = md5(target)
    except OSError as error:
        return Problem(entry.path, "unreadable", f"{entry.path}: cannot be read ({error.strerror})")
    if found != entry.md5:
        return Problem(entry.path, "md5", f"{entry.path}: MD5 {found}, the manifest says {entry.md5}")
    remember(entry, dest)
    return None


def _absent(entry: Entry, target: Path) -> Problem:
    if target.is_symlink():
        link = os.readlink(target)
        if ".git/annex/objects" in link:
            return Problem(entry.path, "link", _annex_sentence(entry))
        return Problem(entry.path, "link", f"{entry.path}: a link to {link}, where there is no file")
    part = _size(part_path(target))
    broken = "" if part is None else f", only the first {part} of its {entry.bytes} bytes in a .part file"
    return Problem(entry.path, "missing", f"{entry.path}: missing{broken}")


def _annex_sentence(entry: Entry) -> str:
    return f"{entry.path}: a git-annex link whose content is not here; `datalad get {entry.path}` gets it"


def _is_annex_pointer(target: Path) -> bool:
    with open(target, "rb") as file:
        return file.read(len(ANNEX_POINTER)) == ANNEX_POINTER


def remember(entry: Entry, dest: Path) -> None:
    """Record that a file has the manifest's MD5; in a folder that cannot be written nothing is recorded."""
    line = json.dumps({"path": entry.path, **_state(entry, Path(dest) / entry.path)}) + "\n"
    with suppress(OSError):
        record = os.open(Path(dest) / RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(record, line.encode())
        finally:
            os.close(record)


def _read_record(dest: Path) -> dict[str, dict]:
    record = {}
    with suppress(OSError):
        for line in (dest / RECORD).read_text(errors="replace").splitlines():
            with suppress(ValueError, TypeError, KeyError):
                state = json.loads(line)
                record[state.pop("path")] = state
    return record


def _state(entry: Entry, target: Path) -> dict[str, int | str]:
    status = target.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "md5": entry.md5}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if not path.is_dir() else None
    except (FileNotFoundError, NotADirectoryError):
        return None
