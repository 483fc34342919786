import argparse
import hashlib
import io
import json
import os
import random
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from braintuning.datasets import download as fetch
from braintuning.datasets import fetch_cli, manifest
from braintuning.datasets.manifest import Entry
from braintuning.errors import InputError
from bucket import Bucket, write_manifest

# PAPER.md: voxels of each participant in the authors' files.
VOXELS = dict(
    zip([f"UTS0{i}" for i in range(1, 9)], [81126, 94251, 95556, 109469, 99322, 92198, 94395, 97023], strict=True)
)


@pytest.fixture(scope="module")
def ds003020():
    return manifest.read_manifest(manifest.MANIFEST)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def entry(path: str, content: bytes) -> Entry:
    return Entry(path, len(content), hashlib.md5(content).hexdigest())


def table(folder: Path, *rows: str) -> Path:
    return write(folder / "files.tsv", "\n".join(rows).encode())


def test_shipped_manifest_is_the_shared_one_row_by_row(shared, ds003020):
    lines = (shared / "data/ds003020/manifest.tsv").read_text().splitlines()[1:]
    assert [f"{e.path}\t{e.bytes}\t{e.md5}" for e in ds003020] == lines
    volumes = manifest.MANIFEST.with_name("ds003020_respdict.json")
    assert json.loads(volumes.read_text()) == json.loads((shared / "data/ds003020/respdict.json").read_text())


def test_shipped_sizes_fit_the_volumes_and_voxels(ds003020):
    volumes = json.loads(manifest.MANIFEST.with_name("ds003020_respdict.json").read_text())
    checked = 0
    for e in ds003020:
        match = re.fullmatch(r"derivative/preprocessed_data/(UTS0[1-8])/(\w+)\.hf5", e.path)
        if match and match[2] != "wheretheressmoke":
            assert 0 < e.bytes - 8 * VOXELS[match[1]] * (volumes[match[2]] - 20) < 5000, e.path
            checked += 1
    assert checked == 3 * 83 + 25 + 4 * 26


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["path\tbytes", "a\t1"], "lacks md5"),
        (["path\tbytes\tmd5"], "lists no file"),
        (["path\tbytes\tmd5", "../a\t1\t" + "0" * 32], r"line 2: path is '\.\./a'"),
        (["path\tbytes\tmd5", "/etc/a\t1\t" + "0" * 32], "path is '/etc/a'"),
        (["path\tbytes\tmd5", "a\t-1\t" + "0" * 32], "bytes is '-1'"),
        (["path\tbytes\tmd5", "a\t1\tbeef"], "md5 is 'beef'"),
        (["path\tbytes\tmd5", "a\t1"], "md5 is ''"),
        (["path\tbytes\tmd5", *["a\t1\t" + "0" * 32] * 2], "lists a twice"),
    ],
)
def test_bad_manifest_is_named(tmp_path, rows, sentence):
    path = table(tmp_path, *rows)
    with pytest.raises(InputError, match=sentence) as caught:
        manifest.read_manifest(path)
    assert str(path) in str(caught.value)


def test_absent_manifest_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no\.tsv: cannot be read"):
        manifest.read_manifest(tmp_path / "no.tsv")


def test_columns_may_stand_in_any_order(tmp_path):
    path = table(tmp_path, "md5\tpath\tbytes", f"{'a' * 32}\tx/y[1].npz\t12")
    assert manifest.read_manifest(path) == [Entry("x/y[1].npz", 12, "a" * 32)]


def test_selection_is_exactly_what_a_study_reads(ds003020):
    chosen = {e.path for e in manifest.select(ds003020, ["UTS03"], ["souls", "life"])}
    pycortex, freesurfer = "derivative/pycortex-db/UTS03/", "derivative/freesurfer_subjdir/UTS03/"
    expected = {f"stimuli/{s}.wav" for s in ("souls", "life")}
    expected |= {f"derivative/TextGrids/{s}.TextGrid" for s in ("souls", "life")}
    expected |= {f"derivative/preprocessed_data/UTS03/{s}.hf5" for s in ("souls", "life")}
    expected |= {f"{pycortex}surfaces/{s}_{h}.gii" for s in ("flat", "inflated", "pia", "wm") for h in ("lh", "rh")}
    expected |= {f"{pycortex}surface-info/{s}.npz" for s in ("curvature", "sulcaldepth", "thickness")}
    files = ("mask_cortical.nii.gz", "mask_thick.nii.gz", "matrices.xfm", "reference.nii.gz")
    expected |= {f"{pycortex}transforms/UTS03_auto/{s}" for s in files} | {f"{pycortex}overlays.svg"}
    expected |= {f"{freesurfer}{f}" for h in ("lh", "rh") for f in (f"surf/{h}.sphere.reg", f"label/{h}.cortex.label")}
    expected |= {f"{freesurfer}label/{h}.aparc.a2009s.annot" for h in ("lh", "rh")}
    assert chosen == expected


def test_selection_without_surfaces(ds003020):
    chosen = manifest.select(ds003020, ["UTS09"], ["souls"], surfaces=False)
    assert [e.path for e in chosen] == [
        "derivative/TextGrids/souls.TextGrid",
        "derivative/preprocessed_data/UTS09/souls.hf5",
        "stimuli/souls.wav",
    ]


def test_every_participant_of_the_paper_has_surfaces(ds003020):
    chosen = manifest.select(ds003020, list(VOXELS), [])
    masks = [e.path for e in chosen if e.path.endswith("mask_thick.nii.gz")]
    assert masks == [f"derivative/pycortex-db/{p}/transforms/{p}_auto/mask_thick.nii.gz" for p in VOXELS]
    assert not [e.path for e in chosen if "/cache/" in e.path or "/anatomicals/" in e.path or "rois" in e.path]


@pytest.mark.parametrize(
    ("participants", "stories", "sentence"),
    [
        (["UTS04"], ["life"], "UTS04 has no story life"),
        (["uts3"], ["souls"], "unknown participant 'uts3'; the nearest known one is UTS03"),
        (["UTS03"], ["soul"], "unknown story 'soul'; the nearest known one is souls"),
        (["UTS03"], ["auditory_localizer"], "unknown story 'auditory_localizer'"),
        (["UTS09"], ["souls"], "UTS09 lacks surfaces.*sphere.reg"),
    ],
)
def test_what_the_dataset_lacks_is_named(ds003020, participants, stories, sentence):
    with pytest.raises(InputError, match=sentence):
        manifest.select(ds003020, participants, stories)


def test_stories_by_number_leave_out_what_a_participant_lacks():
    study = {"UTS03": ["souls", "life", "buck"], "UTS04": ["souls", "buck"]}
    assert fetch_cli.choose_stories(study, ["2"]) == {"UTS03": ["souls", "life"], "UTS04": ["souls"]}
    assert fetch_cli.choose_stories(study) == study
    assert fetch_cli.choose_stories(study, ["life"])["UTS04"] == ["life"]
    with pytest.raises(InputError, match="--stories 4: expected 1 to 3"):
        fetch_cli.choose_stories(study, ["4"])
    with pytest.raises(InputError, match="'bucks'; the nearest known one is buck"):
        fetch_cli.choose_stories(study, ["bucks"])


def test_plan_sorts_files_by_what_is_left_to_do(tmp_path):
    names = ("checked", "unchecked", "changed", "short", "broken", "absent")
    contents = {name: name.encode() * 100 for name in names}
    entries = {name: entry(f"a/{name}", content) for name, content in contents.items()}
    for name in ("checked", "unchecked", "changed"):
        write(tmp_path / "a" / name, contents[name])
    for name in ("checked", "changed"):
        manifest.remember(entries[name], tmp_path)
    os.utime(tmp_path / "a/changed", ns=(1, 1))
    write(tmp_path / "a/short", b"s")
    write(tmp_path / "a/broken.part", contents["broken"][:250])
    todo = manifest.plan(entries.values(), tmp_path)
    assert todo.complete == [entries["checked"]]
    assert todo.unchecked == [entries["unchecked"], entries["changed"]]
    assert todo.to_fetch == [entries["short"], entries["broken"], entries["absent"]]
    assert todo.n_bytes == 500 + (600 - 250) + 600


def test_torn_record_only_costs_another_check(tmp_path):
    e = entry("x", b"content")
    write(tmp_path / "x", b"content")
    write(tmp_path / manifest.RECORD, b'{"path": "x", "by\n[]\n\xff\n')
    assert manifest.plan([e], tmp_path).unchecked == [e]
    manifest.remember(e, tmp_path)
    assert manifest.plan([e], tmp_path).complete == [e]


def test_verify_names_every_wrong_file(tmp_path):
    content = b"0123456789" * 20
    names = ("right", "linked", "annexed", "missing", "broken", "short", "flipped", "dangling", "pointer", "loose")
    entries = [entry(f"d/{name}", content) for name in names]
    folder = tmp_path / "d"
    write(folder / "right", content)
    write(tmp_path / "elsewhere", content)
    (folder / "linked").symlink_to("../elsewhere")
    key = ".git/annex/objects/aa/bb/MD5E-s200--0/MD5E-s200--0"
    write(tmp_path / key, content)
    (folder / "annexed").symlink_to(f"../{key}")
    write(folder / "broken.part", content[:7])
    write(folder / "short", content[:-1])
    write(folder / "flipped", b"1" + content[1:])
    (folder / "dangling").symlink_to("../.git/annex/objects/cc/dd/MD5E-s200--1/MD5E-s200--1")
    write(folder / "pointer", b"/annex/objects/MD5E-s200--1\n")
    (folder / "loose").symlink_to("../nowhere")
    seen = []
    problems = manifest.verify(entries, tmp_path, lambda e, problem: seen.append(e.path))
    assert [(p.path.removeprefix("d/"), p.kind) for p in problems] == [
        ("missing", "missing"),
        ("broken", "missing"),
        ("short", "size"),
        ("flipped", "md5"),
        ("dangling", "link"),
        ("pointer", "link"),
        ("loose", "link"),
    ]
    assert seen == [e.path for e in entries]
    text = {p.path: p.text for p in problems}
    assert all(path in sentence for path, sentence in text.items())
    assert "datalad get d/dangling" in text["d/dangling"] and "git-annex" in text["d/dangling"]
    assert "datalad get d/pointer" in text["d/pointer"]
    assert "199 bytes" in text["d/short"] and "first 7 of its 200 bytes" in text["d/broken"]
    assert "datalad" not in text["d/loose"] and "../nowhere" in text["d/loose"]
    assert {e.path for e in manifest.plan(entries, tmp_path).complete} == {"d/right", "d/linked", "d/annexed"}


def small_dataset(root: Path) -> None:
    numbers = random.Random(0)
    for name in ["souls", "life"]:
        write(root / f"stimuli/{name}.wav", numbers.randbytes(3000))
        write(root / f"derivative/TextGrids/{name}.TextGrid", numbers.randbytes(200))
    for participant, story in [("UTS03", "souls"), ("UTS03", "life"), ("UTS04", "souls")]:
        write(root / f"derivative/preprocessed_data/{participant}/{story}.hf5", numbers.randbytes(5000))


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    fetch_cli.add_arguments(parser.add_subparsers())
    return parser.parse_args(words)


@pytest.fixture
def served(tmp_path):
    small_dataset(tmp_path / "source")
    path = write_manifest(tmp_path / "source", tmp_path / "small.tsv")
    (tmp_path / "small_respdict.json").write_text('{"souls": 375, "life": 450}')
    with Bucket(tmp_path / "source") as bucket:
        yield bucket, path, tmp_path / "data"


def test_command_for_a_missing_file_gets_it(served):
    bucket, path, dest = served
    study = {"UTS03": ["souls", "life"], "UTS04": ["souls"]}
    command = fetch_cli.command_for(["UTS03"], ["life"], dest=dest, base_url=bucket.url, manifest_file=path)
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "braintuning", "fetch"]
    assert fetch_cli.main(parse(*words[3:], "--no-surfaces"), study) == 0
    assert {f.relative_to(dest).as_posix() for f in dest.rglob("*") if f.is_file()} == {
        "derivative/TextGrids/life.TextGrid",
        "derivative/preprocessed_data/UTS03/life.hf5",
        "derivative/respdict.json",
        "stimuli/life.wav",
        manifest.RECORD,
    }
    assert json.loads((dest / "derivative/respdict.json").read_text())["life"] == 450


def test_verify_command_tells_by_its_status(served, capsys):
    bucket, path, dest = served
    study = {"UTS03": ["souls", "life"], "UTS04": ["souls"]}
    where = ["--manifest", str(path), "--dest", str(dest), "--no-surfaces"]
    assert fetch_cli.main(parse("verify", *where), study) == 1
    assert "stimuli/souls.wav: missing" in capsys.readouterr().err
    assert fetch_cli.main(parse("fetch", *where, "--base-url", bucket.url), study) == 0
    assert fetch_cli.main(parse("verify", *where), study) == 0
    assert "7 of 7 files" in capsys.readouterr().err


def test_dry_run_lists_bytes_and_writes_nothing(served):
    bucket, path, dest = served
    shown = io.StringIO()
    options = {"dest": dest, "base_url": bucket.url, "manifest_file": path, "surfaces": False}
    todo = fetch_cli.fetch_for(["UTS03"], {"UTS03": ["souls"]}, dry_run=True, stream=shown, **options)
    assert todo.n_bytes == 3000 + 200 + 5000
    lines = shown.getvalue().splitlines()
    assert len(lines) == 4 and lines[2].split() == ["3,000", "stimuli/souls.wav"] and "8.20kB in 3 files" in lines[3]
    assert not dest.exists() and bucket.requests == []


def test_a_line_a_file_where_there_is_no_terminal(served):
    bucket, path, dest = served
    shown = io.StringIO()
    options = {"dest": dest, "base_url": bucket.url, "manifest_file": path, "surfaces": False, "stream": shown}
    fetch_cli.fetch_for(["UTS03"], {"UTS03": ["souls"]}, **options)
    lines = shown.getvalue().splitlines()
    assert len(lines) == 4 and "\r" not in shown.getvalue()
    assert {line.split()[0] for line in lines[:3]} == {r.path for r in bucket.requests}
    assert re.fullmatch(r"3 of 3 files, 8\.20kB at \S+B/s fetched; all 3 are whole in .*", lines[3])


def test_a_bar_in_a_terminal(served):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    bucket, path, dest = served
    shown = Terminal()
    options = {"dest": dest, "base_url": bucket.url, "manifest_file": path, "surfaces": False, "stream": shown}
    fetch_cli.fetch_for(["UTS03"], {"UTS03": ["souls"]}, **options)
    assert "100%" in shown.getvalue() and "8.20k/8.20k" in shown.getvalue()


def test_events_add_up_to_the_bytes_on_disk(served):
    bucket, path, dest = served
    entries = manifest.read_manifest(path)
    events = []
    fetch.fetch(entries, dest, bucket.url, report=events.append)
    received = Counter()
    for event in events:
        received[event.entry] += event.n_bytes
    assert received == {e: e.bytes for e in entries}
    assert Counter(event.kind for event in events)["done"] == len(entries)


def test_second_fetch_asks_for_nothing_and_reads_nothing(served, monkeypatch):
    bucket, path, dest = served
    entries = manifest.read_manifest(path)
    fetch.fetch(entries, dest, bucket.url)
    bucket.requests.clear()
    monkeypatch.setattr(manifest, "md5", None)
    events = []
    fetch.fetch(entries, dest, bucket.url, report=events.append)
    assert {event.kind for event in events} == {"kept"} and bucket.requests == []


def test_names_with_brackets_and_empty_files(tmp_path):
    for name in ("flatmask[height=1024] #1%.npz", "empty"):
        write(tmp_path / "source" / name, b"" if name == "empty" else b"mask")
    entries = manifest.read_manifest(write_manifest(tmp_path / "source", tmp_path / "m.tsv"))
    with Bucket(tmp_path / "source") as bucket:
        fetch.fetch(entries, tmp_path / "data", bucket.url.rstrip("/"))
    assert manifest.verify(entries, tmp_path / "data") == []
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
        fetch.fetch(entries, dest, bucket.url)
        assert [r.path for r in bucket.requests] == ["away"]
    assert (dest / "here").is_symlink() and not (dest / ".git/annex/objects/gone").exists()
    assert manifest.verify(entries, dest) == []


@pytest.mark.parametrize("base_url", ["", "s3://openneuro.org/ds003020", "openneuro.org"])
def test_base_url_must_be_one(tmp_path, base_url):
    with pytest.raises(InputError, match="does not start with http"):
        fetch.fetch([entry("a", b"a")], tmp_path, base_url)


def test_workers_must_be_some(tmp_path):
    with pytest.raises(InputError, match="0 workers"):
        fetch.fetch([entry("a", b"a")], tmp_path, workers=0)
