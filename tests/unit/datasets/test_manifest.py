import hashlib
import json
import os
import re
import shlex
from pathlib import Path

import pytest
import tiny
from braintuning.cli import main
from braintuning.datasets import manifest
from braintuning.datasets.manifest import Entry, inventory, needed_files, require_data, story_files
from braintuning.errors import InputError
from braintuning.study import load_study
from tiny import refused

# PAPER.md: voxels of each participant in the authors' files.
VOXELS = dict(
    zip([f"UTS0{i}" for i in range(1, 9)], [81126, 94251, 95556, 109469, 99322, 92198, 94395, 97023], strict=True)
)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def entry(path: str, content: bytes) -> Entry:
    return Entry(path, len(content), hashlib.md5(content).hexdigest())


@pytest.fixture(scope="module")
def paper():
    return load_study("paper")


@pytest.fixture
def elsewhere(tmp_path):
    return load_study("paper", root=str(tmp_path))


@pytest.fixture(scope="module")
def ds003020():
    return manifest.read_manifest(manifest.MANIFEST)


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


def test_a_byte_order_mark_and_upper_case_sums_are_read(tmp_path):
    path = table(tmp_path, "\ufeffpath\tbytes\tmd5", f"a\t12\t{'AB' * 16}")
    assert manifest.read_manifest(path) == [Entry("a", 12, "ab" * 16)]


def test_selection_is_exactly_what_a_study_reads(paper):
    chosen = {e.path for e in needed_files(paper, ["UTS03"], ["souls", "life"])}
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


def test_selection_without_surfaces(paper):
    study = paper.model_copy(update={"participants": ("UTS09",)})
    assert [e.path for e in needed_files(study, ["UTS09"], ["souls"], surfaces=False)] == [
        "derivative/TextGrids/souls.TextGrid",
        "derivative/preprocessed_data/UTS09/souls.hf5",
        "stimuli/souls.wav",
    ]


def test_every_participant_of_the_paper_has_surfaces(paper):
    chosen = [e.path for e in needed_files(paper)]
    masks = [path for path in chosen if path.endswith("mask_thick.nii.gz")]
    assert masks == [f"derivative/pycortex-db/{p}/transforms/{p}_auto/mask_thick.nii.gz" for p in VOXELS]
    assert not [path for path in chosen if "/cache/" in path or "/anatomicals/" in path or "rois" in path]


@pytest.mark.parametrize(
    ("participants", "stories", "sentence"),
    [
        (["UTS04"], ["life"], "UTS04 has no derivative/preprocessed_data/UTS04/life.hf5: the manifest does not"),
        (["uts03"], ["souls"], "unknown participant 'uts03'; did you mean 'UTS03'"),
        (["UTS03"], ["soul"], "unknown story 'soul'; did you mean 'souls'"),
        (["UTS03"], ["auditory_localizer"], "unknown story 'auditory_localizer'"),
        (["UTS09"], ["souls"], "UTS09 has no derivative/.*sphere.reg"),
    ],
)
def test_what_the_dataset_lacks_is_named(paper, participants, stories, sentence):
    study = paper.model_copy(update={"participants": (*paper.participants, "UTS09")})
    with pytest.raises(InputError, match=sentence):
        needed_files(study, participants, stories)


def test_a_study_of_stories_that_ds003020_lacks_is_told_so(paper):
    study = paper.model_copy(update={"stories": paper.stories.model_copy(update={"test": ("auditory_localizer",)})})
    with pytest.raises(InputError, match=r"UTS01 has no .*/auditory_localizer\.TextGrid: the manifest does not"):
        needed_files(study)


def test_stories_by_number_leave_out_what_a_participant_lacks(paper):
    def stories(participant, *wanted):
        files = needed_files(paper, [participant], wanted, surfaces=False)
        return {Path(e.path).stem for e in files if e.path.startswith("stimuli/")}

    assert stories("UTS03", "2") == {"souls", "howtodraw"}
    before_life = paper.stories.all.index("life")
    assert stories("UTS03", str(before_life + 1)) == {*paper.stories.all[:before_life], "life"}
    assert stories("UTS04", str(before_life + 1)) == {*paper.stories.all[:before_life]}
    assert stories("UTS04") == set(paper.stories.all) - {"life"}
    for number in ("0", "28"):
        with pytest.raises(InputError, match=f"--stories {number}: expected 1 to 27"):
            stories("UTS03", number)
    with pytest.raises(InputError, match="'bucks'; did you mean 'buck'"):
        stories("UTS03", "bucks")


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
    complete, unchecked, left = manifest.plan(entries.values(), tmp_path)
    assert complete == [entries["checked"]]
    assert unchecked == [entries["unchecked"], entries["changed"]]
    assert left == {entries["short"]: 500, entries["broken"]: 600 - 250, entries["absent"]: 600}


def test_torn_record_only_costs_another_check(tmp_path):
    e = entry("x", b"content")
    write(tmp_path / "x", b"content")
    write(tmp_path / manifest.RECORD, b'{"path": "x", "by\n[]\n\xff\n')
    assert manifest.plan([e], tmp_path) == ([], [e], {})
    manifest.remember(e, tmp_path)
    assert manifest.plan([e], tmp_path) == ([e], [], {})


def test_what_is_wrong_with_a_file_is_named(tmp_path):
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
    problems = {e.path.removeprefix("d/"): manifest.check(e, tmp_path) for e in entries}
    for name, found in (
        ("dangling", "a link to ../.git/annex/objects/cc/dd/MD5E-s200--1/MD5E-s200--1, whose content is not here"),
        ("pointer", "a git-annex pointer, whose content is not here"),
    ):
        assert problems.pop(name).startswith(f"{folder / name}: {found}; expected the file: `datalad get ")
    found = "a link to ../nowhere, whose content is not here; expected the file that it links to"
    assert problems.pop("loose") == f"{folder / 'loose'}: {found}"
    expected = {
        "missing": "missing",
        "broken": "missing, only the first 7 of its 200 bytes in a .part file",
        "short": "199 bytes, the manifest says 200",
        "flipped": f"MD5 {hashlib.md5(b'1' + content[1:]).hexdigest()}, the manifest says {entries[0].md5}",
    }
    assert problems == {name: f"d/{name}: {expected[name]}" if name in expected else None for name in problems}
    assert {e.path for e in manifest.plan(entries, tmp_path)[0]} == {"d/right", "d/linked", "d/annexed"}


def test_the_paper_study_says_what_the_paper_says(paper, shared):
    facts = (shared / "PAPER.md").read_text()
    counts = re.search(r"authors' files: (UTS01.*?)\.", facts, re.S)[1].replace("\n", " ").split(",")
    for number, count in enumerate(counts, 1):
        total, above = map(int, re.search(r"(\d+)/(\d+)", count).groups())
        assert paper.dataset.voxels[f"UTS{number:02d}"] == total
        assert paper.figures.published_counts[f"UTS{number:02d}"] == above
    named = re.search(r"names these 24 for training:(.*?)\(`life` is", facts, re.S)[1]
    assert paper.stories.train == tuple(re.findall(r"[a-z]+", named))
    assert (paper.stories.validation, paper.stories.test) == (("stagefright", "life"), ("wheretheressmoke",))
    assert len(paper.stories.train) == 24
    assert list(paper.backbones)[:3] == ["wav2vec2-base", "hubert-base-ls960", "whisper-small"]
    assert paper.stories_for("UTS04").all == tuple(s for s in paper.stories_for("UTS03").all if s != "life")


def test_files_that_a_study_reads_are_those_that_a_fetch_brings(paper):
    for participant in paper.participants:
        fetched = {entry.path for entry in needed_files(paper, [participant], surfaces=False)}
        assert fetched == {*story_files(participant, paper.stories_for(participant).all)} - {"derivative/respdict.json"}


def test_sizes_come_out_to_the_byte(paper):
    volumes = json.loads(manifest.MANIFEST.with_name(f"{manifest.MANIFEST.stem}_respdict.json").read_text())
    entries = [entry for entry in needed_files(paper, surfaces=False) if entry.path.endswith(".hf5")]
    assert len(entries) == 8 * 27 - 1
    for entry in entries:
        participant, story = Path(entry.path).parts[-2:]
        n_numbers = (volumes[story.removesuffix(".hf5")] - 20) * paper.dataset.voxels[participant]
        presentations, rest = divmod(entry.bytes, 8 * n_numbers)
        repeats = 10 if participant in ("UTS01", "UTS02", "UTS03") else 5
        expected = (1 + repeats, 2168) if story == "wheretheressmoke.hf5" else (1, 2048)
        assert (presentations, rest) == expected


def test_inventory_counts_what_is_here(elsewhere, tmp_path):
    before = inventory(elsewhere, ["UTS04"])
    assert before["here"].sum() == 0
    assert before["gigabytes"].sum() == pytest.approx(before["missing_gigabytes"].sum())
    assert before.set_index("folder")["files"]["preprocessed_data"] == 26
    assert set(before["participant"]) == {"all", "UTS04"}
    entry = next(e for e in needed_files(elsewhere, ["UTS04"], ["souls"]) if e.path.startswith("stimuli"))
    (tmp_path / "stimuli").mkdir()
    with open(tmp_path / entry.path, "wb") as file:
        file.truncate(entry.bytes)
    after = inventory(elsewhere, ["UTS04"]).set_index("folder")
    assert after["here"]["stimuli"] == 1 and after["here"].sum() == 1


def test_missing_files_stop_with_a_command_that_brings_them(elsewhere, tmp_path):
    with pytest.raises(InputError) as stopped:
        require_data(elsewhere, "paper")
    sentence = str(stopped.value)
    assert f"{tmp_path}: 278 of 278 files of study paper are missing" in sentence
    words = shlex.split(sentence.split("to get them: ")[1])
    assert words[:7] == ["python", "-m", "braintuning", "fetch", "--study", "paper", "--participants"]
    assert tuple(words[7:-2]) == elsewhere.participants and words[-2:] == ["--dest", str(tmp_path)]


def test_only_participants_with_missing_files_are_named(elsewhere, tmp_path):
    for participant in set(elsewhere.participants) - {"UTS05"}:
        paths = story_files(participant, elsewhere.stories_for(participant).all)
        for path in (*paths, f"derivative/pycortex-db/{participant}"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    refused(lambda: require_data(elsewhere, "paper"), "28 of 278 files", "--participants UTS05")


def test_the_workflow_stops_before_it_starts(tmp_path, capsys):
    assert main(["figures", "--study", "paper", "--root", str(tmp_path)]) == 1
    assert "python -m braintuning fetch --study paper" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["derivatives", "derivative"])
def test_what_is_here_is_told_by_either_name_of_the_folder(elsewhere, tmp_path, folder):
    for participant in elsewhere.participants:
        for path in story_files(participant, elsewhere.stories_for(participant).all):
            path = tmp_path / path.replace("derivative/", f"{folder}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    first = f"first is {folder}/pycortex-db/UTS01; to get them"
    refused(lambda: require_data(elsewhere, "paper"), "8 of 278 files", first)
    (tmp_path / folder / "pycortex-db").mkdir()
    for participant in elsewhere.participants:
        (tmp_path / folder / "pycortex-db" / participant).mkdir()
    require_data(elsewhere, "paper")
    entry = next(e for e in needed_files(elsewhere, ["UTS04"], ["souls"]) if "TextGrids" in e.path)
    with open(tmp_path / folder / "TextGrids" / "souls.TextGrid", "wb") as file:
        file.truncate(entry.bytes)
    assert inventory(elsewhere, ["UTS04"]).set_index("folder")["here"].to_dict()["TextGrids"] == 1


def test_a_manifest_may_have_either_name_of_the_folder_and_means_the_same(paper, tmp_path):
    lines = manifest.MANIFEST.read_text().replace("derivative/", "derivatives/").splitlines()
    new = table(tmp_path, *lines)
    assert needed_files(paper, ["UTS03"], manifest_file=new) == needed_files(paper, ["UTS03"])
    both = table(
        tmp_path, *lines, lines[-2], next(line for line in lines if "TextGrids" in line).replace("ves/", "ve/")
    )
    refused(lambda: manifest.read_manifest(both), both, "twice")


def test_data_of_ones_own_are_expected_and_not_fetched(tmp_path):
    study = load_study(tiny.write_yaml(tmp_path / "mine.yaml", tiny.study_content(tmp_path / "ds", tmp_path)))
    refused(lambda: require_data(study, "mine"), "19 of 19 files", "respdict.json; expected them there")


def test_a_study_of_simulated_listeners_has_nothing_to_fetch(capsys):
    assert main(["fetch", "--study", "demo"]) == 1
    assert "study demo: has nothing to fetch" in capsys.readouterr().err
