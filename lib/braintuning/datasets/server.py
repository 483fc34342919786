"""A server of ds003020 over HTTP: its answers, when to try again, and which name it has for a folder."""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from operator import attrgetter
from urllib.parse import quote

import requests

from braintuning.datasets.layout import FOLDERS, is_placed, placed
from braintuning.datasets.manifest import Entry
from braintuning.errors import InputError

log = logging.getLogger(__name__)

SILENCE = 60.0
"""Seconds without a byte after which a connection is given up."""
RETRIES = 6
"""How often in a row the download of a file may fail without a new byte before the whole fetch ends."""
PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds to wait after the first failure, doubled after each further one, and the most."""
PASSING = (408, 425, 429)
"""HTTP statuses below 500 that are worth another try."""
MOST_ASKED = 3
"""Files that a server is asked for at most, by both names of their folder, to know which it has."""
AGAIN = "run the same command again to resume"


class Server:
    """What workers share who fetch from one server; `stop`, once set, ends their work."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"base URL {url!r} does not start with http:// or https://")
        self.url, self.stop = url.rstrip("/"), threading.Event()
        self._folder: str | None = None
        self._asking = threading.Lock()

    @contextmanager
    def get(self, path: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        """The answer to a request for a file; `ConnectionError` where another try may give another one."""
        url, headers = f"{self.url}/{quote(path)}", {"Accept-Encoding": "identity", **headers}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=SILENCE) as response:
                status = response.status_code
                if status in PASSING or status >= 500:
                    raise ConnectionError(f"{self.url}/ answered {status} {response.reason}")
                yield response
        except requests.RequestException as error:
            raise ConnectionError(f"the connection to {self.url}/ failed ({type(error).__name__})") from error

    def wait(self, path: str, reason: ConnectionError, failures: int) -> None:
        """Wait before another try, longer after each failure in a row; `InputError` after too many."""
        if failures > RETRIES:
            self.stop.set()
            raise InputError(f"{path}: {reason}, {failures} times in a row; {AGAIN}") from reason
        seconds = min(PAUSE * 2 ** max(failures - 1, 0), LONGEST_PAUSE)
        log.info("%s: %s; again in %g s", path, reason, seconds)
        if self.stop.wait(seconds):
            raise CancelledError from reason

    def folder_of(self, entries: Iterable[Entry]) -> str | None:
        """Which of `FOLDERS` the server has, told from some files in it; None of files that lie elsewhere.

        It is asked once: for the smallest file, by the name that `entries` have and by the other, and for the next
        one where it lacks that file. The name of `entries` is taken where it has none of them.
        """
        smallest = sorted((entry for entry in entries if is_placed(entry.path)), key=attrgetter("bytes"))[:MOST_ASKED]
        with self._asking:
            if smallest and self._folder is None:
                own = smallest[0].path.split("/")[0]
                names = sorted(FOLDERS, key=own.__ne__)
                asked = ((name, entry._replace(path=placed(entry.path, name))) for entry in smallest for name in names)
                self._folder = next((name for name, entry in asked if self._has(entry)), own)
        return self._folder if smallest else None

    def _has(self, entry: Entry) -> bool:
        """Whether the server has a file, of its size where the answer tells one: no page in place of any path."""
        failures = 0
        while True:
            try:
                with self.get(entry.path, {"Range": "bytes=0-0"}) as response:
                    status, told = response.status_code, response.headers
                    size = told.get("Content-Length" if status == 200 else "Content-Range", "").rpartition("/")[2]
                    return status in (200, 206, 416) and (not size.isdecimal() or int(size) == entry.bytes)
            except ConnectionError as reason:
                failures += 1
                self.wait(entry.path, reason, failures)
