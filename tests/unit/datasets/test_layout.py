import json
import shutil

import pytest
import tiny
from braintuning.datasets.layout import find_folder, placed, require_folder
from braintuning.datasets.lebel import LebelDataset
from tiny import PARTICIPANTS, STORIES, refused

NAMES = ("derivatives", "derivative")


@pytest.fixture
def root(files):
    return files.root


@pytest.fixture(autouse=True)
def few_voxels(monkeypatch):
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())


def write(path, text="a word"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_is_read_by_either_name(root, name):
    old = LebelDataset(root, tiny.TR).responses("P1", "harbour")
    (root / "derivative").rename(root / name)
    dataset = LebelDataset(root, tiny.TR)
    assert dataset.derivative == root / name and dataset.participants == PARTICIPANTS
    assert dataset.check(dict.fromkeys(PARTICIPANTS, STORIES)) == []
    assert (dataset.responses("P1", "harbour") == old).all()
    assert dataset.words("harbour")[0].label == "and"
    (root / name / "TextGrids" / "harbour.TextGrid").unlink()
    refused(lambda: dataset.words("harbour"), root / name / "TextGrids" / "harbour.TextGrid")


def test_paths_change_their_first_name_alone():
    assert (
        placed("derivative/TextGrids/derivative.TextGrid", "derivatives") == "derivatives/TextGrids/derivative.TextGrid"
    )
    assert placed("derivatives/respdict.json", "derivative") == "derivative/respdict.json"
    assert placed("stimuli/derivative/x.wav", "derivatives") == "stimuli/derivative/x.wav"


@pytest.mark.parametrize(("name", "other"), [NAMES, NAMES[::-1]])
def test_of_two_folders_the_one_that_has_the_files_is_read(tmp_path, name, other):
    write(tmp_path / name / "respdict.json")
    (tmp_path / other).mkdir()
    assert find_folder(tmp_path) == name
    write(tmp_path / other / "fmriprep" / "sub-01" / "bold.json")
    assert find_folder(tmp_path) == name, "derivatives of another kind"
    write(tmp_path / other / "TextGrids" / "._souls.TextGrid")
    write(tmp_path / other / "TextGrids" / ".DS_Store")
    assert find_folder(tmp_path) == name
    write(tmp_path / name / "TextGrids" / "souls.TextGrid")
    write(tmp_path / other / "TextGrids" / "souls.TextGrid")
    assert find_folder(tmp_path) == name
    write(tmp_path / other / "respdict.json")
    assert find_folder(tmp_path) == "derivatives", "each has the same"


@pytest.mark.parametrize(("name", "other"), [NAMES, NAMES[::-1]])
def test_links_and_pointers_without_content_count_for_nothing(tmp_path, name, other):
    write(tmp_path / name / "TextGrids" / "souls.TextGrid")
    write(tmp_path / other / "TextGrids" / "buck.TextGrid", "/annex/objects/MD5E-s9--0.TextGrid\n")
    (tmp_path / other / "respdict.json").symlink_to("../.git/annex/objects/aa/bb/MD5E-s9--0/MD5E-s9--0")
    write(tmp_path / other / "preprocessed_data" / "UTS03" / "souls.hf5.part")
    assert find_folder(tmp_path) == name


def test_files_behind_a_link_to_a_folder_count(tmp_path):
    for name in NAMES:
        write(tmp_path / name / "TextGrids" / "souls.TextGrid")
    write(tmp_path / "elsewhere" / "souls.hf5")
    (tmp_path / "derivative" / "preprocessed_data").mkdir()
    (tmp_path / "derivative" / "preprocessed_data" / "UTS03").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "derivative" / "preprocessed_data")
    assert find_folder(tmp_path) == "derivative"


def test_one_folder_that_links_to_the_other_is_the_other(root):
    (root / "derivatives").symlink_to("derivative")
    assert LebelDataset(root, tiny.TR).participants == PARTICIPANTS


def test_a_renaming_that_was_broken_off_is_one_sentence(root):
    shutil.copytree(root / "derivative" / "TextGrids", root / "derivatives" / "TextGrids")
    shutil.rmtree(root / "derivative" / "TextGrids")
    sentence = ("4 files in derivatives/ alone (TextGrids/harbour.TextGrid)", "11 files in derivative/ alone (pre")
    refused(lambda: LebelDataset(root, tiny.TR), root, *sentence, "expected all of them in one folder")
    refused(lambda: require_folder(root), *sentence)


def test_what_systems_leave_behind_is_neither_a_participant_nor_a_story(root):
    data = root / "derivative" / "preprocessed_data"
    for folder in (data, data / "P1"):
        for name in ("._P1", "._harbour.hf5", ".DS_Store", "Thumbs.db", "desktop.ini", ".ghost.hf5"):
            write(folder / name)
        for name in ("@eaDir", ".git", "__MACOSX", ".ipynb_checkpoints"):
            write(folder / name / "harbour.hf5")
    write(root / "derivative" / "TextGrids" / "._harbour.TextGrid")
    dataset = LebelDataset(root, tiny.TR)
    assert dataset.participants == PARTICIPANTS
    assert dataset.stories("P1") == tuple(sorted(STORIES))
    assert dataset.check(dict.fromkeys(PARTICIPANTS, STORIES)) == []
    assert json.loads((root / "derivative" / "respdict.json").read_text())
