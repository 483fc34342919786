"""What a study will cost before it runs: from what jobs of the kind took on this machine, else from its speed."""

import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from braintuning.pipeline.times import read_times
from braintuning.results import CACHE, REPOSITORY, atomic_path, provenance_of
from braintuning.study import Run, Study
from braintuning.study.by_name import own

LEDGER = CACHE / "costs.json"
"""By device and kind of job: seconds, units of work, peak memory and number of jobs that ran on this machine."""
COSTS = "BRAINTUNING_COSTS"
"""Environment variable with what jobs of each kind are expected to take, as JSON, for the lines of a run."""
FAMILIES = {
    "tiny": (8, 4, 384), "whisper-base": (20, 6, 512), "small": (88, 12, 768), "medium": (307, 24, 1024),
    "whisper-large": (635, 32, 1280), "large": (315, 24, 1024), "": (95, 12, 768),
}  # fmt: skip
"""Millions of parameters, layers and width of encoders on the hub, by the first part of a name that is found."""
LAYERS_AND_WIDTH = ("encoder_layers", "num_hidden_layers"), ("d_model", "hidden_size")
RATES = {
    "dataset": 1.7, "ceiling": 0.072, "tune": 0.002, "extract": 0.00092, "align": 20.0, "nuisance": 30.0,
    "low_level": 34.0, "low_level_alone": 34.0, "low_level_features": 0.13, "words": 0.019, "preference": 0.00083,
    "probe": 19.0, "leaks": 4.5, "figure": 0.2, "viewer": 0.5, "report": 3.0, "card": 0.5,
}  # fmt: skip
"""Processor seconds of a unit of work (see `work`) on one core of an AMD EPYC, about: of the demo and other studies."""
RECOGNITION = {"asr": 25, "asr_tuned": 70}
"""On a corpus such as LibriSpeech, times what another task takes; on synthesised sentences it takes about as much."""
REFERENCE_SECONDS = 0.54
"""What `calibrate` measures there."""
START, NOTEBOOK = 0.6, 15.0
"""Processor seconds of a job that does nothing, with a worker, and of a notebook that does nothing."""
ON_GPU = 60.0
"""How many times faster an H100 does a unit of work than that core, about."""
TAKEN = 0.6
"""Of what a job is given, see `megabytes`, it takes about so much."""
GPU_KINDS = ("tune", "extract", "align", "nuisance", "low_level", "low_level_alone", "preference", "probe", "leaks")


def seconds_of_row(study: Study) -> float:
    """The TR: where participants or stories have their own, that of the first."""
    return own(study.dataset.tr, "tr", *study.participants, *study.stories.all)


def rows_of_story(study: Study) -> int:
    """TRs of a story, about: of the project's own texts, or as in ds003020."""
    simulation = study.dataset.simulation
    if not simulation or simulation.textgrids:
        return 400
    return min(150, int(0.6 * simulation.words / seconds_of_row(study))) if simulation.words else 150


def n_voxels(study: Study) -> int:
    """Voxels or vertices of a participant, about."""
    simulation = study.dataset.simulation
    if simulation:
        return 2 * (simulation.points_per_hemisphere or 30_000)
    return 500 if study.dataset.recordings else 110_000


def megabytes(study: Study) -> dict[str, int]:
    """MB that a job of each step is given: beside what grows with the data, more than a job of the demo took."""
    simulation, rows, voxels = study.dataset.simulation, rows_of_story(study), n_voxels(study)
    repeats = 5 if simulation and not simulation.textgrids else 10
    responses = 4 * rows * len(study.stories.all) * voxels // 10**6
    reading = 1500 + 10 * repeats * rows * voxels // 10**6
    given = {"dataset": reading, "ceiling": reading, "tune": 4000, "extract": 1500, "preference": 2000, "probe": 2000}
    given |= dict.fromkeys(("align", "nuisance"), 1500 + 2 * responses)
    given |= dict.fromkeys(("low_level", "low_level_alone", "low_level_features"), 2500 + 2 * responses)
    return given


def tuning_passes(study: Study, run: Run) -> tuple[float, float]:
    """Passes of an epoch of tuning over clips, or spans that TRs share, about; and seconds of each."""
    stories, settings = study.tuning_stories(run), study.tuning_of(run.condition)
    seconds = max(settings.clip_seconds, settings.context_seconds)
    rows = rows_of_story(study) * len(stories.train + stories.validation)
    return rows / (1 + (seconds - settings.clip_seconds) // 2), seconds


def family(study: Study, backbone: str) -> tuple[float, int, int]:
    """Millions of parameters, layers and width of a backbone: of a folder from its configuration, else `FAMILIES`."""
    name = study.backbones[backbone].name
    file = REPOSITORY / name / "config.json"
    if file.is_file():
        config = json.loads(file.read_text())
        layers, width = (config.get(a) or config[b] for a, b in LAYERS_AND_WIDTH)
        return 12 * layers * width**2 / 1e6, layers, width
    return next(shape for part, shape in FAMILIES.items() if part in name)


def work(study: Study) -> dict[str, float]:
    """Units of work of a job of each kind, on average over the study's jobs of the kind.

    A unit is what decides the cost of a kind: of a dataset a minute of audio or, made or read, 100 or 10 million
    values of responses; of a ceiling a million of them; of tuning and features a million parameters x a second of audio
    heard (2.6 with a gradient); of alignment 10^12 rows x rows x voxels x designs; of low-level features a minute of
    audio; of words and preference a word, in a million parameters; of downstream tasks a million parameters x 8 tasks.
    """
    rows, stories, voxels = rows_of_story(study), len(study.stories.all), n_voxels(study)
    people, runs, tuned = max(1, len(study.participants)), [*study.runs()], [*study.tuned_runs()]
    simulation = study.dataset.simulation
    values = rows * voxels * (stories + (simulation.repeats if simulation else 10)) / 1e6
    shapes = {run: family(study, run.backbone) for run in runs}
    every_shape = list(shapes.values()) or [family(study, study.figure_backbone)]
    size, layers = np.mean(every_shape, axis=0)[:2].tolist()
    minutes = rows * seconds_of_row(study) / 60
    heard = 60 * minutes * len(study.encoded_stories) * study.features.window_seconds / study.features.hop_seconds
    kinds = 2 + len(study.low_level.features)
    fit = (rows * stories) ** 2 * voxels / 1e12
    n_low_level = len(study.low_level.stories or study.stories.train) + len(study.stories.test)
    fit_low_level = (rows * n_low_level) ** 2 * voxels / 1e12
    spoken = study.preference.n_pairs * 4 * len(study.preference.voices)
    tasks = [RECOGNITION.get(task, 1) if study.probes.corpus(task) else 1 for task in study.probes.tasks]
    tuning = []
    for run in tuned:
        passes, seconds = tuning_passes(study, run)
        tuning.append(2.6 * shapes[run][0] * passes * seconds * study.tuning_of(run.condition).epochs)
    return {
        "dataset": values * people / 100 + minutes * stories if simulation else values * people / 10,
        "ceiling": values,
        "tune": sum(tuning) / max(1, len(tuning)),
        "extract": size * heard,
        "align": fit * (layers + 1),
        "nuisance": fit,
        "low_level": fit_low_level * 2 * kinds * (len(study.low_level.layers) or layers + 1),
        "low_level_alone": fit_low_level * kinds * 2,
        "low_level_features": minutes * stories,
        "words": spoken,
        "preference": spoken * size,
        "probe": size * max(1, sum(tasks)) / 8,
        "leaks": size,
        "figure": people * len(runs),
        "viewer": people * len(runs),
        "report": 1.0,
        "card": 1.0,
    }


def kind_of(rule: str) -> str:
    """Kind of job of a rule of the Snakefile."""
    kind = rule.partition("_of_")[0].removesuffix("_first").removesuffix("_everyone")
    return "figure" if rule.startswith("notebook") else kind.replace("ceilings", "ceiling")


def learn(study: Study, device: str, since: float) -> None:
    """Note what a run's jobs took since a moment (s, as `time.time`), unless far larger ones of the kind are noted."""
    found, units = defaultdict(lambda: [0.0, 0.0, 0.0, 0]), work(study)
    for took in read_times(study.results / "times", since):
        if (kind := took["step"]) in units:
            seconds = took["s"] if device == "cuda" and kind in GPU_KINDS else took["cpu_time"]
            ledger = found[kind]
            ledger[0] += max(seconds - START, 0.05)
            ledger[1] += units[kind]
            ledger[2] = max(ledger[2], took["max_rss"])
            ledger[3] += 1
    if found:
        known = _ledger()
        old = known.get(device, {})
        known[device] = old | {k: new for k, new in found.items() if k not in old or _tells(new, old[k][1] / old[k][3])}
        with atomic_path(LEDGER) as temporary:
            temporary.write_text(json.dumps(known, indent=1))


def costs(study: Study, device: str, cores: int, gpu_jobs: int, calibrated: bool) -> dict[str, Any]:
    """What each kind of job is expected to take, `cores` of them side by side and of these `gpu_jobs` on the GPU.

    `calibrated`: measure this machine for kinds that it has not run yet, some seconds; else take it for the reference.
    Gives `kinds`, by name: [seconds on a core, seconds on a GPU, peak MiB]; `disk`, MB that the study's results and
    simulated data take that are not there yet; `free`, MB of their disk; `basis`, where this comes from; and `cores`
    and `gpu_jobs`.
    """
    units = work(study)
    known = {kind: jobs for kind, jobs in _ledger().get(device, {}).items() if _tells(jobs, units[kind])}
    missing = [kind for kind in units if kind not in known]
    slower, gpu_slower = calibrate(device) if calibrated and missing else (1.0, 1.0)
    kinds, given = {}, megabytes(study)
    for kind, amount in units.items():
        on_gpu = device == "cuda" and kind in GPU_KINDS
        if kind in known:
            seconds, measured, peak, _ = known[kind]
            seconds *= amount / measured
        else:
            seconds = RATES[kind] * amount * (gpu_slower / ON_GPU if on_gpu else slower)
            peak = TAKEN * given.get(kind, 2000)
        seconds += START + NOTEBOOK * (kind == "figure" and kind not in known)
        kinds[kind] = [seconds, seconds if on_gpu else 0.0, peak]
    folder = next(place for place in (study.results, *study.results.parents) if place.exists())
    speed = "a calibration of this machine" if calibrated else "another machine's speed"
    basis = " and ".join(["earlier runs here"] * (len(missing) < len(units)) + [speed] * bool(missing))
    given = {"cores": cores, "gpu_jobs": gpu_jobs, "basis": basis}
    return {"kinds": kinds, "disk": _disk(study), "free": shutil.disk_usage(folder).free / 1e6, **given}


@cache
def calibrate(device: str) -> tuple[float, float]:
    """How many times longer this machine takes than the reference on one core, and on a GPU than one H100."""
    import torch

    def took(where: str, size: int, repeats: int) -> float:
        """Seconds of the quickest of three rounds of products and decompositions of matrices."""
        clock, best = time.process_time if where == "cpu" else time.perf_counter, float("inf")
        a = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).to(where)
        for _ in range(3):
            began, b = clock(), a
            for _ in range(repeats):
                b = torch.nn.functional.gelu(a @ b) / size
            b.sum().item()
            best = min(best, clock() - began)
        return best

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        slower = took("cpu", 1024, 20) / REFERENCE_SECONDS
    finally:
        torch.set_num_threads(threads)
    return slower, took("cuda", 8192, 10) / 0.23 if device == "cuda" else 1.0


def told(costs: Mapping[str, Any], jobs: Mapping[str, int]) -> str:
    """One line: how long some jobs take, and what else; from `costs`, and how many of each rule are to do."""
    cores, counts = costs["cores"], by_kind(costs, jobs)
    on_gpu = sum(n * costs["kinds"][kind][1] for kind, n in counts.items())
    peaks = sorted(costs["kinds"][kind][2] for kind, n in counts.items() for _ in range(min(n, cores)))
    parts = [f"about {_span(wall(costs, jobs))} on {cores} core{'s' * (cores > 1)}"]
    parts += [f"{on_gpu / 3600:.2f} GPU-hours"] if on_gpu else []
    parts += [f"{sum(peaks[-cores:]) / 1024:.1f} GiB of memory"]
    parts += [f"{costs['disk'] / 1000:.1f} GB of disk ({costs['free'] / 1000:.0f} GB free)"]
    return f"{', '.join(parts)}; from {costs['basis']}"


def by_kind(costs: Mapping[str, Any], jobs: Mapping[str, int]) -> dict[str, int]:
    """How many jobs of each kind there are, of how many of each rule."""
    counts = Counter()
    for rule, n in jobs.items():
        counts[kind_of(rule)] += n
    return {kind: n for kind, n in counts.items() if kind in costs["kinds"]}


def wall(costs: Mapping[str, Any], jobs: Mapping[str, int]) -> float:
    """Seconds that jobs of some rules take side by side, at least those of the longest way from dataset to report."""
    jobs = by_kind(costs, jobs)
    seconds = {kind: costs["kinds"][kind][0] for kind in jobs if jobs[kind]}
    total = sum(jobs[kind] * each for kind, each in seconds.items())
    on_gpu = sum(jobs[kind] * costs["kinds"][kind][1] for kind in seconds)
    way = ("dataset", "ceiling", "tune", "extract", "low_level", "figure", "report")
    return max(total / costs["cores"], on_gpu / costs["gpu_jobs"], sum(seconds.get(kind, 0.0) for kind in way))


def _disk(study: Study) -> float:
    """MB of what is not there yet: features, scores, models, and the data of simulated listeners."""
    rows, voxels = rows_of_story(study), n_voxels(study)
    simulation, total = study.dataset.simulation, 0.0
    if simulation and not study.root.exists():
        values = rows * voxels * (len(study.stories.all) + simulation.repeats)
        total += len(study.participants) * values * 8 / 1e6
    for run in study.runs():
        _, layers, width = family(study, run.backbone)
        if provenance_of(study.features_file(run)) is None:
            total += 1.1 * (layers + 1) * rows * len(study.encoded_stories) * width * 4 / 1e6
    for run in study.tuned_runs():
        if provenance_of(study.model_folder(run)) is None:
            total += 4 * 1.5 * family(study, run.backbone)[0]
    for participant, run in study.alignments():
        if provenance_of(study.scores_file(participant, run)) is None:
            total += (family(study, run.backbone)[1] + 4) * voxels * 4 / 1e6
    return total


def _tells(jobs: Sequence[float], amount: float) -> bool:
    """Whether what jobs of the ledger took tells of one of so much work: they did a third of it at least."""
    return jobs[1] / jobs[3] >= amount / 3


def _ledger() -> dict[str, Any]:
    try:
        return json.loads(LEDGER.read_text())
    except (OSError, ValueError):
        return {}


def _span(seconds: float) -> str:
    if seconds < 5400:
        minutes = max(1, round(seconds / 60))
        return f"{minutes} minute{'s' * (minutes > 1)}"
    return f"{seconds / 3600:.1f} hours"
