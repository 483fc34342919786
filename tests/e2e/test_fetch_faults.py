"""Every way a download goes wrong ends in a complete, verified tree after a rerun, or in one clear sentence."""

import errno
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import tiny
from braintuning.datasets import download, manifest, server
from braintuning.errors import InputError
from bucket import Bucket, Fault, write_manifest

LARGE = "derivative/preprocessed_data/UTS03/wheretheressmoke.hf5"
MEDIUM = "stimuli/wheretheressmoke.wav"
SMALL = "derivative/TextGrids/wheretheressmoke.TextGrid"
SIZES = {LARGE: 3_000_001, MEDIUM: 700_000, SMALL: 5_000}
SCRIPT = """
import sys
from pathlib import Path
from braintuning.datasets import download, manifest, server
url, table, dest = sys.argv[1:]
server.PAUSE = 0.01
download.download(manifest.read_manifest(Path(table)), Path(dest), url)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket")
    numbers = random.Random(3020)
    for path, size in SIZES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(numbers.randbytes(size))
    return folder


@pytest.fixture(scope="module")
def table(source, tmp_path_factory):
    return write_manifest(source, tmp_path_factory.mktemp("manifest") / "small.tsv")


@pytest.fixture
def bucket(source):
    with Bucket(source) as bucket:
        yield bucket


@pytest.fixture
def entries(table):
    return manifest.read_manifest(table)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(server, "PAUSE", 0.001)
    monkeypatch.setattr(server, "RETRIES", 3)


def get(entries, dest, bucket, workers=4, hear=lambda line: None):
    """The lines that a download logs."""
    lines = []
    with tiny.listening(lines.append), tiny.listening(hear):
        download.download(entries, dest, bucket.url, workers)
    return lines


def assert_whole(dest: Path, source: Path) -> None:
    """Byte for byte the source and nothing else, by other code than the one under test."""
    left = {f.relative_to(dest).as_posix() for f in dest.rglob("*") if not f.is_dir()} - {manifest.RECORD}
    assert left == set(SIZES)
    for path in SIZES:
        assert (dest / path).read_bytes() == (source / path).read_bytes(), path


def final_names(dest: Path) -> set[str]:
    return {path for path in SIZES if (dest / path).exists()}


def starts(bucket: Bucket, path: str) -> list[int]:
    return [request.start for request in bucket.requests if request.path == path]


def test_connection_cut_20_times_at_random_offsets(entries, tmp_path, bucket, source):
    numbers = random.Random(20)
    bucket.faults[LARGE].extend(Fault(cut_after=numbers.randrange(0, 250_000)) for _ in range(20))
    lines = get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    offsets = starts(bucket, LARGE)
    assert len(offsets) == 21 and offsets == sorted(offsets) and offsets[-1] > 1_000_000
    assert sum("; again in" in line for line in lines) == 20


def test_connection_cut_20_times_and_a_rerun_after_each(entries, tmp_path, bucket, source):
    numbers = random.Random(21)
    bucket.faults[LARGE].extend(Fault(cut_after=numbers.randrange(65_537, 200_000)) for _ in range(20))

    def die_at_the_cut(line):
        if "; again in" in line:
            raise RuntimeError("died")

    for _ in range(20):
        with pytest.raises(RuntimeError, match="died"):
            get(entries, tmp_path, bucket, hear=die_at_the_cut)
        assert LARGE not in final_names(tmp_path)
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    offsets = starts(bucket, LARGE)
    assert len(set(offsets)) == 21 and offsets == sorted(offsets)


def test_file_that_ends_early_on_the_server(entries, tmp_path, bucket, source):
    bucket.always[MEDIUM] = Fault(truncate_to=123_456)
    with pytest.raises(InputError, match=f"{MEDIUM}.* holds 123456 bytes, the manifest says 700000$"):
        get(entries, tmp_path, bucket)
    assert final_names(tmp_path) == {LARGE, SMALL}
    bucket.always.clear()
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


def test_file_that_became_shorter_than_what_is_here(entries, tmp_path, bucket, source):
    part = tmp_path / f"{MEDIUM}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((source / MEDIUM).read_bytes()[:200_000])
    bucket.always[MEDIUM] = Fault(truncate_to=123_456)
    with pytest.raises(InputError, match=r"holds 123456 bytes, the manifest says 700000$"):
        get(entries, tmp_path, bucket)
    bucket.always.clear()
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


def test_byte_flipped_once_on_the_way(entries, tmp_path, bucket, source):
    bucket.faults[MEDIUM].append(Fault(flip_at=350_000))
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    assert starts(bucket, MEDIUM) == [0, 0]


def test_byte_flipped_on_the_server(entries, tmp_path, bucket, source):
    bucket.always[MEDIUM] = Fault(flip_at=350_000)
    with pytest.raises(InputError, match=f"^{MEDIUM}: MD5 of what .* sends is [0-9a-f]+, the manifest says"):
        get(entries, tmp_path, bucket)
    assert starts(bucket, MEDIUM) == [0, 0]
    assert final_names(tmp_path) == {LARGE, SMALL} and not (tmp_path / f"{MEDIUM}.part").exists()
    bucket.always.clear()
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


def test_byte_flipped_in_what_a_broken_download_left(entries, tmp_path, bucket, source):
    half = bytearray((source / LARGE).read_bytes()[:1_500_000])
    half[777] ^= 1
    part = tmp_path / f"{LARGE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(half)
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    assert starts(bucket, LARGE) == [1_500_000, 0]


def test_byte_flipped_on_disk_under_the_final_name(entries, tmp_path, bucket, source):
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    content = bytearray((source / MEDIUM).read_bytes())
    content[-1] ^= 1
    (tmp_path / MEDIUM).write_bytes(content)
    assert [entry.path for entry in entries if manifest.check(entry, tmp_path)] == [MEDIUM]
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    assert {request.path for request in bucket.requests} == {MEDIUM}


def test_byte_flipped_on_disk_after_a_fetch(entries, tmp_path, bucket, source):
    get(entries, tmp_path, bucket)
    with open(tmp_path / MEDIUM, "r+b") as file:
        file.write(b"?" if file.read(1) != b"?" else b"!")
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


@pytest.mark.parametrize("size", [3_000_001, 3_000_002])
def test_wrong_part_of_full_size_or_more_is_not_trusted(entries, tmp_path, bucket, source, size):
    part = tmp_path / f"{LARGE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(size))
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


@pytest.mark.parametrize("status", [404, 403])
def test_absent_on_the_server_is_one_sentence_without_a_retry(entries, tmp_path, bucket, source, status):
    bucket.always[MEDIUM] = Fault(status=status)
    with pytest.raises(InputError, match=f"^{MEDIUM}: http://.*{MEDIUM} answered {status} ") as caught:
        get(entries, tmp_path, bucket)
    assert "\n" not in str(caught.value)
    assert starts(bucket, MEDIUM) == [0]
    assert final_names(tmp_path) == {LARGE, SMALL} and not (tmp_path / f"{MEDIUM}.part").exists()
    bucket.always.clear()
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


def test_several_absent_files_are_one_sentence_that_counts_them(entries, tmp_path, bucket):
    bucket.always.update({MEDIUM: Fault(status=404), SMALL: Fault(status=404)})
    with pytest.raises(InputError, match=r"^2 files of 3 could not be fetched; the first: .* answered 404"):
        get(entries, tmp_path, bucket)
    assert final_names(tmp_path) == {LARGE}


def test_503_then_fine(entries, tmp_path, bucket, source):
    for path in SIZES:
        bucket.faults[path].extend([Fault(status=503), Fault(status=429), Fault(status=500)])
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    assert Counter(request.status for request in bucket.requests) == {503: 3, 429: 3, 500: 3, 200: 3}


def test_503_for_ever_is_bounded_and_ends_the_fetch(entries, tmp_path, bucket, source):
    bucket.always.update(dict.fromkeys(SIZES, Fault(status=503)))
    with pytest.raises(InputError, match="answered 503 Service Unavailable, 4 times in a row; run the same command"):
        get(entries, tmp_path, bucket, workers=1)
    assert len(bucket.questions) == 4 and bucket.requests == [], "nor was anything asked for after the first question"
    assert final_names(tmp_path) == set() and not list(tmp_path.rglob("*.part"))
    bucket.always.clear()
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


def test_waits_double_up_to_a_bound(entries, tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(server, "LONGEST_PAUSE", 0.004)
    bucket.always.update(dict.fromkeys(SIZES, Fault(status=503)))
    monkeypatch.setattr(server, "RETRIES", 4)
    lines = []
    with pytest.raises(InputError):
        get(entries, tmp_path, bucket, workers=1, hear=lines.append)
    waits = [line.split("again in ")[1] for line in lines if "again in" in line]
    assert waits == ["0.001 s", "0.002 s", "0.004 s", "0.004 s"]


def test_nobody_listens(entries, tmp_path, source):
    with Bucket(source) as gone:
        pass
    with pytest.raises(InputError, match=rf"the connection to {gone.url} failed \(ConnectionError\), 4 times"):
        get(entries, tmp_path, gone, workers=1)


def test_silent_server_is_given_up(entries, tmp_path, bucket, source, monkeypatch):
    monkeypatch.setattr(server, "SILENCE", 0.2)
    bucket.bytes_per_second = 10_000
    monkeypatch.setattr(server, "RETRIES", 0)
    with pytest.raises(InputError, match=r"connection to .* failed"):
        get(entries, tmp_path, bucket)
    bucket.bytes_per_second = None
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


def test_server_without_ranges(entries, tmp_path, bucket, source):
    bucket.ranges = False
    bucket.faults[LARGE].extend([Fault(cut_after=2_000_000), Fault(cut_after=1_000_000)])
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    assert [r.status for r in bucket.requests if r.path == LARGE] == [200, 200, 200]


def test_server_without_ranges_that_always_breaks_is_given_up(entries, tmp_path, bucket):
    bucket.ranges = False
    bucket.faults[LARGE].extend([Fault(cut_after=2_000_000), Fault(cut_after=1_000_000)] * 10)
    with pytest.raises(InputError, match="4 times in a row"):
        get(entries, tmp_path, bucket)
    assert len(starts(bucket, LARGE)) == 1 + 4


def test_server_that_sends_another_range(entries, tmp_path, bucket, source):
    bucket.faults[LARGE].extend([Fault(cut_after=1_000_000), Fault(shift=5)])
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    assert starts(bucket, LARGE)[2] == 0


def start(bucket: Bucket, table: Path, dest: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, bucket.url, str(table), str(dest)]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)


def wait_until(condition, seconds: float = 15.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_kill_9_during_a_download(entries, table, tmp_path, bucket, source):
    bucket.bytes_per_second = 1_500_000
    part = tmp_path / f"{LARGE}.part"
    process = start(bucket, table, tmp_path)
    wait_until(lambda: part.exists() and part.stat().st_size > 300_000)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL
    left = part.stat().st_size
    assert 0 < left < SIZES[LARGE] and LARGE not in final_names(tmp_path)
    for path in final_names(tmp_path):
        assert (tmp_path / path).read_bytes() == (source / path).read_bytes()
    bucket.bytes_per_second = None
    bucket.requests.clear()
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    assert starts(bucket, LARGE) == [left]


def test_interrupt_leaves_only_parts_and_ends_soon(entries, table, tmp_path, bucket, source):
    bucket.bytes_per_second = 80_000  # the large file takes half a minute
    process = start(bucket, table, tmp_path)
    part = tmp_path / f"{LARGE}.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 50_000)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=25)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    bucket.bytes_per_second = None
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


def test_two_fetches_at_once_download_each_file_once(entries, table, tmp_path, bucket, source):
    bucket.bytes_per_second = 3_000_000
    processes = [start(bucket, table, tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=20) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert_whole(tmp_path, source)
    assert Counter(request.path for request in bucket.requests) == dict.fromkeys(SIZES, 1)
    fetched = [re.search(r"(\d) of \d files, \S+ at \S+ fetched; all 3 are whole", output)[1] for output, _ in outputs]
    assert sum(map(int, fetched)) == len(SIZES)


def test_second_fetch_takes_over_when_the_first_is_killed(entries, table, tmp_path, bucket, source):
    bucket.bytes_per_second = 1_500_000
    first = start(bucket, table, tmp_path)
    part = tmp_path / f"{LARGE}.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 300_000)
    second = start(bucket, table, tmp_path)
    time.sleep(0.6)
    first.kill()
    first.communicate(timeout=10)
    second.communicate(timeout=20)
    assert second.returncode == 0
    assert_whole(tmp_path, source)
    offsets = starts(bucket, LARGE)
    assert offsets[0] == 0 and offsets[1] > 300_000 and len(offsets) == 2


def _bytes_in_parts(folder):
    """Bytes of all `.part` files; one may be renamed by another thread while they are counted."""
    total = 0
    for part in folder.rglob("*.part"):
        with suppress(FileNotFoundError):
            total += part.stat().st_size
    return total


def test_full_disk_in_the_middle(entries, tmp_path, bucket, source, monkeypatch):
    append = download._append

    def disk_of_a_megabyte(part, chunk):
        if _bytes_in_parts(tmp_path) + len(chunk) > 1_000_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(part, chunk)

    monkeypatch.setattr(download, "_append", disk_of_a_megabyte)
    with pytest.raises(InputError, match=r"the disk is full; make room, then run the same command again") as caught:
        get(entries, tmp_path, bucket)
    assert "\n" not in str(caught.value)
    assert LARGE not in final_names(tmp_path)
    left = (tmp_path / f"{LARGE}.part").stat().st_size
    assert left > 0
    monkeypatch.setattr(download, "_append", append)
    bucket.requests.clear()
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)
    assert starts(bucket, LARGE) == [left]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_kernel_says_the_disk_is_full(entries, tmp_path, bucket):
    part = tmp_path / f"{SMALL}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(InputError, match=f"{SMALL}: the disk is full"):
        get([entry for entry in entries if entry.path == SMALL], tmp_path, bucket)
    assert final_names(tmp_path) == set()


def test_too_small_a_disk_is_refused_before_anything_is_asked(entries, tmp_path, bucket, source, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    half = tmp_path / f"{LARGE}.part"
    half.parent.mkdir(parents=True)
    half.write_bytes((source / LARGE).read_bytes()[:2_000_000])
    needed = sum(SIZES.values()) - 2_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=needed - 1))
    with pytest.raises(InputError, match="GB free on its disk"):
        get(entries, tmp_path, bucket)
    assert bucket.requests == []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=needed))
    get(entries, tmp_path, bucket)
    assert_whole(tmp_path, source)


def test_folder_in_the_place_of_a_file(entries, tmp_path, bucket):
    (tmp_path / SMALL).mkdir(parents=True)
    with pytest.raises(InputError, match=rf"{SMALL}: cannot be written \(Is a directory\)"):
        get(entries, tmp_path, bucket)


def test_every_md5_is_checked_and_not_only_sizes(entries, tmp_path, bucket):
    """The oracle of this file can fail: a tree of right sizes and wrong content is refused by `check`."""
    for path, size in SIZES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes(size))
    for entry in entries:
        found = hashlib.md5(bytes(entry.bytes)).hexdigest()
        assert manifest.check(entry, tmp_path) == f"{entry.path}: MD5 {found}, the manifest says {entry.md5}"
