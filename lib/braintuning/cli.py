"""Command line: `python -m braintuning <command>`. The workflow calls the steps through it, one process per job."""

import os
import sys
import time
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated

import typer

from braintuning.errors import InputError, NotebookError
from braintuning.pipeline.times import INSIDE_A_JOB, log_of, write_failure, write_own_times
from braintuning.study import Study, load_study

RUN, DATA, STEP = "Run a study", "Its data", "One step at a time, as the workflow calls them"
EXAMPLES = (
    "Examples, each after `python -m braintuning`:",
    "  figures                          the demo: figures, tables and a report",
    "  figures --study paper --dry-run  its jobs, with estimates of time and memory",
    "  check --study mine.yaml          reads all your files, names what is wrong",
    "  figures --study mine.yaml        all figures of your study",
    "  viewer --study demo              its maps on a cortex, in the browser",
    "  align --help                     options of one step",
    "Results go to data/results/<study>, figures and report to its folder figures.",
    "To continue an interrupted or failed run, give the same command again.",
)
app = typer.Typer(
    help="Brain-tuning: speech models fine-tuned on fMRI of people listening to stories.",
    epilog="\n\n".join(EXAMPLES), add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip

StudyName = Annotated[str, typer.Option("--study", help="name in data/studies, or path of a YAML file")]
Root = Annotated[str | None, typer.Option(help="folder of the dataset, instead of the study's")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
Participant = Annotated[str | None, typer.Option(help="participant to tune on or to predict, such as SIM01")]
Backbone = Annotated[str | None, typer.Option(help="speech model, by its name in the study")]
Condition = Annotated[str | None, typer.Option(help="condition of the study, such as brain-tuned")]
MaxMemory = Annotated[float | None, typer.Option(help="approximate limit of memory per tuning step, in GiB")]
Names = Annotated[list[str] | None, typer.Option(help="one or more; all by default")]
Surfaces = Annotated[bool, typer.Option(help="surfaces and transforms beside audio and responses")]
Manifest = Annotated[Path | None, typer.Option(help="table of path, bytes and MD5; by default the project's own")]
Folder = Annotated[Path | None, typer.Option(help="the dataset's folder; the study's by default")]
INTERRUPTED = 130
"""Status that typer gives a command that was interrupted."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and give its status.

    It is 0 when it succeeded; 1, with one sentence on standard error, when its input cannot be used, when a notebook
    stopped, or when anything stopped a job of the workflow, whose log has the traceback; 130 when interrupted.
    """
    began, job = time.monotonic(), Path(os.environ.get(INSIDE_A_JOB, ""))
    if job.suffix == ".tsv":
        log_of(job).unlink(missing_ok=True)
    try:
        app(_repeated(sys.argv[1:] if arguments is None else arguments), prog_name="python -m braintuning")
    except Exception as error:
        line = write_failure(error)
        if not isinstance(error, InputError | NotebookError) and INSIDE_A_JOB not in os.environ:
            raise
        print(f"error: {line}", file=sys.stderr)
        return 1
    except SystemExit as end:
        if end.code == INTERRUPTED and INSIDE_A_JOB not in os.environ:
            print("interrupted; what is done is kept, and the same command goes on from there", file=sys.stderr)
        if end.code:
            return end.code
    write_own_times(time.monotonic() - began)
    return 0


def _repeated(arguments: list[str]) -> list[str]:
    """Give each of several values its option: `--stories a b` becomes `--stories a --stories b`."""
    found, option = [], None
    for word in arguments:
        if word.startswith("-"):
            option = word if word in ("--participants", "--stories") else None
        elif option and found[-1] != option:
            found.append(option)
        found.append(word)
    return found


@app.command(rich_help_panel=RUN)
def figures(
    study: StudyName = "demo",
    root: Root = None,
    device: Device = "cpu",
    cores: Annotated[int | None, typer.Option(help="processor cores; all by default")] = None,
    gpu_jobs: Annotated[int, typer.Option(help="jobs that share the GPU at a time")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the jobs and run none")] = False,
    max_memory: MaxMemory = None,
) -> None:
    """Run whatever of a study is not up to date, down to its figures and report."""
    from braintuning.datasets.manifest import require_data
    from braintuning.pipeline.engine import run_workflow
    from braintuning.pipeline.steps import require_device

    settings = load_study(study, root)
    if not dry_run:
        require_data(settings, study)
    require_device(device)
    options = {"cores": cores, "gpu_jobs": gpu_jobs, "max_memory": max_memory, "dry_run": dry_run}
    status = run_workflow(settings, device=device, **options)
    if not status and not dry_run:
        print(f"open {os.path.relpath(settings.figures_folder / 'report.html')} in a browser: all figures and tables")
    raise typer.Exit(status)


@app.command(rich_help_panel=RUN)
def notebook(
    name: Annotated[str, typer.Argument(help="name in notebooks/, without .ipynb")],
    out: Annotated[Path, typer.Option(help="where the executed notebook goes")],
    study: StudyName = "demo",
    root: Root = None,
    device: Device = "cpu",
    participant: Participant = None,
    backbone: Backbone = None,
    condition: Condition = None,
) -> None:
    """Execute a notebook with the given parameters and keep what came out."""
    from braintuning.pipeline.notebooks import execute

    file, folder = load_study(study, root).source
    given = {"study": str(file) if study.endswith((".yaml", ".yml")) else study, "root": folder, "device": device}
    given |= {"participant": participant, "backbone": backbone, "condition": condition}
    execute(name, out, {key: value for key, value in given.items() if value is not None})


@app.command(rich_help_panel=RUN)
def viewer(
    study: StudyName = "demo",
    root: Root = None,
    device: Annotated[str, typer.Option(hidden=True)] = "cpu",
    write: Annotated[bool, typer.Option("--write", help="write it anew and do not show it")] = False,
) -> None:
    """Open a study's maps on a cortex to turn and unfold in the browser, a page by itself; needs its alignment."""
    import webbrowser

    from braintuning.datasets import open_dataset
    from braintuning.figures.viewer import write_study_viewer

    settings = load_study(study, root)
    page = settings.figures_folder / "viewer" / "index.html"
    scores = [file for one in settings.alignments() if (file := settings.scores_file(*one)).is_file()]
    if write or not page.is_file() or any(file.stat().st_mtime > page.stat().st_mtime for file in scores):
        write_study_viewer(settings, open_dataset(settings))
    print(page)
    if not write:
        webbrowser.open(page.as_uri())


@app.command(rich_help_panel=RUN)
def publish(study: StudyName = "demo") -> None:
    """Copy a study's figures and tables to figures/, which git holds."""
    from braintuning.pipeline.report import publish as copy

    print(copy(load_study(study)))


@app.command(rich_help_panel=DATA)
def fetch(
    study: StudyName = "paper",
    participants: Names = None,
    stories: Names = None,
    surfaces: Surfaces = True,
    manifest: Manifest = None,
    dest: Folder = None,
    base_url: Annotated[str | None, typer.Option(help="the dataset's root on a server")] = None,
    workers: Annotated[int, typer.Option(help="files downloaded at a time")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list files and bytes only")] = False,
) -> None:
    """Download what a study needs of ds003020, or the rest of it."""
    from braintuning.datasets import download
    from braintuning.datasets.manifest import BASE_URL, MANIFEST

    options = {"dest": dest, "surfaces": surfaces, "manifest_file": manifest or MANIFEST, "workers": workers}
    options |= {"base_url": base_url or BASE_URL, "dry_run": dry_run}
    download.fetch(load_study(study), participants or (), stories or (), **options)


@app.command(rich_help_panel=DATA)
def verify(
    study: StudyName = "paper",
    participants: Names = None,
    stories: Names = None,
    surfaces: Surfaces = True,
    manifest: Manifest = None,
    dest: Folder = None,
) -> None:
    """Check size and MD5 of what a study needs of ds003020."""
    from braintuning.datasets import download
    from braintuning.datasets.manifest import MANIFEST

    options = {"dest": dest, "surfaces": surfaces, "manifest_file": manifest or MANIFEST}
    raise typer.Exit(int(download.verify(load_study(study), participants or (), stories or (), **options) > 0))


STEPS = {
    "check": ("check.check_and_record", "", "Read all that a study uses; say what is wrong, or when its TRs are read."),
    "ceiling": ("ceiling.measure_ceiling", "participant", "Measure the noise ceiling of a participant."),
    "draw-ceilings": ("ceiling.draw_ceilings", "", "Draw noise ceilings, the first panel of Figure A."),
    "tune": ("tune.tune_model", "run device max_memory", "Tune one model; under torchrun, by several processes."),
    "extract": ("extract.extract_layers", "runs device", "Layer activations of one model, or of all of a backbone."),
    "align": ("align.align", "participant run device first", "Fit encoding models to a participant and score them."),
    "nuisance": ("align.align_nuisance", "participant device", "Fit word rate, envelope and position alone."),
    "card": ("card.add_scores", "run", "Write the card of a tuned model with its alignment."),
    "low-level-features": ("low_level.measure_low_level_features", "participant", "Measure low-level features."),
    "low-level-alone": ("low_level.measure_low_level_alone", "participant device", "What low-level features explain."),
    "low-level": ("low_level.measure_impact", "participant run device", "Alignment of a residualised model."),
    "words": ("preference.synthesise_words", "", "Synthesise the words that semantic preference is measured with."),
    "preference": ("preference.semantic_preference", "run device recordings", "Semantic preference of a model."),
    "probe": ("probe.probe_tasks", "run device task", "Measure a model on the study's downstream tasks, or on one."),
    "leaks": ("probe.measure_leaks", "device", "Measure what dividing utterances at random does to a score."),
    "report": ("report.write_report", "", "Gather figures, tables and executed notebooks in one HTML page."),
}
"""Function in `pipeline`, what it takes after the study, and what it is for."""


def listeners(study: Study, people: str | None) -> tuple[str, ...]:
    """Everyone who is tested (`everyone`), who tunes models together (`tuned`), or does not (`held-out`); else nobody.

    With them the means over people that a study has.
    """
    known = {"everyone": study.tested, "tuned": study.tuned_together, "held-out": study.held_out + study.groups}
    return known.get(people, ())


OPTIONS = {
    "participant": Participant,
    "backbone": Backbone,
    "condition": Condition,
    "task": Annotated[str | None, typer.Option(help="of the study's downstream tasks; all by default")],
    "first": Annotated[int | None, typer.Option(help="training stories to fit to; all by default")],
    "recordings": Annotated[bool, typer.Option("--recordings", help="words that people said, not the voices'")],
    "max_memory": MaxMemory,
}
"""Options that some steps have."""
OF_A_RUN = {"backbone", "condition", "participant"}


def _add_step(name: str, function: str, takes: str, purpose: str) -> None:
    """Add a command that runs one step, with the options that it takes and those that every step is given."""
    takes = takes.split()

    def command(study: str, root: str | None, device: str, **given: str | float | None) -> None:
        settings, given = load_study(study, root), {"device": device} | given
        people = [given.get("participant")]
        if "participant" in takes:
            people = listeners(settings, people[0]) or people
            settings.require("participant", people[0], settings.listeners)
        if "runs" in takes and given["condition"] is None:
            settings.require("backbone", given["backbone"], tuple(settings.backbones))
            given["runs"] = [run for run in settings.runs() if run.backbone == given["backbone"]]
        elif {"run", "runs"} & set(takes):
            given["run"] = settings.run(*(given[part] for part in ("backbone", "condition", "participant")))
            given["runs"] = [given["run"]]
        module, _, work = function.partition(".")
        step = getattr(import_module(f"braintuning.pipeline.{module}"), work)
        for given["participant"] in people:
            step(settings, *(given[argument] for argument in takes))

    own = {*takes, *(OF_A_RUN if {"run", "runs"} & set(takes) else ())}
    hidden = Annotated[str, typer.Option(hidden=True)]
    kinds = {"study": StudyName, "root": Root, "device": Device if "device" in takes else hidden}
    defaults = {"study": "demo", "root": None, "device": "cpu", "recordings": False}
    command.__annotations__ = kinds | {option: kind for option, kind in OPTIONS.items() if option in own}
    command.__signature__ = Signature(
        Parameter(option, Parameter.KEYWORD_ONLY, default=defaults.get(option), annotation=kind)
        for option, kind in command.__annotations__.items()
    )
    app.command(name, help=purpose, rich_help_panel=DATA if name == "check" else STEP)(command)


for _name, _step in STEPS.items():
    _add_step(_name, *_step)
