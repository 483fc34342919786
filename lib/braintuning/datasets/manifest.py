"""Manifest of ds003020: the files that a study needs of it, and which of them are on this disk.

Paths have the folder's old name here, `derivative/`, whatever a manifest, a server or this disk calls it (`layout`).
"""

import csv
import fnmatch
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pooch import file_hash

from braintuning.datasets.layout import FOLDERS, find_folder, placed
from braintuning.errors import InputError
from braintuning.results import CACHE, REPOSITORY, require_file
from braintuning.study import Study

if TYPE_CHECKING:
    import pandas as pd

BASE_URL = "https://s3.amazonaws.com/openneuro.org/ds003020/"
DEST = CACHE / "ds003020"
MANIFEST = REPOSITORY / "data" / "manifests" / "ds003020.tsv"
RECORD = ".braintuning-verified.jsonl"
RESPONSES = "derivative/preprocessed_data/"
VOLUMES = "derivative/respdict.json"
PYCORTEX = "derivative/pycortex-db/"
SURFACES = (
    *(f"{PYCORTEX}{{}}/{name}" for name in ("surfaces/*", "surface-info/*", "transforms/*", "overlays.svg")),
    "derivative/freesurfer_subjdir/{}/surf/?h.sphere.reg",
    "derivative/freesurfer_subjdir/{}/label/?h.cortex.label",
    "derivative/freesurfer_subjdir/{}/label/?h.aparc.a2009s.annot",
)
COLUMNS = {
    "path": (r"(?!(.*/)?\.{0,2}(/|$))[^/]+(/[^/]+)*", "a path below the dataset's root"),
    "bytes": (r"[0-9]+", "a whole number"),
    "md5": (r"[0-9a-fA-F]{32}", "32 hexadecimal digits"),
}


class Entry(NamedTuple):
    """One file of a dataset: its path below the root, its size and its MD5 in hexadecimal."""

    path: str
    bytes: int
    md5: str


def read_manifest(path: Path) -> list[Entry]:
    """Read a tab-separated manifest with the columns path, bytes and md5; `InputError` names what is wrong with it."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a manifest ({error})") from error
    table, entries = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), {}
    if absent := [column for column in COLUMNS if column not in (table.fieldnames or ())]:
        raise InputError(f"{path}: the first line lacks {', '.join(absent)}; expected tab-separated path, bytes, md5")
    for row in table:
        for column, (pattern, expected) in COLUMNS.items():
            if not re.fullmatch(pattern, found := row[column] or ""):
                raise InputError(f"{path} line {table.line_num}: {column} is {found!r}, expected {expected}")
        if (name := placed(row["path"], FOLDERS[0])) in entries:
            raise InputError(f"{path}: lists {row['path']} twice")
        entries[name] = Entry(row["path"], int(row["bytes"]), row["md5"].lower())
    if not entries:
        raise InputError(f"{path}: lists no file")
    return list(entries.values())


def story_files(participant: str, stories: Sequence[str]) -> list[str]:
    """Paths of the table of volumes and of the recordings, word times and responses of a participant's stories."""
    return [
        VOLUMES,
        *(f"stimuli/{story}.wav" for story in stories),
        *(f"derivative/TextGrids/{story}.TextGrid" for story in stories),
        *(f"{RESPONSES}{participant}/{story}.hf5" for story in stories),
    ]


def needed_files(
    study: Study,
    participants: Sequence[str] = (),
    stories: Sequence[str] = (),
    *,
    surfaces: bool = True,
    manifest_file: Path = MANIFEST,
) -> list[Entry]:
    """Files of ds003020 that a study needs, in the manifest's order; with `surfaces` also those of `SURFACES`.

    Of `participants` and `stories`, some of the study's, all by default; of stories also one number N for the first N
    of the study. Stories that a participant lacks are left out unless they are named. `InputError` if the study is not
    on ds003020, has no such participant or story, or needs a file that the manifest lacks.
    """
    if study.dataset.kind != "lebel" or study.dataset.simulation:
        raise InputError(f"study {study.name}: has nothing to fetch, expected one on ds003020, such as paper")
    first = study.stories.all
    if len(stories) == 1 and stories[0].isdecimal():
        if not 1 <= int(stories[0]) <= len(first):
            raise InputError(f"--stories {stories[0]}: expected 1 to {len(first)}, the stories of the study, or names")
        first, stories = first[: int(stories[0])], ()
    for story in stories:
        study.require("story", story, first)
    entries = [entry._replace(path=placed(entry.path, "derivative")) for entry in read_manifest(manifest_file)]
    wanted = set()
    paths = [entry.path for entry in entries]
    for participant in participants or study.participants:
        study.require("participant", participant, study.participants)
        names = stories or [story for story in study.stories_for(participant).all if story in first]
        surface_files = [pattern.format(participant) for pattern in SURFACES if surfaces]
        for pattern in story_files(participant, names) + surface_files:
            found = fnmatch.filter(paths, pattern)
            if not found and pattern != VOLUMES:
                raise InputError(f"participant {participant} has no {pattern}: the manifest does not list it")
            wanted.update(found)
    return [entry for entry in entries if entry.path in wanted]


def as_here(entries: Iterable[Entry], dest: Path, otherwise: str | None = None) -> list[Entry]:
    """Files by the name of their folder in `dest`, or `otherwise`, or as they are; errors as of `find_folder`."""
    folder = find_folder(dest) or otherwise
    return [entry._replace(path=placed(entry.path, folder)) for entry in entries] if folder else list(entries)


def plan(entries: Iterable[Entry], dest: Path) -> tuple[list[Entry], list[Entry], dict[Entry, int]]:
    """Files already verified, those of the right size not yet verified, and the others with their bytes to download.

    Told from sizes and the record of earlier checks; no file is opened.
    """
    complete, unchecked, left, record = [], [], {}, set()
    with suppress(OSError):
        record.update((dest / RECORD).read_text(errors="replace").splitlines())
    try:
        for entry in entries:
            if _size(dest / entry.path) != entry.bytes:
                part = _size(part_path(dest / entry.path)) or 0
                left[entry] = entry.bytes - (part if part <= entry.bytes else 0)
            else:
                (complete if _record_of(entry, dest) in record else unchecked).append(entry)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be looked at ({error.strerror})") from error
    return complete, unchecked, left


def check(entry: Entry, dest: Path) -> str | None:
    """A sentence on what is wrong with a file, or None where it has the manifest's size and MD5, which is recorded.

    A git-annex link to content that is here counts as the file.
    """
    target = dest / entry.path
    try:
        size, part = _size(target), _size(part_path(target))
        if size == entry.bytes:
            if (found := file_hash(target, "md5")) != entry.md5:
                return f"{entry.path}: MD5 {found}, the manifest says {entry.md5}"
            remember(entry, dest)
            return None
        if size is None and not target.is_symlink():
            only = "" if part is None else f", only the first {part} of its {entry.bytes} bytes in a .part file"
            return f"{entry.path}: missing{only}"
        require_file(target)
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{entry.path}: cannot be read ({error.strerror})"
    return f"{entry.path}: {size} bytes, the manifest says {entry.bytes}"


def remember(entry: Entry, dest: Path) -> None:
    """Record that a file has the manifest's MD5; in a folder that cannot be written nothing is recorded."""
    with suppress(OSError), open(dest / RECORD, "ab", buffering=0) as record:
        record.write(f"{_record_of(entry, dest)}\n".encode())


def _record_of(entry: Entry, dest: Path) -> str:
    status = (dest / entry.path).stat()
    state = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "md5": entry.md5}
    return json.dumps({"path": entry.path, **state})


def part_path(target: Path) -> Path:
    """Where a download grows until it is whole and takes the name `target`."""
    return target.with_name(target.name + ".part")


def _size(path: Path) -> int | None:
    try:
        return None if path.is_dir() else path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def inventory(study: Study, participants: Sequence[str] = ()) -> "pd.DataFrame":
    """What a study needs of ds003020 and how much of it is here, by participant and folder.

    Columns: participant ('all' for what participants share), folder, files, gigabytes, here (files of the right size),
    missing_gigabytes.
    """
    import pandas as pd

    entries = as_here(needed_files(study, participants), study.root)
    _, _, left = plan(entries, study.root)
    files = pd.DataFrame(entries)
    table = files["path"].str.extract(r"^(?:derivatives?/)?(?P<folder>[^/]+)(?:/(?P<participant>[^/]+)/)?")
    table = table.fillna("all").assign(files=1, gigabytes=files["bytes"] / 1e9)
    table["here"] = [entry not in left for entry in entries]
    table["missing_gigabytes"] = [left.get(entry, 0) / 1e9 for entry in entries]
    return table.groupby(["participant", "folder"], sort=False, as_index=False).sum()


def command_for(study: str, participants: Sequence[str], **options: str | Path) -> str:
    """The shell command that fetches what participants need, with the options of `fetch` that are not the default."""
    words = ["python", "-m", "braintuning", "fetch", "--study", study, "--participants", *participants]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)] if value not in (DEST, BASE_URL) else []
    return shlex.join(words)


def require_data(study: Study, named: str) -> None:
    """Raise `InputError` when files that a study in the ds003020 layout needs are missing.

    It gives the command that brings them where ds003020 has them; `named` is how the user named the study.
    """
    if study.dataset.kind != "lebel" or study.dataset.simulation:
        return
    needed = [
        (participant, path)
        for participant in study.participants
        for path in (*story_files(participant, study.stories_for(participant).all), f"{PYCORTEX}{participant}")
    ]
    folder = find_folder(study.root) or FOLDERS[0]
    needed = [(participant, placed(path, folder)) for participant, path in needed]
    missing = [(participant, path) for participant, path in needed if not (study.root / path).exists()]
    if not missing:
        return
    participants = list(dict(missing))
    of_responses = (entry.path.split("/") for entry in read_manifest(MANIFEST))
    known = {parts[2] for parts in of_responses if parts[1:2] == ["preprocessed_data"]}
    how = "expected them there"
    if known.issuperset(participants):
        how = f"to get them: {command_for(named, participants, dest=study.root)}"
    n_missing, n_needed = (len({path for _, path in files}) for files in (missing, needed))
    raise InputError(
        f"{study.root}: {n_missing} of {n_needed} files of study {study.name} are missing, the first is "
        f"{missing[0][1]}; {how}"
    )
