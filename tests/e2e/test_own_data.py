"""A lab's own data, from wav files and word times to the report: in ds003020's layout, below a folder with a space.

Two participants, a TR of 1.5 s, no phone tier, 24-bit and float recordings, compressed responses of float32, and the
table of volumes as pandas writes it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
import tiny_subject
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid

TR, START = 1.5, 6.0
SECONDS = {"lecture1": 66.0, "lecture2": 72.0, "lecture3": 60.0, "lecture4": 75.0}
SUBTYPES = {"lecture1": "PCM_24", "lecture2": "FLOAT", "lecture3": "PCM_16", "lecture4": "PCM_32"}
STORIES = {"train": ["lecture1", "lecture2"], "validation": ["lecture3"], "test": ["lecture4"]}
PARTICIPANTS = ("anna", "bert")
SPOKEN = ("the", "harbour", "was", "quiet", "when", "SHE,", "spoke")


def n_volumes(story: str) -> int:
    return int((SECONDS[story] + START) / TR)


class OwnData:
    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "our data"
        derivatives = self.root / "derivatives"
        for number, (story, seconds) in enumerate(SECONDS.items()):
            self._write_story(derivatives, number, story, seconds)
        for number, participant in enumerate(PARTICIPANTS):
            facts = tiny_subject.write_subject(derivatives, participant, seed=number)
            for story in SECONDS:
                self._write_responses(derivatives, participant, story, facts.n_voxels, number)
        volumes = {story: float(n_volumes(story)) for story in SECONDS}
        (derivatives / "respdict.json").write_text(json.dumps(volumes))
        self._write_study()

    def _write_story(self, derivatives: Path, number: int, story: str, seconds: float) -> None:
        path = self.root / "stimuli" / f"{story}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tiny.sound(number, seconds, 48_000), 48_000, subtype=SUBTYPES[story])
        starts = np.arange(1.0, seconds - 2)
        words = [Interval(SPOKEN[i % len(SPOKEN)], float(s), float(s) + 0.5) for i, s in enumerate(starts)]
        write_textgrid(derivatives / "TextGrids" / f"{story}.TextGrid", {"word": words}, seconds)

    def _write_responses(self, derivatives: Path, participant: str, story: str, n_voxels: int, seed: int) -> None:
        rng = np.random.default_rng([seed, *story.encode()])
        repeats = rng.standard_normal((4, n_volumes(story), n_voxels))
        repeats[:, :, ::2] += rng.standard_normal((n_volumes(story), (n_voxels + 1) // 2))
        path = derivatives / "preprocessed_data" / participant / f"{story}.hf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=repeats.mean(axis=0).astype(np.float32), compression="gzip")
            if story in STORIES["test"]:
                file.create_dataset("individual_repeats", data=repeats.astype(np.float32), compression="gzip")

    def _write_study(self) -> None:
        tiny.encoder("hubert").save_pretrained(self.folder / "our model")
        content = tiny.study_content(self.root, self.folder / "our model")
        fsaverage = tiny_subject.write_fsaverage(self.folder / "fsaverage")
        own = {"tr": TR, "unstored_volumes": 0, "sound_starts": START, "fsaverage": str(fsaverage)}
        content["dataset"] |= own
        content["tuning"] |= {"epochs": 1}
        content |= {"name": "own", "participants": list(PARTICIPANTS), "stories": STORIES}
        content |= {
            "conditions": ["pretrained", "brain-tuned"],
            "low_level": {"features": ["power_spectrum", "articulation"]},
            "figures": {"notebooks": ["figA", "fig2", "fig3"]},
        }
        self.study = tiny.write_yaml(self.folder / "our study.yaml", content)

    def run(self) -> str:
        folders = {"RESULTS": "results", "FIGURES": "figures", "CACHE": "cache"}
        environment = {f"BRAINTUNING_{key}": str(self.folder / name) for key, name in folders.items()}
        command = [sys.executable, "-m", "braintuning", "figures", "--study", str(self.study), "--cores", "2"]
        environment = {**os.environ, **environment, "HF_HUB_OFFLINE": "1"}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> OwnData:
    own = OwnData(tmp_path_factory.mktemp("my drive"))
    own.output = own.run()
    return own


def test_every_figure_and_the_report_are_there(finished):
    folder = finished.folder / "figures" / "own"
    assert {path.stem for path in folder.glob("*.pdf")} >= {"figA1", "fig2", "fig3"}
    assert "data:image/png" in (folder / "report.html").read_text()


def test_tables_have_both_participants_and_every_condition(finished):
    folder = finished.folder / "figures" / "own"
    fig2, fig3 = (pd.read_csv(folder / f"{name}.csv") for name in ("fig2", "fig3"))
    for table in (fig2, fig3):
        owners = set(table[["participant", "condition"]].itertuples(index=False, name=None))
        assert owners >= {(p, c) for p in PARTICIPANTS for c in ("pretrained", "brain-tuned")}
    assert set(fig3["feature"]) >= {"power_spectrum", "articulation"}


def test_phones_come_from_the_dictionary(finished):
    table = pd.read_csv(finished.folder / "figures" / "own" / "fig3.csv")
    assert table["phones"].str.contains("dictionary").all()


def test_responses_have_a_row_for_each_volume(finished):
    with h5py.File(finished.folder / "results" / "own" / "features" / "small_pretrained.h5") as file:
        lead = max(2, 1)
        assert {story: file[story].shape[1] - lead for story in ("lecture1", "lecture4")} == {
            story: n_volumes(story) for story in ("lecture1", "lecture4")
        }
