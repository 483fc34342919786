"""The engine: Snakemake makes whatever is missing or out of date, for the command line and for notebooks.

After a kill, Snakemake runs unfinished jobs again (`--rerun-incomplete`); a result is whole or absent
(`results.atomic_path`), and tuning resumes from its checkpoint (`tuning.checkpoint`).
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from braintuning.errors import InputError
from braintuning.pipeline import recipes
from braintuning.pipeline.cost import COSTS, costs, learn
from braintuning.pipeline.times import INSIDE_A_JOB
from braintuning.pipeline.worker import listening
from braintuning.results import CACHE, REPOSITORY
from braintuning.study import Study

LINE_BACK = "\x1b[r\x1b[999;1H\x1b[K"
"""Gives a terminal the line back that the bar of a run had for itself."""
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}


def ensure(study: Study, results: Iterable[Path], device: str = "cpu", max_memory: float | None = None) -> None:
    """Have results of a study made that are missing or out of date; for notebooks.

    `results` are such as `study.scores_file(participant, run)` or `recipes.inputs_of(study, notebook)`. Arguments and
    errors are those of `run_workflow`; `InputError` also where a step failed.
    """
    results = list(results)
    if not results or INSIDE_A_JOB in os.environ:
        return
    if run_workflow(study, device=device, targets=results, max_memory=max_memory):
        raise InputError(f"study {study.name}: a step failed, see the lines above; expected its result")


def run_workflow(
    study: Study,
    *,
    device: str = "cpu",
    targets: Iterable[Path] = (),
    cores: int | None = None,
    gpu_jobs: int = 1,
    max_memory: float | None = None,
    dry_run: bool = False,
) -> int:
    """Run the jobs of a study that are not up to date, down to `targets` or to its figures and report; 0 on success.

    `cores`: all of the machine's by default; `gpu_jobs`: jobs that share the GPU at a time; `max_memory`: GiB that a
    step of tuning may take, about; `dry_run`: list the jobs and what they will take, and run none. When a run is
    interrupted (`KeyboardInterrupt`), its jobs have ended, and what they had not finished is made the next time.
    `InputError` while another run of the study is going on, and where the path of its results, figures or of the cache
    has a brace, which Snakemake takes for the name of something.
    """
    for folder in (study.results, study.figures_folder, CACHE):
        if {"{", "}"} & set(str(folder)):
            raise InputError(f"{folder}: found a brace in this path, expected none, which Snakemake reads")
    cores = cores or os.cpu_count()
    command = _snakemake(study, device, cores, gpu_jobs, max_memory) + (["--dry-run"] if dry_run else [])
    study.results.mkdir(parents=True, exist_ok=True)
    with open(study.results / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"study {study.name}: another run of it is going on; wait for it or stop it") from None
        record = study.results / "dataset.json"
        changed = record.is_file() and recipes.dataset(study).fingerprint not in record.read_text()
        passes = [[record]] if changed and not dry_run else []  # by itself, see `CHECKED` in the Snakefile
        passes.append(list(targets))
        for made in () if dry_run else recipes.of_results(study):
            for result in (made, made.with_suffix(".csv")):
                if result.is_file() and not result.stat().st_size:
                    result.unlink()  # Snakemake would take it for one
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        began, expected = time.time(), costs(study, device, cores, gpu_jobs, calibrated=dry_run)
        environment = {**os.environ, **QUIET, "PATH": path, "XDG_CACHE_HOME": str(CACHE / "xdg")}
        environment[COSTS] = json.dumps(expected)
        with nullcontext((environment, ())) if dry_run else listening(environment) as (environment, held):
            for wanted in passes:
                try:
                    whole = [*command, "--", *map(str, wanted)]
                    status = subprocess.run(whole, env=environment, pass_fds=(lock.fileno(), *held)).returncode
                except KeyboardInterrupt:
                    print(LINE_BACK if sys.stdout.isatty() else "", end="", flush=True)
                    raise
                if status:
                    break
        learn(study, device, began)
        return status


def _snakemake(study: Study, device: str, cores: int, gpu_jobs: int, max_memory: float | None) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", REPOSITORY]
    megabytes = int(0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6)
    command += ["--cores", cores, "--resources", f"gpu={gpu_jobs}", f"mem_mb={megabytes}"]
    command += ["--scheduler", "greedy", "--logger", "braintuning", "--nolock", "--keep-going", "--rerun-incomplete"]
    command += ["--keep-incomplete", "--rerun-triggers", "mtime", "params"]  # files of a job that failed are whole
    file, root = study.source
    # Snakemake strips quotes and reads the rest as YAML, where ` #` and `: ` mean something: lists keep paths whole.
    given = {"study": str(file), "device": device} | ({"root": root} if root else {})
    command += ["--config", *(f"{key}={json.dumps([value], ensure_ascii=False)}" for key, value in given.items())]
    return list(map(str, [*command, *([f"max_memory={max_memory}"] if max_memory else [])]))
