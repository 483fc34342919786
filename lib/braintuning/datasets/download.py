"""The commands `fetch` and `verify`: resumable, checked and parallel download of ds003020.

Of the two names that a folder of ds003020 has (`layout`), a file is asked for by the server's and stored by the one
that is here already, else the server's as well.

Files are up to 2 GB. pooch restarts an interrupted download and does not keep two processes apart, and
urllib3's Retry ends with the headers of a response; so requests does the transfers and pooch the hashes.
"""

import errno
import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from pathlib import Path

import requests
from pooch import file_hash
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from braintuning.datasets import manifest
from braintuning.datasets.layout import FOLDERS, find_folder, is_here, placed
from braintuning.datasets.manifest import BASE_URL, MANIFEST, VOLUMES, Entry, needed_files
from braintuning.datasets.server import AGAIN, Server
from braintuning.errors import InputError
from braintuning.results import atomic_path, require_space
from braintuning.study import Study

log = logging.getLogger(__name__)

_readable = partial(tqdm.format_sizeof, suffix="B")


def fetch(
    study: Study,
    participants: Sequence[str] = (),
    stories: Sequence[str] = (),
    *,
    dest: Path | None = None,
    surfaces: bool = True,
    manifest_file: Path = MANIFEST,
    base_url: str = BASE_URL,
    workers: int = 4,
    dry_run: bool = False,
) -> None:
    """Fetch what a study needs of ds003020 into `dest` (the study's root), or with `dry_run` only say what is missing.

    `needed_files` selects the files and `download` brings them, with their errors. The table of volumes, which the
    bucket's manifest does not list, is copied from `<manifest>_respdict.json` unless it is here with its content.
    """
    entries = needed_files(study, participants, stories, surfaces=surfaces, manifest_file=manifest_file)
    dest = dest or study.root
    if dry_run:
        entries = manifest.as_here(entries, dest, FOLDERS[0])
        complete, unchecked, left = manifest.plan(entries, dest)
        for entry in left:
            log.info("%13s  %s", f"{entry.bytes:,}", entry.path)
        here = f"{len(complete)} checked and {len(unchecked)} unchecked files are in {dest}"
        log.info("%s in %d files to fetch; %s", _readable(sum(left.values())), len(left), here)
        return
    download(entries, dest, base_url, workers)
    volumes = manifest_file.with_name(f"{manifest_file.stem}_respdict.json")
    target = dest / placed(VOLUMES, find_folder(dest) or FOLDERS[0])
    if volumes.exists() and not (is_here(target) or target.is_dir()):
        with atomic_path(target) as path:
            shutil.copyfile(volumes, path)


def verify(
    study: Study,
    participants: Sequence[str] = (),
    stories: Sequence[str] = (),
    *,
    dest: Path | None = None,
    surfaces: bool = True,
    manifest_file: Path = MANIFEST,
) -> int:
    """Check size and MD5 of what a study needs of ds003020, logging what is wrong with a file; the number of these."""
    entries = needed_files(study, participants, stories, surfaces=surfaces, manifest_file=manifest_file)
    dest, n_wrong = dest or study.root, 0
    entries = manifest.as_here(entries, dest, FOLDERS[0])
    with _bar(sum(entry.bytes for entry in entries)) as bar, ThreadPoolExecutor(4) as pool:
        for entry, problem in zip(entries, pool.map(partial(manifest.check, dest=dest), entries), strict=True):
            bar.update(entry.bytes)
            if problem:
                n_wrong += 1
                log.info(problem)
    log.info("%d of %d files in %s are right", len(entries) - n_wrong, len(entries), dest)
    return n_wrong


def download(entries: Sequence[Entry], dest: Path, base_url: str = BASE_URL, workers: int = 4) -> None:
    """Download files below `dest`, `workers` at a time, until each has its manifest's size and MD5.

    A file grows as `<name>.part` and takes its name once it is whole; the next run resumes an interrupted download.
    Two processes share the work: a file is locked while it is downloaded. `InputError` where the disk is too small or
    full, the server lacks a file, which does not keep the others from being downloaded, or holds another one under its
    name, or cannot be reached.
    """
    server = Server(base_url)
    if workers < 1:
        raise InputError(f"{workers} workers asked for, expected at least 1")
    _, unchecked, left = manifest.plan(manifest.as_here(entries, dest), dest)
    require_space(dest, sum(left.values()))
    n_bytes = sum(entry.bytes for entry in left)
    with _bar(n_bytes, n_bytes - sum(left.values())) as bar, ThreadPoolExecutor(workers) as pool:
        files = [*unchecked, *manifest.as_here(left, dest, otherwise=server.folder_of(left))]
        job = _Download(dest, server, len(files), bar)
        try:
            failures = [failure for failure in pool.map(job.bring, files) if failure]
        except BaseException:
            server.stop.set()
            raise
    if failures:
        several = f"{len(failures)} files of {len(entries)} could not be fetched; the first: "
        raise InputError(several * (len(failures) > 1) + failures[0])
    log.info("%s fetched; all %d are whole in %s", job.summary(), len(entries), dest)


@dataclass
class _Download:
    """What the workers of one download share."""

    dest: Path
    server: Server
    n_files: int
    bar: tqdm
    lock: threading.Lock = field(default_factory=threading.Lock)
    start: float = field(default_factory=time.monotonic)
    fetched: int = 0
    received: int = 0

    def summary(self) -> str:
        rate = self.received / max(time.monotonic() - self.start, 1e-3)
        return f"{self.fetched} of {self.n_files} files, {_readable(self.received)} at {_readable(rate)}/s"

    def bring(self, entry: Entry) -> str | None:
        """Download one file unless it is here; a sentence where that failed."""
        target = self.dest / entry.path
        try:
            if self.server.stop.is_set() or manifest.check(entry, self.dest) is None:
                return None
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(manifest.part_path(target), self.server.stop) as part:
                if manifest.check(entry, self.dest) is None:
                    part.truncate(0)
                    return None
                self._fill(part, entry)
                os.fsync(part.fileno())
                os.replace(part.name, target)
            manifest.remember(entry, self.dest)
        except CancelledError:
            return None
        except InputError as error:
            log.info(error)
            return str(error)
        except OSError as error:
            self.server.stop.set()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return f"{target}: the disk is full; make room, then {AGAIN}"
            return f"{target}: cannot be written ({error.strerror})"
        with self.lock:
            self.fetched += 1
            if self.bar.disable:
                log.info("%s %s; %s", entry.path, _readable(entry.bytes), self.summary())
        return None

    def _fill(self, part: FileIO, entry: Entry) -> None:
        """Fill `part` until its MD5 is right; a whole file with another MD5 is downloaded once more from its start."""
        for again in (True, False):
            self._receive_all(part, entry)
            found = file_hash(part.name, "md5")
            if found == entry.md5:
                return
            self._empty(part)
            problem = f"{entry.path}: MD5 of what {self.server.url}/ sends is {found}, the manifest says {entry.md5}"
            if again:
                log.info("%s; once more from its start", problem)
        raise InputError(problem)

    def _receive_all(self, part: FileIO, entry: Entry) -> None:
        """Ask for what `part` lacks until it has all of it, or no new byte came in many times in a row."""
        most, failures = _length(part), 0
        while _length(part) != entry.bytes:
            try:
                self._receive(part, entry)
            except ConnectionError as reason:
                failures = 0 if _length(part) > most else failures + 1
                most = max(most, _length(part))
                self.server.wait(entry.path, reason, failures)

    def _receive(self, part: FileIO, entry: Entry) -> None:
        """Append to `part` what one request gives of the bytes that it lacks; `ConnectionError` where that may pass."""
        have = _length(part)
        path = placed(entry.path, self.server.folder_of([entry]) or "")
        with self.server.get(path, {"Range": f"bytes={have}-"} if have else {}) as response:
            self._require_continuation(response, part, entry)
            for chunk in response.iter_content(1 << 16):
                if self.server.stop.is_set():
                    raise CancelledError
                _append(part, chunk)
                self._count(len(chunk))
        if (sent := _length(part)) > entry.bytes:
            self._empty(part)
            raise InputError(f"{entry.path}: {response.url} sends {sent} bytes, the manifest says {entry.bytes}")
        if sent < entry.bytes:
            raise ConnectionError(f"{self.server.url}/ ended the file early")

    def _require_continuation(self, response: requests.Response, part: FileIO, entry: Entry) -> None:
        """Raise unless the response's body goes on where `part` ends, which is emptied when the body starts afresh."""
        status, size = response.status_code, response.headers.get("Content-Length", entry.bytes)
        if status not in (200, 206, 416):
            raise InputError(f"{entry.path}: {response.url} answered {status} {response.reason}")
        if status == 200 and int(size) != entry.bytes and "Content-Encoding" not in response.headers:
            raise InputError(f"{entry.path}: {response.url} holds {size} bytes, the manifest says {entry.bytes}")
        asked = f"bytes {_length(part)}-{entry.bytes - 1}/{entry.bytes}"
        if status != 206 or response.headers.get("Content-Range") != asked:
            self._empty(part)
            if status != 200:
                raise ConnectionError(f"{self.server.url}/ did not send the range asked for")

    def _count(self, n_bytes: int) -> None:
        with self.lock:
            self.received += n_bytes
            self.bar.update(n_bytes)

    def _empty(self, part: FileIO) -> None:
        if _length(part):
            self._count(-_length(part))
            part.truncate(0)


@contextmanager
def _bar(n_bytes: int, n_here: int = 0) -> Iterator[tqdm]:
    """A bar of bytes where there is a terminal, with room for what is logged."""
    with (
        logging_redirect_tqdm([logging.getLogger("braintuning")]),
        tqdm(total=n_bytes, initial=n_here, unit="B", unit_scale=True, disable=None) as bar,
    ):
        yield bar


@contextmanager
def _locked(path: Path, stop: threading.Event) -> Iterator[FileIO]:
    """Open a file for appending once no other process holds it, and leave none behind that is empty."""
    while not stop.is_set():
        with open(path, "ab", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ours = os.path.samestat(path.stat(), os.fstat(file.fileno()))
            except (BlockingIOError, FileNotFoundError):
                stop.wait(0.1)
                continue
            if ours:
                try:
                    return (yield file)
                finally:
                    with suppress(FileNotFoundError):
                        if path.stat().st_size == 0:
                            path.unlink()
    raise CancelledError


def _length(part: FileIO) -> int:
    return os.fstat(part.fileno()).st_size


def _append(part: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[part.write(rest) :]
