"""The commands `fetch` and `verify`: which files a study needs, and what is shown while they arrive."""

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from braintuning.datasets import manifest
from braintuning.datasets.download import BASE_URL, DEST, Event, fetch
from braintuning.datasets.manifest import MANIFEST, Entry, Plan, Problem
from braintuning.errors import InputError
from braintuning.results import atomic_path


class Console:
    """Shows a fetch: a bar in a terminal, else a line a file with bytes so far and the rate."""

    def __init__(self, todo: Plan, stream: TextIO) -> None:
        self.total = sum(entry.bytes for entry in todo.to_fetch)
        self.n_files = len(todo.to_fetch) + len(todo.unchecked)
        self.finished = self.fetched = self.received = 0
        self.start = time.monotonic()
        self.stream = stream
        here = self.total - todo.n_bytes
        silent = not stream.isatty()
        self.bar = tqdm(total=self.total, initial=here, unit="B", unit_scale=True, file=stream, disable=silent)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "bytes":
            self.received += event.n_bytes
            self.bar.update(event.n_bytes)
        elif event.text:
            tqdm.write(event.text, file=self.stream)
        elif event.kind == "done":
            self.fetched += 1
            if self.bar.disable:
                size = _readable(event.entry.bytes)
                tqdm.write(f"{event.entry.path} {size}; {self.summary()}", file=self.stream)

    def summary(self) -> str:
        """Files, bytes and rate so far."""
        rate = self.received / max(time.monotonic() - self.start, 1e-3)
        return f"{self.fetched} of {self.n_files} files, {_readable(self.received)} at {_readable(rate)}/s"


def _readable(n_bytes: float) -> str:
    return tqdm.format_sizeof(n_bytes, "B")


def entries_for(
    participants: Sequence[str],
    stories_by_participant: Mapping[str, Sequence[str]],
    manifest_file: Path = MANIFEST,
    surfaces: bool = True,
) -> list[Entry]:
    """Files that some participants need, each once, in the manifest's order; see `manifest.select`.

    Raises
    ------
    InputError
        Of `manifest.read_manifest` and `manifest.select`, or if a participant has no list of stories.
    """
    entries = manifest.read_manifest(manifest_file)
    needed = set()
    for participant in participants:
        manifest.require_known("participant", participant, stories_by_participant)
        needed.update(manifest.select(entries, [participant], stories_by_participant[participant], surfaces))
    return [entry for entry in entries if entry in needed]


def fetch_for(
    participants: Sequence[str],
    stories_by_participant: Mapping[str, Sequence[str]],
    *,
    dest: Path = DEST,
    base_url: str = BASE_URL,
    manifest_file: Path = MANIFEST,
    surfaces: bool = True,
    workers: int = 4,
    dry_run: bool = False,
    stream: TextIO | None = None,
) -> Plan:
    """Fetch what some participants need, showing it on `stream` (standard error); return the plan it started from.

    With `dry_run` the files and bytes still to fetch are listed and nothing is written. The dataset's table of volumes
    is copied from beside the manifest (`<name>_respdict.json`) where the manifest does not list it.

    Raises
    ------
    InputError
        See `entries_for` and `fetch`.
    """
    stream = stream or sys.stderr
    dest = Path(dest)
    entries = entries_for(participants, stories_by_participant, manifest_file, surfaces)
    todo = manifest.plan(entries, dest)
    if dry_run:
        for entry in todo.to_fetch:
            print(f"{entry.bytes:>13,}  {entry.path}", file=stream)
        here = f"{len(todo.complete)} checked and {len(todo.unchecked)} unchecked files are in {dest}"
        print(f"{_readable(todo.n_bytes)} in {len(todo.to_fetch)} files to fetch; {here}", file=stream)
        return todo
    console = Console(todo, stream)
    try:
        fetch(entries, dest, base_url, workers=workers, report=console)
    finally:
        console.bar.close()
    _place_volumes(Path(manifest_file), dest)
    print(f"{console.summary()} fetched; all {len(entries)} are whole in {dest}", file=stream)
    return todo


def _place_volumes(manifest_file: Path, dest: Path) -> None:
    source = manifest_file.with_name(f"{manifest_file.stem}_respdict.json")
    target = dest / manifest.VOLUMES
    if source.exists() and not target.exists():
        with atomic_path(target) as path:
            shutil.copyfile(source, path)


def verify_for(
    participants: Sequence[str],
    stories_by_participant: Mapping[str, Sequence[str]],
    *,
    dest: Path = DEST,
    manifest_file: Path = MANIFEST,
    surfaces: bool = True,
    stream: TextIO | None = None,
) -> list[Problem]:
    """Check what some participants need, naming each wrong file on `stream` (standard error); return what is wrong."""
    stream = stream or sys.stderr
    entries = entries_for(participants, stories_by_participant, manifest_file, surfaces)
    n_bytes = sum(entry.bytes for entry in entries)
    with tqdm(total=n_bytes, unit="B", unit_scale=True, file=stream, disable=not stream.isatty()) as bar:

        def show(entry: Entry, problem: Problem | None) -> None:
            bar.update(entry.bytes)
            if problem:
                tqdm.write(problem.text, file=stream)

        problems = manifest.verify(entries, dest, show)
    print(f"{len(entries) - len(problems)} of {len(entries)} files in {dest} are right", file=stream)
    return problems


def choose_stories(
    stories_by_participant: Mapping[str, Sequence[str]], wanted: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Stories of each participant among those wanted: names, or one number N for the first N of the study, or all.

    A number leaves out what a participant lacks; a name does not, so that asking for it is an error later on.

    Raises
    ------
    InputError
        If the study has fewer stories than N, or no story of a name.
    """
    study = list(dict.fromkeys(story for stories in stories_by_participant.values() for story in stories))
    if len(wanted) == 1 and wanted[0].isdecimal():
        if not 1 <= int(wanted[0]) <= len(study):
            raise InputError(f"--stories {wanted[0]}: expected 1 to {len(study)}, the stories of the study, or names")
        wanted, named = study[: int(wanted[0])], False
    else:
        for story in wanted:
            manifest.require_known("story", story, study)
        wanted, named = wanted or study, bool(wanted)
    return {
        participant: [story for story in wanted if named or story in stories]
        for participant, stories in stories_by_participant.items()
    }


def command_for(
    participants: Sequence[str],
    stories: Sequence[str] = (),
    *,
    study: str = "paper",
    dest: Path = DEST,
    base_url: str = BASE_URL,
    manifest_file: Path = MANIFEST,
) -> str:
    """The shell command that fetches what participants need for some stories; without stories, for all of the study."""
    words = ["python", "-m", "braintuning", "fetch", "--study", study, "--participants", *participants]
    words += ["--stories", *stories] if stories else []
    options = {
        "--dest": (Path(dest), DEST),
        "--base-url": (base_url, BASE_URL),
        "--manifest": (Path(manifest_file), MANIFEST),
    }
    for option, (value, default) in options.items():
        words += [option, str(value)] if value != default else []
    return shlex.join(words)


def add_arguments(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands `fetch` and `verify`; the parsed `command` says which one was given."""
    for command, purpose in (
        ("fetch", "download what a study needs of ds003020, or the rest of it"),
        ("verify", "check size and MD5 of what a study needs of ds003020"),
    ):
        parser = subparsers.add_parser(command, help=purpose, description=purpose)
        parser.set_defaults(command=command)
        parser.add_argument("--study", default="paper", help="name in data/studies, or a YAML file")
        parser.add_argument("--participants", nargs="+", default=(), help="of the study; all by default")
        parser.add_argument("--stories", nargs="+", default=(), help="names, or a number for the first of the study")
        parser.add_argument("--no-surfaces", dest="surfaces", action="store_false", help="sounds and responses only")
        parser.add_argument("--manifest", type=Path, default=MANIFEST, help="table of path, bytes and md5")
        parser.add_argument("--dest", type=Path, help="the dataset's folder; the study's by default")
        if command == "fetch":
            parser.add_argument("--base-url", default=BASE_URL, help="the dataset's root on a server")
            parser.add_argument("--workers", type=int, default=4, help="files downloaded at a time")
            parser.add_argument("--dry-run", action="store_true", help="list files and bytes only")


def main(args: argparse.Namespace, stories_by_participant: Mapping[str, Sequence[str]]) -> int:
    """Run `fetch` or `verify` as parsed; the exit status is 1 where `verify` finds a file that is not right."""
    participants = args.participants or list(stories_by_participant)
    chosen = choose_stories(stories_by_participant, args.stories)
    where = {"dest": args.dest, "manifest_file": args.manifest, "surfaces": args.surfaces}
    if args.command == "verify":
        return int(bool(verify_for(participants, chosen, **where)))
    fetch_for(participants, chosen, base_url=args.base_url, workers=args.workers, dry_run=args.dry_run, **where)
    return 0
