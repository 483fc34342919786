"""Pack as much of a study as fits for `benchmarks/gpu.sh`: what its models learn from and are aligned with.

    python benchmarks/pack.py --study demo --most 80

Simulated listeners and noise ceilings are made where they are missing. Condition by condition and backbone by backbone;
a run that would no longer fit is left out and named. Models that do not lie in the repository come along in half
precision, and what is learnt from other models as their states.
"""

import argparse
import json
import shutil
from pathlib import Path

import h5py
from braintuning.alignment.mask import used_voxels
from braintuning.datasets import Dataset, open_dataset
from braintuning.errors import InputError
from braintuning.pipeline import recipes
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.check import make_listeners
from braintuning.pipeline.steps import grids, pretrained
from braintuning.pipeline.tune import learning_material
from braintuning.results import REPOSITORY, atomic_path, load_arrays
from braintuning.study import Run, Study, load_study
from packed import FILE, MODELS, Packer

CARRIED = Path(__file__).parent / "carried"


def listener_entry(study: Study, dataset: Dataset, participant: str, packer: Packer) -> dict:
    """A participant's responses to the stories that encoding models are fitted to and tested on."""
    own, used = study.stories_for(participant), used_voxels(study, participant)
    names = (*own.train, *own.test)
    found = grids(study, dataset, names, [participant])
    return {
        "train": own.train,
        "test": own.test,
        "ceiling": load_arrays(study.ceiling_file(participant))["ceiling"][used].astype(float).round(5).tolist(),
        "features": study.features.model_dump(mode="json"),
        "encoding": study.encoding.model_dump(mode="json"),
        "stories": {
            story: {
                "sound": packer.sound(dataset.audio(story)),
                "times": found[story][0].times.tolist(),
                "responses": packer.responses(dataset.responses(participant, story, used)),
            }
            for story in names
        },
    }


def job_entry(study: Study, dataset: Dataset, run: Run, listener: str, folder: Path, packer: Packer) -> dict:
    """What a run is tuned on."""

    def entries(stories: dict) -> dict:
        return {
            name: {
                "sound": packer.sound(story.audio),
                "times": story.times.tolist(),
                "targets": [packer.responses(of_one) for of_one in story.of_each],
            }
            for name, story in stories.items()
        }

    train, validation = learning_material(study, run, dataset)
    return {
        "name": run.name,
        "backbone": backbone_folder(study, run, folder),
        "pad_to_30s": study.backbones[run.backbone].pad_to_30s,
        "settings": study.tuning_of(run.condition).model_dump(mode="json"),
        "aim": recipes.aim_of(study.base(run.condition)),
        "listener": listener,
        "train": entries(train),
        "validation": entries(validation),
    }


def backbone_folder(study: Study, run: Run, folder: Path) -> str:
    """Where a backbone lies: in the repository, or saved beside the file, its path relative to that."""
    name = study.backbones[run.backbone].name
    here = (REPOSITORY / name).resolve()
    if here.is_dir() and here.is_relative_to(REPOSITORY):
        return name
    saved = folder / MODELS / run.backbone
    if not saved.is_dir():
        encoder = pretrained(study, run)
        encoder.model.half()
        encoder.save_pretrained(saved)
    return f"{MODELS}/{run.backbone}"


def size_of(folder: Path) -> int:
    """Bytes of everything in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pack(study: Study, folder: Path, most: float) -> tuple[list[str], list[str]]:
    """Write the file and the models into a folder, at most so many bytes; names of what is there and of what is not."""
    dataset, jobs, listeners, left = open_dataset(study), [], {}, []
    first = study.participants[0]
    order = sorted(study.tuned_runs(), key=lambda run: study.conditions.index(run.condition))
    with atomic_path(folder / FILE) as temporary, h5py.File(temporary, "w") as file:
        packer, taken = Packer(file), 0
        for run in order:
            name = run.participant or first
            entry = listeners.get(name) or listener_entry(study, dataset, name, packer)
            job = job_entry(study, dataset, run, name, folder, packer)
            offered = packer.offered
            kept = taken + offered + size_of(folder / MODELS) <= most
            packer.decide(kept)
            if kept:
                taken, listeners[name] = taken + offered, entry
                jobs.append(job)
            else:
                left.append(run.name)
                if not any(other["backbone"] == job["backbone"] for other in jobs):
                    shutil.rmtree(folder / MODELS / run.backbone, ignore_errors=True)
        if not jobs:
            raise InputError(f"{study.name}: {order[0].name} alone takes over {most / 2**20:g} MiB, expected less")
        file["jobs"], file["listeners"] = json.dumps(jobs), json.dumps(listeners)
    return [job["name"] for job in jobs], left


def main() -> None:
    """Pack and say what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", required=True)
    parser.add_argument("--root", help="folder of the dataset, instead of the one that the study names")
    parser.add_argument("--most", type=float, default=80.0, help="MiB of models, sounds and responses")
    parser.add_argument("--out", type=Path, default=CARRIED, help="folder that is carried")
    given = parser.parse_args()
    study = load_study(given.study, given.root)
    make_listeners(study)
    for participant in study.participants:
        measure_ceiling(study, participant)
    there, left = pack(study, given.out, given.most * 2**20)
    print(f"{len(there)} runs in {size_of(given.out) / 2**20:.1f} MiB: {', '.join(there)}")
    print(f"{len(left)} left out: {', '.join(left) or 'none'}")


if __name__ == "__main__":
    main()
