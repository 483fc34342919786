"""The real data's whole way on a stand-in: a bucket with ds003020's names and formats, and a few hundred voxels.

It is fetched twice: by the names of version 4 of the dataset in a folder whose name has a space, and by the old ones.
The former goes on to the figure; other tests have the latter.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile
import steps
import tiny
import tiny_subject
from braintuning.cli import main
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.study import load_study
from bucket import Bucket, write_manifest

TR = 2.0045
SECONDS = {"souls": 62.0, "howtodraw": 71.0, "buck": 64.0, "stagefright": 66.0, "life": 63.0, "wheretheressmoke": 93.0}
STORIES = {"train": ["souls", "howtodraw", "buck"], "validation": ["stagefright", "life"], "test": ["wheretheressmoke"]}
REPEATS = {"UTS03": 10, "UTS04": 5}
STEREO = "howtodraw"
ANNEX = ".git/annex/objects/aa/bb/MD5E-s1--0/MD5E-s1--0"


def n_rows(story: str) -> int:
    return int((SECONDS[story] + 20) / TR) - 20


def write_story(root: Path, folder: str, number: int, story: str) -> None:
    sound = tiny.sound(number, SECONDS[story], 44_100)
    path = root / "stimuli" / f"{story}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([sound, sound], axis=1) if story == STEREO else sound, 44_100, subtype="PCM_16")
    starts = np.arange(1.0, SECONDS[story] - 2)
    tiers = {
        "phone": [Interval("AH0", float(s), float(s) + 0.3) for s in starts],
        "word": [Interval("and", float(s), float(s) + 0.5) for s in starts],
    }
    write_textgrid(root / folder / "TextGrids" / f"{story}.TextGrid", tiers, SECONDS[story])


def write_responses(derivative: Path, participant: str, story: str, n_voxels: int, seed: int) -> None:
    """Half of the voxels repeat what they did; float64, z-scored, `individual_repeats` of the test story alone."""
    rng = np.random.default_rng([seed, *story.encode()])
    repeats = rng.standard_normal((REPEATS[participant], n_rows(story), n_voxels))
    repeats[:, :, ::2] += rng.standard_normal((n_rows(story), (n_voxels + 1) // 2))
    mean = repeats.mean(axis=0)
    path = derivative / "preprocessed_data" / participant / f"{story}.hf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = (mean - mean.mean(axis=0)) / mean.std(axis=0)
        if story in STORIES["test"]:
            file["individual_repeats"] = (repeats - repeats.mean(axis=1, keepdims=True)) / repeats.std(
                axis=1, keepdims=True
            )


class StandIn:
    """The bucket's files, its manifest, a datalad clone without content to fetch into, and a study of it all."""

    def __init__(self, folder: Path, layout: str) -> None:
        self.folder, self.source, self.clone = folder, folder / "bucket", folder / "clone"
        self.layout, self.n_voxels, derivative = layout, {}, folder / "bucket" / layout
        for number, story in enumerate(SECONDS):
            write_story(self.source, layout, number, story)
        for seed, participant in enumerate(REPEATS):
            facts = tiny_subject.write_subject(derivative, participant, seed=seed)
            (derivative / "pycortex-db" / participant / "overlays.svg").write_text("<svg/>")
            self.n_voxels[participant] = facts.n_voxels
            for story in SECONDS:
                if (participant, story) != ("UTS04", "life"):
                    write_responses(derivative, participant, story, facts.n_voxels, seed)
        self.manifest = write_manifest(self.source, folder / "stand-in.tsv")
        volumes = {story: n_rows(story) + 20 for story in SECONDS}
        (folder / "stand-in_respdict.json").write_text(json.dumps(volumes))
        self.environment = {
            **os.environ,
            "BRAINTUNING_RESULTS": str(folder / "results"),
            "BRAINTUNING_FIGURES": str(folder / "figures"),
            "BRAINTUNING_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "NO_PROXY": "127.0.0.1",
        }
        self._write_study()
        for name in ("stimuli/souls.wav", f"{layout}/preprocessed_data/UTS03/buck.hf5"):
            (self.clone / name).parent.mkdir(parents=True)
            (self.clone / name).symlink_to(ANNEX)

    def _write_study(self) -> None:
        tiny.encoder("hubert").save_pretrained(self.folder / "backbone")
        content = tiny.study_content(self.clone, self.folder / "backbone")
        fsaverage = tiny_subject.write_fsaverage(self.folder / "fsaverage")
        content |= {
            "name": "standin",
            "participants": list(REPEATS),
            "stories": STORIES,
            "lacks": {"UTS04": ["life"]},
            "conditions": ["brain-tuned"],
            "figures": {"notebooks": ["figA"], "published_counts": {"UTS03": 123}},
        }
        content["dataset"] |= {"tr": TR, "voxels": self.n_voxels, "fsaverage": str(fsaverage)}
        content["tuning"] |= {"epochs": 1, "permutation_block_rows": 10}
        self.study = tiny.write_yaml(self.folder / "standin.yaml", content)

    def run(self, *words: str | Path, status: int = 0) -> str:
        command = [sys.executable, "-m", "braintuning", *map(str, words)]
        ran = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=900)
        assert ran.returncode == status, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr


@pytest.fixture(scope="module", params=["derivatives", "derivative"])
def standin(request, tmp_path_factory) -> StandIn:
    name = {"derivatives": "ds003020 of version 4", "derivative": "ds003020"}[request.param]
    return StandIn(tmp_path_factory.mktemp(name), request.param)


@pytest.fixture(scope="module")
def fetched(standin) -> StandIn:
    """The stand-in after the command that the workflow asks for."""
    standin.asked = standin.run("figures", "--study", standin.study, status=1)
    standin.broken = standin.run(
        "verify", "--study", standin.study, "--manifest", standin.manifest, status=1
    )  # fmt: skip
    words = shlex.split(standin.asked.split("to get them: ")[1].strip())[3:]
    with Bucket(standin.source) as bucket:
        standin.fetch = standin.run(*words, "--base-url", bucket.url, "--manifest", standin.manifest)
    standin.verify = standin.run("verify", "--study", standin.study, "--manifest", standin.manifest)
    return standin


def test_missing_data_stop_the_workflow_with_the_command_that_brings_them(fetched):
    assert "of 26 files of study standin are missing" in fetched.asked
    assert "--participants UTS03 UTS04" in fetched.asked
    assert not (fetched.folder / "results" / "standin" / "dataset.json").exists()


def test_the_papers_jobs_are_listed_without_any_data(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    assert main(["figures", "--study", "paper", "--root", str(tmp_path / "nothing"), "--dry-run"]) == 0
    listed = capfd.readouterr().out
    for job in ("tune hubert-base-ls960_brain-tuned_UTS04", "align whisper-small_multi-brain-tuned with UTS08"):
        assert job in listed
    assert "840 jobs to do" in listed
    assert not (tmp_path / "nothing").exists()


def test_links_without_content_are_named_and_then_replaced(fetched):
    named = [line for line in fetched.broken.splitlines() if "whose content is not here" in line]
    assert {str(Path(line.split(":")[0]).relative_to(fetched.clone)) for line in named} == {
        "stimuli/souls.wav",
        f"{fetched.layout}/preprocessed_data/UTS03/buck.hf5",
    }
    assert not any(path.is_symlink() for path in fetched.clone.rglob("*"))


def test_what_was_fetched_is_what_the_bucket_has_of_what_is_needed(fetched):
    files = {path.relative_to(fetched.source) for path in fetched.source.rglob("*") if path.is_file()}
    needed = {path for path in files if path.suffix not in (".white", ".pial")}
    assert f"{len(needed)} of {len(needed)} files" in fetched.verify
    for path in needed:
        assert (fetched.clone / path).read_bytes() == (fetched.source / path).read_bytes()
    assert not any((fetched.clone / path).exists() for path in files - needed)


VERSION_4 = pytest.mark.parametrize("standin", ["derivatives"], indirect=True)


@pytest.fixture(scope="module")
def finished(fetched) -> StandIn:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RESULTS", "FIGURES"):
            patch.setenv(f"BRAINTUNING_{name}", str(fetched.folder / name.lower()))
        steps.whole(load_study(fetched.study))
        yield fetched


@VERSION_4
def test_the_workflow_finds_nothing_left_to_do(finished, capfd):
    assert steps.is_up_to_date(load_study(finished.study), capfd)


@VERSION_4
def test_figure_a1_counts_the_voxels_above_the_ceiling(finished):
    folder = finished.folder / "figures" / "standin"
    table = pd.read_csv(folder / "figA1.csv").set_index("participant")
    assert table["n_voxels"].to_dict() == finished.n_voxels
    assert table["repeats"].to_dict() == REPEATS
    assert table.loc["UTS03", "published"] == 123 and pd.isna(table.loc["UTS04", "published"])
    share = table["n_above"] / table["n_voxels"]
    assert share.between(0.4, 0.75).all(), share
    assert (folder / "figA1.png").stat().st_size > 50_000
    assert (folder / "figA1.pdf").stat().st_size < 2_000_000


@VERSION_4
def test_each_participant_was_tuned_on_the_stories_they_heard_and_aligned_in_their_own_regions(finished):
    results = finished.folder / "results" / "standin"
    recipes = {
        participant: json.loads(
            (results / "models" / f"small_brain-tuned_{participant}" / "provenance.json").read_text()
        )["recipe"]
        for participant in REPEATS
    }
    assert recipes["UTS03"]["validation"] == ["stagefright", "life"]
    assert recipes["UTS04"]["validation"] == ["stagefright"]
    for participant in REPEATS:
        table = pd.read_csv(results / "alignment" / participant / f"small_brain-tuned_{participant}.csv")
        assert set(table["roi"]) >= {"late_language", "primary_auditory"}
        assert table.groupby("roi")["n_voxels"].first()["late_language"] > 10


@VERSION_4
def test_nothing_was_written_into_the_dataset(finished):
    known = {path.relative_to(finished.source) for path in finished.source.rglob("*") if path.is_file()}
    here = {path.relative_to(finished.clone) for path in finished.clone.rglob("*") if path.is_file()}
    assert {path.as_posix() for path in here - known} == {
        f"{finished.layout}/respdict.json",
        ".braintuning-verified.jsonl",
    }
