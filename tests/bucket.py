"""A public bucket on loopback that can be made to fail, and the manifest of a folder."""

import hashlib
import os
import re
import threading
import time
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

PIECE = 1 << 14
FOLDERS = ("derivatives", "derivative")


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong.

    `status`: an error instead of the file; `cut_after`: the connection drops after that many bytes of the body;
    `truncate_to`: the server holds only that many bytes; `flip_at`: the byte at that offset of the file is inverted;
    `shift`: a range starts that many bytes after the one asked for, and says so.
    """

    status: int | None = None
    cut_after: int | None = None
    truncate_to: int | None = None
    flip_at: int | None = None
    shift: int = 0


@dataclass(frozen=True)
class Request:
    path: str
    start: int
    status: int


class _Quiet(ThreadingHTTPServer):
    """A server that says nothing when a client hangs up before the end of an answer."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Bucket:
    """Serve the files below `root` at `url` while the context lasts.

    `faults[path]` are used up one an answer, then `always[path]` applies; `ranges` False ignores range requests;
    `bytes_per_second` slows every body down; `requests` is what was asked and answered, `questions` what was asked to
    know whether it is there (one byte of it). `folder` is the server's name of ds003020's folder, whatever `root` has.
    `page` is answered in place of any file that is not here.
    """

    def __init__(self, root: Path, folder: str | None = None) -> None:
        self.root, self.folder = Path(root), folder
        self.faults = defaultdict(deque)
        self.always = {}
        self.ranges = True
        self.bytes_per_second = self.page = None
        self.requests, self.questions = [], []
        self._server = _Quiet(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/ds003020/"

    def __enter__(self) -> "Bucket":
        os.environ.setdefault("NO_PROXY", "127.0.0.1")
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def file(self, path: str) -> Path:
        """Where a file that is asked for lies; nowhere under another name of the folder than the server's."""
        first, _, rest = path.partition("/")
        if self.folder is None or first not in FOLDERS:
            return self.root / path
        own = next(name for name in FOLDERS if (self.root / name).is_dir())
        return self.root / (f"{own}/{rest}" if first == self.folder else "nowhere")

    def next_fault(self, path: str) -> Fault:
        with suppress(IndexError):
            return self.faults[path].popleft()
        return self.always.get(path, Fault())


def _handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(self.path).removeprefix("/ds003020/")
            question = self.headers.get("Range") == "bytes=0-0"
            fault = Fault(status=bucket.always.get(path, Fault()).status) if question else bucket.next_fault(path)
            file = bucket.file(path)
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked and bucket.ranges else 0
            body = file.read_bytes()[: fault.truncate_to] if file.is_file() else bucket.page or b""
            status = fault.status or (404 if not file.is_file() and not bucket.page else 206 if start else 200)
            if status == 206 and start >= len(body):
                status = 416
            (bucket.questions if question else bucket.requests).append(
                Request(path, int(asked[1]) if asked else 0, status)
            )
            self._answer(status, body, start, fault)

        def _answer(self, status: int, body: bytes, start: int, fault: Fault) -> None:
            self.send_response(status)
            if status >= 400:
                body = b"<Error/>"
            else:
                if fault.flip_at is not None:
                    body = body[: fault.flip_at] + bytes([body[fault.flip_at] ^ 255]) + body[fault.flip_at + 1 :]
                if status == 206:
                    start += fault.shift
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                body = body[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):
                self._send(body[: fault.cut_after])
            self.close_connection = fault.cut_after is not None

        def _send(self, body: bytes) -> None:
            for begin in range(0, len(body), PIECE):
                piece = body[begin : begin + PIECE]
                self.wfile.write(piece)
                if bucket.bytes_per_second:
                    time.sleep(len(piece) / bucket.bytes_per_second)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


def write_manifest(root: Path, path: Path) -> Path:
    """Write the manifest of every file below `root`, and return its path."""
    files = sorted(file for file in root.rglob("*") if file.is_file())
    rows = [
        f"{file.relative_to(root).as_posix()}\t{file.stat().st_size}\t{hashlib.md5(file.read_bytes()).hexdigest()}"
        for file in files
    ]
    path.write_text("\n".join(["path\tbytes\tmd5", *rows]) + "\n")
    return path
