"""Which files of a study's dataset are on this disk, which are missing, and the command that brings them."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from braintuning.datasets import manifest
from braintuning.datasets.fetch_cli import command_for, entries_for
from braintuning.datasets.manifest import RESPONSES, TEXTGRIDS, VOLUMES, Entry
from braintuning.errors import InputError
from braintuning.study import Study

KINDS = {
    "stimuli/": "sound",
    TEXTGRIDS: "word and phone times",
    RESPONSES: "responses",
    VOLUMES: "table of volumes",
    "derivative/pycortex-db/": "surfaces (pycortex)",
    "derivative/freesurfer_subjdir/": "surfaces (FreeSurfer)",
}


def needed_files(study: Study) -> dict[str, list[Path]]:
    """Paths below the dataset's root that each participant needs, without the surfaces: {participant: paths}."""
    needed = {}
    for participant in study.participants:
        stories = study.stories_for(participant).all
        needed[participant] = [
            Path(VOLUMES),
            *(Path(f"stimuli/{story}.wav") for story in stories),
            *(Path(f"{TEXTGRIDS}{story}.TextGrid") for story in stories),
            *(Path(f"{RESPONSES}{participant}/{story}.hf5") for story in stories),
            Path(f"derivative/pycortex-db/{participant}"),
        ]
    return needed


def require_data(study: Study, named: str) -> None:
    """Stop when a file that a study in the ds003020 layout needs is not there; `named` is how the user named the study.

    Raises
    ------
    InputError
        It counts the missing files, names the first, and gives the command that brings them where ds003020 has them.
    """
    if study.dataset.kind != "lebel" or study.dataset.simulation:
        return
    needed = needed_files(study)
    lacking = {p: [path for path in paths if not (study.root / path).exists()] for p, paths in needed.items()}
    missing = dict.fromkeys(path for paths in lacking.values() for path in paths)
    if not missing:
        return
    total = len({path for paths in needed.values() for path in paths})
    participants = [participant for participant, paths in lacking.items() if paths]
    raise InputError(
        f"{study.root}: {len(missing)} of {total} files of study {study.name} are missing, the first is "
        f"{next(iter(missing))}; {_how_to_get(study, named, participants)}"
    )


def _how_to_get(study: Study, named: str, participants: Sequence[str]) -> str:
    known = {entry.path.split("/")[2] for entry in manifest.read_manifest(manifest.MANIFEST) if RESPONSES in entry.path}
    if not known.issuperset(participants):
        return "expected them there"
    return f"to get them: {command_for(participants, study=named, dest=study.root)}"


def inventory(study: Study, participants: Sequence[str]) -> pd.DataFrame:
    """What a study needs of ds003020 and how much of it is here, by participant and kind of file.

    Parameters
    ----------
    study : Study
    participants : sequence of str
        Some of the study's.

    Returns
    -------
    DataFrame
        participant ('all' for what participants share), kind, files, gigabytes, here (files of the right size),
        missing_gigabytes.

    Raises
    ------
    InputError
        A participant or story that ds003020 does not have.
    """
    entries = _entries(study, participants)
    plan = manifest.plan(entries, study.root)
    rows = [
        {
            "participant": _participant(entry),
            "kind": next(kind for prefix, kind in KINDS.items() if entry.path.startswith(prefix)),
            "files": 1,
            "gigabytes": entry.bytes / 1e9,
            "here": int(entry.path not in plan.bytes_left),
            "missing_gigabytes": plan.bytes_left.get(entry.path, 0) / 1e9,
        }
        for entry in entries
    ]
    return pd.DataFrame(rows).groupby(["participant", "kind"], sort=False, as_index=False).sum()


def expected_sizes(study: Study, participants: Sequence[str]) -> pd.DataFrame:
    """Bytes of each response file beside what its rows and voxels come to, 8 bytes each.

    Returns
    -------
    DataFrame
        participant, story, rows, voxels, repeats (of a story whose presentations are stored one by one, which is told
        from the size), bytes, rest (bytes left for what HDF5 itself stores).

    Raises
    ------
    InputError
        The study does not say how many voxels a participant has.
    """
    volumes = json.loads(manifest.MANIFEST.with_name("ds003020_respdict.json").read_text())
    rows = []
    for entry in _entries(study, participants):
        if entry.path.startswith(RESPONSES):
            participant, story = PurePosixPath(entry.path).parts[2], PurePosixPath(entry.path).stem
            study.require("participant in dataset.voxels", participant, tuple(study.dataset.voxels))
            n_rows, n_voxels = volumes[story] - 20, study.dataset.voxels[participant]
            presentations, rest = divmod(entry.bytes, 8 * n_rows * n_voxels)
            rows.append((participant, story, n_rows, n_voxels, presentations - 1, entry.bytes, rest))
    return pd.DataFrame(rows, columns=["participant", "story", "rows", "voxels", "repeats", "bytes", "rest"])


def _entries(study: Study, participants: Sequence[str]) -> list[Entry]:
    return entries_for(participants, {p: study.stories_for(p).all for p in participants})


def _participant(entry: Entry) -> str:
    parts = PurePosixPath(entry.path).parts
    return parts[2] if len(parts) > 3 else "all"
