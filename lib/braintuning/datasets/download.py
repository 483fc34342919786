"""Resumable, checked, parallel download of the files in a manifest.

pooch checks and renames, but throws a broken download away and does not keep two processes apart. Files of ds003020 are
up to 2 GB, so this module downloads with requests and goes on with what is there.
"""

import errno
import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import requests

from braintuning.datasets import manifest
from braintuning.datasets.manifest import Entry
from braintuning.errors import InputError
from braintuning.results import CACHE, require_space

BASE_URL = "https://s3.amazonaws.com/openneuro.org/ds003020/"
DEST = CACHE / "ds003020"
CHUNK = 1 << 16
SILENCE = 60.0
LONGEST_PAUSE = 30.0
PASSING = (408, 425, 429)
AGAIN = "run the same command again to go on from here"


@dataclass(frozen=True)
class Event:
    """What happened to one file.

    `bytes`: `n_bytes` more arrived (negative when a download starts again); `done`: fetched and checked; `kept`: it was
    whole already; `retry` and `failed`: see `text`.
    """

    entry: Entry
    kind: Literal["bytes", "done", "kept", "retry", "failed"]
    n_bytes: int = 0
    text: str = ""


@dataclass(frozen=True)
class _Job:
    dest: Path
    base_url: str
    retries: int
    pause: float
    reporter: Callable[[Event], None]
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, event: Event) -> None:
        with self.lock:
            self.reporter(event)


class _InterruptedError(Exception):
    """The connection or the server failed in a way that may pass."""


class _StoppedError(Exception):
    """Another file's failure, or the user, ended the whole fetch."""


def fetch(
    entries: Sequence[Entry],
    dest: Path,
    base_url: str = BASE_URL,
    *,
    workers: int = 4,
    retries: int = 6,
    pause: float = 1.0,
    report: Callable[[Event], None] = lambda event: None,
) -> None:
    """Download files below `dest` until each has its manifest's size and MD5.

    A file grows as `<name>.part` and takes its name once it is whole, so a fetch that ends early, however it ends, is
    gone on with by the next. Two fetches into the same folder share the work: a file is locked while it is downloaded.

    Parameters
    ----------
    entries
        What to fetch.
    dest
        Root of the dataset on this machine.
    base_url
        Its root on the server.
    workers
        Files downloaded at a time.
    retries
        How often in a row a file's download may fail without a new byte before the whole fetch ends.
    pause
        Seconds to wait after the first failure, doubled after each further one up to 30.
    report
        Called with every `Event`, never by two threads at once.

    Raises
    ------
    InputError
        If the disk is too small or full, the server lacks a file or holds another one under its name, or it cannot be
        reached. A file that the server lacks does not keep the others from being fetched.
    """
    if not base_url.startswith(("http://", "https://")):
        raise InputError(f"base URL {base_url!r} does not start with http:// or https://")
    if workers < 1:
        raise InputError(f"{workers} workers asked for, expected at least 1")
    start = manifest.plan(entries, dest)
    require_space(dest, start.n_bytes)
    job = _Job(Path(dest), base_url, retries, pause, report)
    for entry in start.complete:
        job.report(Event(entry, "kept"))
    failures = _run(job, [*start.unchecked, *start.to_fetch], workers)
    if len(failures) == 1:
        raise InputError(failures[0])
    if failures:
        raise InputError(f"{len(failures)} files of {len(entries)} could not be fetched; the first: {failures[0]}")


def _run(job: _Job, entries: Sequence[Entry], workers: int) -> list[str]:
    failures = []
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(_fetch_one, entry, job): entry for entry in entries}
        try:
            for future in as_completed(futures):
                try:
                    future.result()
                except InputError as error:
                    failures.append(str(error))
                    job.report(Event(futures[future], "failed", text=str(error)))
                except _StoppedError:
                    pass
        except BaseException:
            job.stop.set()
            raise
    return failures


def _fetch_one(entry: Entry, job: _Job) -> None:
    target = job.dest / entry.path
    try:
        if job.stop.is_set():
            raise _StoppedError
        whole = manifest.check(entry, job.dest) is None
        if not whole:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(manifest.part_path(target), job.stop) as part:
                whole = manifest.check(entry, job.dest) is None
                if whole:
                    part.truncate(0)
                else:
                    _download(entry, part, job)
                    os.fsync(part.fileno())
                    os.replace(part.name, target)
                    manifest.remember(entry, job.dest)
        job.report(Event(entry, "kept" if whole else "done"))
    except OSError as error:
        job.stop.set()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{target}: the disk is full; make room, then {AGAIN}") from error
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error


@contextmanager
def _locked(path: Path, stop: threading.Event) -> Iterator[FileIO]:
    """Open a file for appending once no other fetch holds it, and leave none behind that is empty."""

    def is_open_file() -> bool:
        return path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))

    while True:
        with open(path, "ab", buffering=0) as file:
            _wait_for_lock(file, stop)
            if is_open_file():
                try:
                    yield file
                finally:
                    if is_open_file() and _length(file) == 0:
                        path.unlink()
                return


def _wait_for_lock(file: FileIO, stop: threading.Event) -> None:
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if stop.wait(0.1):
                raise _StoppedError from None


def _length(part: FileIO) -> int:
    return os.fstat(part.fileno()).st_size


def _download(entry: Entry, part: FileIO, job: _Job) -> None:
    """Fill `part` until its MD5 is right; a whole file with another MD5 is downloaded once more from its start."""
    most, failures, afresh = _length(part), 0, False
    while True:
        try:
            _receive(entry, part, job)
        except _InterruptedError as reason:
            failures = 0 if _length(part) > most else failures + 1
            most = max(most, _length(part))
            if failures > job.retries:
                job.stop.set()
                raise InputError(f"{entry.path}: {reason}, {failures} times in a row; {AGAIN}") from reason
            wait = min(job.pause * 2 ** max(failures - 1, 0), LONGEST_PAUSE)
            job.report(Event(entry, "retry", text=f"{entry.path}: {reason}; again in {wait:g} s"))
            if job.stop.wait(wait):
                raise _StoppedError from reason
            continue
        found = manifest.md5(Path(part.name))
        if found == entry.md5:
            return
        _restart(entry, part, job)
        sentence = f"{entry.path}: MD5 of what {_url(entry, job)} sends is {found}, the manifest says {entry.md5}"
        if afresh:
            raise InputError(sentence)
        job.report(Event(entry, "retry", text=f"{sentence}; once more from its start"))
        most, failures, afresh = 0, 0, True


def _restart(entry: Entry, part: FileIO, job: _Job) -> None:
    if _length(part):
        job.report(Event(entry, "bytes", -_length(part)))
        part.truncate(0)


def _url(entry: Entry, job: _Job) -> str:
    return job.base_url.rstrip("/") + "/" + quote(entry.path)


def _receive(entry: Entry, part: FileIO, job: _Job) -> None:
    """Append to `part` what one request gives of the bytes that it lacks."""
    if _length(part) > entry.bytes:
        _restart(entry, part, job)
    if _length(part) == entry.bytes:
        return
    headers = {"Accept-Encoding": "identity"}
    if _length(part):
        headers["Range"] = f"bytes={_length(part)}-"
    try:
        with requests.get(_url(entry, job), headers=headers, stream=True, timeout=SILENCE) as response:
            _require_continuation(response, entry, part, job)
            for chunk in response.iter_content(CHUNK):
                if job.stop.is_set():
                    raise _StoppedError
                _append(part, chunk)
                job.report(Event(entry, "bytes", len(chunk)))
    except requests.RequestException as error:
        raise _InterruptedError(f"the connection to {job.base_url} failed ({type(error).__name__})") from error
    if _length(part) > entry.bytes:
        n_bytes = _length(part)
        _restart(entry, part, job)
        raise InputError(f"{entry.path}: {response.url} sends {n_bytes} bytes, the manifest says {entry.bytes}")
    if _length(part) < entry.bytes:
        raise _InterruptedError(f"{job.base_url} ended the file early")


def _require_continuation(response: requests.Response, entry: Entry, part: FileIO, job: _Job) -> None:
    """Raise unless the response's body goes on where `part` ends, which is emptied when the body starts afresh."""
    status = response.status_code
    if status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != _length(part):
            _restart(entry, part, job)
            raise _InterruptedError(f"{job.base_url} sent another range than asked for")
        n_bytes = entry.bytes if span[2] == "*" else int(span[2])
    elif status == 200:
        n_bytes = int(response.headers.get("Content-Length", entry.bytes))
    elif status == 416:
        _restart(entry, part, job)
        raise _InterruptedError(f"{job.base_url} refused the range asked for")
    elif status in PASSING or status >= 500:
        raise _InterruptedError(f"{job.base_url} answered {status} {response.reason}")
    else:
        raise InputError(f"{entry.path}: {response.url} answered {status} {response.reason}")
    if n_bytes != entry.bytes and "Content-Encoding" not in response.headers:
        raise InputError(f"{entry.path}: {response.url} holds {n_bytes} bytes, the manifest says {entry.bytes}")
    if status == 200:
        _restart(entry, part, job)


def _append(part: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[part.write(rest) :]
