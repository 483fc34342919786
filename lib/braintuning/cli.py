"""Command line: `python -m braintuning <command>`. The workflow calls the stages through it, one process a job."""

import argparse
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

from braintuning.datasets.download import fetch, verify
from braintuning.datasets.manifest import BASE_URL, MANIFEST, require_data
from braintuning.errors import InputError
from braintuning.results import CACHE, REPOSITORY, atomic_path
from braintuning.study import Study, load_study

QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it succeeded, 1 with one sentence on standard error when its input cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        if options.command in ("fetch", "verify"):
            given = vars(options)
            command = {"fetch": fetch, "verify": verify}[given.pop("command")]
            return int(bool(command(load_study(given.pop("study")), **given)))
        study = load_study(options.study, options.root)
        return COMMANDS[options.command](study, options) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m braintuning")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, purpose in (
        ("fetch", "download what a study needs of ds003020, or the rest of it"),
        ("verify", "check size and MD5 of what a study needs of ds003020"),
    ):
        sub = commands.add_parser(name, help=purpose, description=purpose)
        sub.add_argument("--study", default="paper", help="name in data/studies, or a YAML file")
        sub.add_argument("--participants", nargs="+", default=(), help="of the study; all by default")
        sub.add_argument("--stories", nargs="+", default=(), help="names, or a number for the first of the study")
        sub.add_argument("--no-surfaces", dest="surfaces", action="store_false", help="audio and responses only")
        sub.add_argument("--manifest", dest="manifest_file", type=Path, default=MANIFEST, help="path, bytes and md5")
        sub.add_argument("--dest", type=Path, help="the dataset's folder; the study's by default")
        if name == "fetch":
            sub.add_argument("--base-url", default=BASE_URL, help="the dataset's root on a server")
            sub.add_argument("--workers", type=int, default=4, help="files downloaded at a time")
            sub.add_argument("--dry-run", action="store_true", help="list files and bytes only")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.__doc__)
        sub.add_argument("--study", default="demo", help="name in data/studies, or path of a YAML file")
        sub.add_argument("--root", help="folder of the dataset, instead of the study's")
        sub.add_argument("--device", default="cpu", help="cpu or cuda")
        if name == "figures":
            sub.add_argument("--cores", type=int, default=os.cpu_count())
            sub.add_argument("--gpu-jobs", type=int, default=1, help="jobs that share the GPU at a time")
            sub.add_argument("--dry-run", action="store_true", help="list the jobs and run none")
        if name == "notebook":
            sub.add_argument("name", help="name in notebooks/, without .ipynb")
        if name == "probe":
            sub.add_argument("--task", help="one of the study's downstream tasks; all without it")
        if name == "viewer":
            sub.add_argument("--write", action="store_true", help="write it anew and do not show it")
            sub.add_argument("--port", type=int, default=8000, help="where to show it on this machine")
        if name in ("check", "notebook"):
            sub.add_argument("--out", type=Path, required=True)
        if name in ("figures", "tune", "notebook"):
            sub.add_argument("--max-memory", type=float, help="GiB that a step of tuning may take, about")
        if name in ("ceiling", "tune", "extract", "low-level", "preference", "probe", "notebook"):
            sub.add_argument("--participant")
        if name in ("tune", "extract", "low-level", "preference", "probe", "notebook"):
            sub.add_argument("--backbone")
            sub.add_argument("--condition")
    return parser


def _figures(study: Study, options: argparse.Namespace) -> int:
    """Run whatever of a study is not up to date, down to its figures and report."""
    if not options.dry_run:
        require_data(study, options.study)
    from braintuning.pipeline.steps import require_device

    require_device(options.device)
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", REPOSITORY]
    command += ["--cores", options.cores, "--resources", f"gpu={options.gpu_jobs}", f"mem_mb={memory_mb()}"]
    command += ["--logger", "braintuning", "--nolock"]
    command += ["--rerun-incomplete", "--rerun-triggers", "mtime", "params", "--keep-going"]
    command += ["--dry-run"] if options.dry_run else []
    named = options.study if not Path(options.study).suffix else Path(options.study).absolute()
    command += ["--config", f"study={named}", f"device={options.device}"]
    command += [f"root={Path(options.root).absolute()}"] if options.root else []
    command += [f"max_memory={options.max_memory}"] if options.max_memory else []
    study.results.mkdir(parents=True, exist_ok=True)
    with open(study.results / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"study {study.name}: another run of it is going on; wait for it or stop it") from None
        return subprocess.run(list(map(str, command)), env=_environment()).returncode


def memory_mb() -> int:
    """Memory of this machine, in MB, that jobs may share."""
    return int(0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6)


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **QUIET, "PATH": path, "XDG_CACHE_HOME": str(CACHE / "xdg")}


def _check(study: Study, options: argparse.Namespace) -> None:
    """Read everything that a study uses and say what is wrong with it."""
    from braintuning.pipeline.check import check

    dataset = check(study)
    with atomic_path(options.out) as temporary:
        temporary.write_text(json.dumps({"root": str(study.root), "participants": dataset.participants}, indent=1))


def _ceiling(study: Study, options: argparse.Namespace) -> None:
    """Measure the noise ceiling of a participant."""
    from braintuning.pipeline.steps import measure_ceiling

    study.require("participant", options.participant, study.participants)
    measure_ceiling(study, options.participant)


def _extract(study: Study, options: argparse.Namespace) -> None:
    """Read the features of all stories out of one model, or without a condition out of all of a backbone's at once."""
    from braintuning.pipeline.steps import extract_features, sweep

    if options.condition is None:
        study.require("backbone", options.backbone, study.backbones)
        sweep(study, [run for run in study.runs() if run.backbone == options.backbone], options.device)
    else:
        extract_features(study, study.run(options.backbone, options.condition, options.participant), options.device)


def _tune(study: Study, options: argparse.Namespace) -> None:
    """Tune one model; under torchrun, on several GPUs or processes at once."""
    from braintuning.pipeline.tune import tune_model
    from braintuning.tuning import processes

    run = study.run(options.backbone, options.condition, options.participant)
    with processes.together(options.device):
        tune_model(study, run, options.device, max_memory=options.max_memory)


def _low_level(study: Study, options: argparse.Namespace) -> None:
    """Take low-level features out of one model and see what is left of its alignment with a participant."""
    from braintuning.pipeline.low_level import low_level_impact

    study.require("participant", options.participant, study.participants)
    run = study.run(options.backbone, options.condition, options.participant)
    low_level_impact(study, options.participant, run, options.device)


def _preference(study: Study, options: argparse.Namespace) -> None:
    """Ask whether one model holds words together by meaning or by sound."""
    from braintuning.pipeline.preference import semantic_preference

    run = study.run(options.backbone, options.condition, options.participant)
    semantic_preference(study, run, options.device)


def _probe(study: Study, options: argparse.Namespace) -> None:
    """Measure one model on the study's downstream tasks."""
    from braintuning.pipeline.probe import probe

    run = study.run(options.backbone, options.condition, options.participant)
    for task in [options.task] if options.task else study.probes.tasks:
        probe(study, run, task, options.device)


def _notebook(study: Study, options: argparse.Namespace) -> None:
    """Execute a notebook with the given parameters and keep what came out."""
    from braintuning.pipeline.notebooks import execute

    names = ("study", "root", "device", "participant", "backbone", "condition", "max_memory")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    execute(options.name, options.out, given)


def _viewer(study: Study, options: argparse.Namespace) -> None:
    """Show a study's maps on a cortex to turn and unfold, in the browser; needs its alignment."""
    from braintuning.cortex.viewer import serve
    from braintuning.figures.viewer import write_study_viewer
    from braintuning.pipeline.steps import prepare

    folder = study.figures_folder / "viewer"
    if options.write or not folder.is_dir():
        print(write_study_viewer(study, prepare(study)))
    if not options.write:
        serve(folder, options.port)


def _report(study: Study, options: argparse.Namespace) -> None:
    """Gather a study's figures, tables and executed notebooks in one HTML page."""
    from braintuning.pipeline.report import write_report

    print(write_report(study))


COMMANDS = {
    "figures": _figures,
    "check": _check,
    "ceiling": _ceiling,
    "tune": _tune,
    "extract": _extract,
    "low-level": _low_level,
    "preference": _preference,
    "probe": _probe,
    "notebook": _notebook,
    "viewer": _viewer,
    "report": _report,
}
