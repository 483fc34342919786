import re
import shlex

import numpy as np
import pytest
import tiny
from braintuning.cli import _parser, main
from braintuning.datasets import fetch_cli
from braintuning.datasets.inventory import expected_sizes, inventory, needed_files, require_data
from braintuning.errors import InputError
from braintuning.study import load_study
from tiny import refused


@pytest.fixture(scope="module")
def paper():
    return load_study("paper")


@pytest.fixture
def elsewhere(tmp_path):
    return load_study("paper", root=str(tmp_path))


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


def test_needed_files_are_those_that_a_fetch_brings(paper):
    stories = {p: paper.stories_for(p).all for p in paper.participants}
    for participant, paths in needed_files(paper).items():
        fetched = {entry.path for entry in fetch_cli.entries_for([participant], stories)}
        here = {path.as_posix() for path in paths} - {
            "derivative/respdict.json",
            f"derivative/pycortex-db/{participant}",
        }
        assert here == {path for path in fetched if "pycortex-db" not in path and "freesurfer" not in path}


def test_sizes_come_out_to_the_byte(paper):
    sizes = expected_sizes(paper, paper.participants)
    assert len(sizes) == 8 * 27 - 1
    rest = np.where(sizes["repeats"] > 0, 2168, 2048)
    np.testing.assert_array_equal(sizes["rest"], rest)
    test = sizes[sizes["story"] == "wheretheressmoke"].set_index("participant")["repeats"]
    assert test.to_dict() == {f"UTS{n:02d}": 10 if n <= 3 else 5 for n in range(1, 9)}
    assert set(sizes[sizes["story"] != "wheretheressmoke"]["repeats"]) == {0}


def test_inventory_counts_what_is_here(elsewhere, tmp_path):
    before = inventory(elsewhere, ["UTS04"])
    assert before["here"].sum() == 0
    assert before["gigabytes"].sum() == pytest.approx(before["missing_gigabytes"].sum())
    assert before.set_index("kind")["files"]["responses"] == 26
    entry = next(e for e in fetch_cli.entries_for(["UTS04"], {"UTS04": ["souls"]}) if e.path.startswith("stimuli"))
    (tmp_path / "stimuli").mkdir()
    with open(tmp_path / entry.path, "wb") as file:
        file.truncate(entry.bytes)
    after = inventory(elsewhere, ["UTS04"]).set_index("kind")
    assert after["here"]["sound"] == 1 and after["here"].sum() == 1


def test_missing_files_stop_with_a_command_that_brings_them(elsewhere, tmp_path):
    with pytest.raises(InputError) as stopped:
        require_data(elsewhere, "paper")
    sentence = str(stopped.value)
    assert f"{tmp_path}: 278 of 278 files of study paper are missing" in sentence
    words = shlex.split(sentence.split("to get them: ")[1])
    options = _parser().parse_args(words[3:])
    assert options.command == "fetch" and options.dest == tmp_path
    assert tuple(options.participants) == elsewhere.participants


def test_only_participants_with_missing_files_are_named(elsewhere, tmp_path):
    for participant, paths in needed_files(elsewhere).items():
        for path in paths if participant != "UTS05" else ():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    refused(lambda: require_data(elsewhere, "paper"), "28 of 278 files", "--participants UTS05")


def test_the_workflow_stops_before_it_starts(tmp_path, capsys):
    assert main(["figures", "--study", "paper", "--root", str(tmp_path)]) == 1
    assert "python -m braintuning fetch --study paper" in capsys.readouterr().err


def test_data_of_ones_own_are_expected_and_not_fetched(tmp_path):
    study = load_study(tiny.write_yaml(tmp_path / "mine.yaml", tiny.study_content(tmp_path / "ds", tmp_path)))
    refused(lambda: require_data(study, "mine"), "19 of 19 files", "respdict.json; expected them there")


def test_a_study_of_simulated_listeners_has_nothing_to_fetch(capsys):
    assert main(["fetch", "--study", "demo"]) == 1
    assert "study demo: has nothing to fetch" in capsys.readouterr().err
