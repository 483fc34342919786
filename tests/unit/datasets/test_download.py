import hashlib
import io
import json
import random
import re
import shlex
import sys
from pathlib import Path

import pytest
from braintuning.cli import main
from braintuning.datasets import manifest
from braintuning.datasets.download import download, fetch, verify
from braintuning.datasets.manifest import Entry, command_for
from braintuning.errors import InputError
from braintuning.study import load_study
from bucket import Bucket, Fault, write_manifest
from tiny import listening


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def entry(path: str, content: bytes) -> Entry:
    return Entry(path, len(content), hashlib.md5(content).hexdigest())


@pytest.fixture
def served(tmp_path):
    """A bucket with two stories of UTS03, the options that fetch them, and the paper's study."""
    numbers, source = random.Random(0), tmp_path / "source"
    for story in ("souls", "life"):
        write(source / f"stimuli/{story}.wav", numbers.randbytes(3000))
        write(source / f"derivative/TextGrids/{story}.TextGrid", numbers.randbytes(200))
        write(source / f"derivative/preprocessed_data/UTS03/{story}.hf5", numbers.randbytes(5000))
    path = write_manifest(source, tmp_path / "small.tsv")
    (tmp_path / "small_respdict.json").write_text('{"souls": 375, "life": 450}')
    where = {"dest": tmp_path / "data", "manifest_file": path, "surfaces": False}
    with Bucket(source) as bucket:
        yield bucket, where, load_study("paper", root=str(tmp_path / "data"))


def test_command_for_missing_files_gets_them(served):
    bucket, where, _ = served
    command = command_for("paper", ["UTS03"], dest=where["dest"], base_url=bucket.url)
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "braintuning", "fetch"]
    assert main([*words[3:], "--no-surfaces", "--stories", "life", "--manifest", str(where["manifest_file"])]) == 0
    assert {f.relative_to(where["dest"]).as_posix() for f in where["dest"].rglob("*") if f.is_file()} == {
        "derivative/TextGrids/life.TextGrid",
        "derivative/preprocessed_data/UTS03/life.hf5",
        "derivative/respdict.json",
        "stimuli/life.wav",
        manifest.RECORD,
    }
    assert json.loads((where["dest"] / "derivative/respdict.json").read_text())["life"] == 450


@pytest.mark.parametrize("left", ["pointer", "empty", "link to nothing", "own table"])
def test_a_table_of_volumes_that_is_not_here_is_replaced_and_an_own_one_kept(served, left):
    bucket, where, study = served
    table = where["dest"] / "derivative" / "respdict.json"
    table.parent.mkdir(parents=True)
    if left == "link to nothing":
        table.symlink_to("../.git/annex/objects/aa/bb/MD5E-s9--0.json/MD5E-s9--0.json")
    else:
        pointer = "/annex/objects/MD5E-s9--0.json\n"
        table.write_text({"pointer": pointer, "empty": "", "own table": '{"life": 7}'}[left])
    fetch(study, ["UTS03"], ["life"], base_url=bucket.url, **where)
    assert json.loads(table.read_text())["life"] == (7 if left == "own table" else 450)


def test_verify_command_tells_by_its_status(served, capsys):
    bucket, where, _ = served
    words = ["--participants", "UTS03", "--stories", "souls", "life", "--no-surfaces"]
    words += ["--manifest", str(where["manifest_file"]), "--dest", str(where["dest"])]
    assert main(["verify", *words]) == 1
    assert "stimuli/souls.wav: missing\n" in capsys.readouterr().out
    assert main(["fetch", *words, "--base-url", bucket.url]) == 0
    assert main(["verify", *words]) == 0
    assert "6 of 6 files" in capsys.readouterr().out


def test_wrong_files_are_counted_and_named_in_order(served):
    bucket, where, study = served
    lines = []
    with listening(lines.append):
        assert verify(study, ["UTS03"], ["souls", "life"], **where) == 6
        fetch(study, ["UTS03"], ["souls"], base_url=bucket.url, **where)
        del lines[:-1]
        assert verify(study, ["UTS03"], ["souls", "life"], **where) == 3
    assert [line.split(":")[0] for line in lines[1:4]] == [
        "derivative/TextGrids/life.TextGrid",
        "derivative/preprocessed_data/UTS03/life.hf5",
        "stimuli/life.wav",
    ]
    assert lines[4:] == [f"3 of 6 files in {where['dest']} are right"]


def test_dry_run_lists_bytes_and_writes_nothing(served, capsys):
    bucket, where, study = served
    fetch(study, ["UTS03"], ["souls"], base_url=bucket.url, dry_run=True, **where)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[2].split() == ["3,000", "stimuli/souls.wav"] and "8.20kB in 3 files" in lines[3]
    assert not where["dest"].exists() and bucket.requests == []


def test_a_line_a_file_where_there_is_no_terminal(served, capsys):
    bucket, where, study = served
    fetch(study, ["UTS03"], ["souls"], base_url=bucket.url, **where)
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == "" and len(lines) == 4 and "\r" not in captured.out
    assert {line.split()[0] for line in lines[:3]} == {r.path for r in bucket.requests}
    assert re.fullmatch(r"3 of 3 files, 8\.20kB at \S+B/s fetched; all 3 are whole in .*", lines[3])


def test_a_bar_in_a_terminal(served, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    bucket, where, study = served
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    fetch(study, ["UTS03"], ["souls"], base_url=bucket.url, **where)
    assert "100%" in shown.getvalue() and "8.20k/8.20k" in shown.getvalue()


def test_bytes_are_counted_once_though_a_download_starts_again(served, capsys):
    bucket, where, _ = served
    entries = manifest.read_manifest(where["manifest_file"])
    for e in entries:
        bucket.faults[e.path].append(Fault(flip_at=100))
    download(entries, where["dest"], bucket.url)
    assert "6 of 6 files, 16.4kB at" in capsys.readouterr().out


def test_second_fetch_asks_for_nothing_and_reads_nothing(served, monkeypatch, capsys):
    bucket, where, _ = served
    entries = manifest.read_manifest(where["manifest_file"])
    download(entries, where["dest"], bucket.url)
    bucket.requests.clear()
    capsys.readouterr()
    monkeypatch.setattr(manifest, "file_hash", None)
    download(entries, where["dest"], bucket.url)
    assert re.fullmatch(r"0 of 0 files, .* fetched; all 6 are whole in .*\n", capsys.readouterr().out)
    assert bucket.requests == []


OLD, NEW = "derivative", "derivatives"


@pytest.mark.parametrize("listed", [OLD, NEW])
@pytest.mark.parametrize("here", [None, OLD, NEW])
@pytest.mark.parametrize("served_as", [OLD, NEW])
def test_files_come_from_a_server_of_either_layout_into_a_folder_of_either(served, served_as, here, listed):
    bucket, where, study = served
    bucket.folder, dest, table = served_as, where["dest"], where["manifest_file"]
    table.write_text(table.read_text().replace(f"{OLD}/", f"{listed}/"))
    if here:
        source = bucket.root / OLD / "TextGrids" / "souls.TextGrid"
        write(dest / here / "TextGrids" / source.name, source.read_bytes())
    fetch(study, ["UTS03"], ["souls", "life"], base_url=bucket.url, **where)
    found = {path.relative_to(dest).as_posix() for path in dest.rglob("*") if path.is_file()}
    folder = here or served_as
    files = {
        f"{kind}/{story}" for story in ("souls", "life") for kind in (f"{folder}/preprocessed_data/UTS03", "stimuli")
    }
    expected = {f"{file}.{'wav' if file.startswith('stimuli') else 'hf5'}" for file in files}
    expected |= {f"{folder}/TextGrids/{story}.TextGrid" for story in ("souls", "life")}
    assert found == {*expected, f"{folder}/respdict.json", manifest.RECORD}
    for path in expected:
        assert (dest / path).read_bytes() == (bucket.root / path.replace(f"{folder}/", f"{OLD}/")).read_bytes()
    assert {request.status for request in bucket.requests} == {200} and len(bucket.questions) <= 2
    assert len(bucket.requests) == 6 - bool(here)
    assert verify(study, ["UTS03"], ["souls", "life"], **where) == 0
    bucket.requests.clear(), bucket.questions.clear()
    fetch(study, ["UTS03"], ["souls", "life"], base_url=bucket.url, **where)
    assert bucket.requests == bucket.questions == []


@pytest.mark.parametrize("status", [403, 404])
def test_the_next_file_tells_the_layout_where_the_server_lacks_the_smallest(served, status):
    bucket, where, study = served
    bucket.folder = NEW
    for name in (OLD, NEW):
        bucket.always[f"{name}/TextGrids/life.TextGrid"] = Fault(status=status)
    with pytest.raises(InputError, match=f"^{NEW}/TextGrids/life.TextGrid: .*/{NEW}/TextGrids/.* answered {status}"):
        fetch(study, ["UTS03"], ["souls", "life"], base_url=bucket.url, **where)
    assert len(bucket.questions) == 4 and sum(request.status == 200 for request in bucket.requests) == 5
    assert not (where["dest"] / OLD).exists()


@pytest.mark.parametrize("served_as", [OLD, NEW])
def test_a_page_in_place_of_any_path_is_not_the_file(served, served_as):
    bucket, where, study = served
    bucket.folder, bucket.page = served_as, b"<!doctype html><title>start</title>"
    fetch(study, ["UTS03"], ["souls", "life"], base_url=bucket.url, **where)
    assert sorted(path.name for path in where["dest"].iterdir() if path.is_dir()) == sorted([served_as, "stimuli"])
    assert {request.status for request in bucket.requests} == {200} and len(bucket.requests) == 6


def test_a_server_with_neither_folder_is_one_sentence(served):
    bucket, where, study = served
    bucket.folder = "somewhere"
    with pytest.raises(InputError, match=r"^4 files of 6 could not be fetched; the first: derivative.* answered 404"):
        fetch(study, ["UTS03"], ["souls", "life"], base_url=bucket.url, **where)


def test_a_file_that_was_damaged_here_is_fetched_again_from_either_layout(served):
    bucket, where, study = served
    bucket.folder = NEW
    fetch(study, ["UTS03"], ["souls"], base_url=bucket.url, **where)
    damaged = where["dest"] / NEW / "preprocessed_data" / "UTS03" / "souls.hf5"
    damaged.write_bytes(bytes(5000))
    lines = []
    with listening(lines.append):
        assert verify(study, ["UTS03"], ["souls"], **where) == 1
    assert lines[0].startswith(f"{NEW}/preprocessed_data/UTS03/souls.hf5: MD5 ")
    fetch(study, ["UTS03"], ["souls"], base_url=bucket.url, **where)
    assert verify(study, ["UTS03"], ["souls"], **where) == 0


def test_folders_of_both_names_that_each_have_files_stop_a_fetch(served):
    bucket, where, study = served
    for name, story in ((OLD, "souls"), (NEW, "life")):
        write(where["dest"] / name / "TextGrids" / f"{story}.TextGrid", b"x")
    for call in (fetch, verify):
        options = {"base_url": bucket.url} if call is fetch else {}
        with pytest.raises(
            InputError, match=r"found 1 files in derivatives/ alone .* expected all of them in one folder"
        ):
            call(study, ["UTS03"], ["souls"], **options, **where)
    assert bucket.requests == bucket.questions == []


def test_names_with_brackets_and_empty_files(tmp_path):
    for name in ("flatmask[height=1024] #1%.npz", "empty"):
        write(tmp_path / "source" / name, b"" if name == "empty" else b"mask")
    entries = manifest.read_manifest(write_manifest(tmp_path / "source", tmp_path / "m.tsv"))
    with Bucket(tmp_path / "source") as bucket:
        download(entries, tmp_path / "data", bucket.url.rstrip("/"))
    assert not any(manifest.check(entry, tmp_path / "data") for entry in entries)
    assert not list((tmp_path / "data").glob("*.part"))


def test_present_annex_content_is_left_alone_and_a_dangling_link_is_replaced(tmp_path):
    for name in ("here", "away"):
        write(tmp_path / "source" / name, name.encode() * 50)
    entries = manifest.read_manifest(write_manifest(tmp_path / "source", tmp_path / "m.tsv"))
    dest = tmp_path / "data"
    write(dest / ".git/annex/objects/key", b"here" * 50)
    (dest / "here").symlink_to(".git/annex/objects/key")
    (dest / "away").symlink_to(".git/annex/objects/gone")
    with Bucket(tmp_path / "source") as bucket:
        download(entries, dest, bucket.url)
        assert [r.path for r in bucket.requests] == ["away"]
    assert (dest / "here").is_symlink() and not (dest / ".git/annex/objects/gone").exists()
    assert not any(manifest.check(entry, dest) for entry in entries)


@pytest.mark.parametrize("base_url", ["", "s3://openneuro.org/ds003020", "openneuro.org"])
def test_base_url_must_be_one(tmp_path, base_url):
    with pytest.raises(InputError, match="does not start with http"):
        download([entry("a", b"a")], tmp_path, base_url)


def test_workers_must_be_some(tmp_path):
    with pytest.raises(InputError, match="0 workers"):
        download([entry("a", b"a")], tmp_path, workers=0)
