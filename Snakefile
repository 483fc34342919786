# The workflow of a study. `python -m braintuning figures` calls it; it can be called by hand as well:
#   snakemake --cores 2 --config study=demo device=cpu
#   snakemake --profile workflow/profiles/slurm --config study=paper device=cuda cores=8
import os
import shlex
from pathlib import Path

from braintuning.pipeline import cost, recipes
from braintuning.pipeline.pictures import pictures_of
from braintuning.pipeline.times import INSIDE_A_JOB
from braintuning.pipeline.times import TIMES as TIMES_FILE
from braintuning.pipeline.worker import SOCKET
from braintuning.study import Run, load_study
from snakemake.scheduling.job_scheduler import JobScheduler

config = {key: value[0] if isinstance(value, list) else value for key, value in config.items()}  # see engine.py
DEVICE = config.get("device", "cpu")
STUDY = load_study(config.get("study", "demo"), config.get("root") or None)
GIVEN = ["--study", str(config.get("study", "demo")), "--device", DEVICE]
GIVEN += ["--root", str(config["root"])] if config.get("root") else []
GIVEN = " ".join(shlex.quote(word) for word in GIVEN).replace("{", "{{").replace("}", "}}")
# A fork of the run's worker, where it has one; what a job took goes into its log, and why it failed beside it.
CLIENT = "python -I -S lib/braintuning/pipeline/client.py" if SOCKET in os.environ else "python -m"
BRAINTUNING = f"{TIMES_FILE}={{log:q}} {INSIDE_A_JOB}={{log:q}} {CLIENT} braintuning"
CORES = int(config.get("cores") or workflow.cores or 1)
GPUS = int(DEVICE == "cuda")
MAX_MEMORY = f" --max-memory {config['max_memory']}" if config.get("max_memory") else ""
RESULTS, FIGURES = STUDY.results, STUDY.figures_folder
PICTURES = pictures_of(STUDY, *STUDY.figures.notebooks)
TIMES = RESULTS / "times"
TUNED = {run.name: run for run in STUDY.tuned_runs()}
RUNS = {run.name: run for run in STUDY.runs()}
MADE = recipes.of_results(STUDY)
RECIPES = {str(path): recipe.fingerprint for path, recipe in MADE.items()}
WITH_TABLES = ("align", "nuisance", "low level", "preference", "probe", "leaks")
# On a CPU jobs side by side use a processor better than threads of one job; on a GPU threads feed it.
THREADS = min(8, CORES) if GPUS else max(1, CORES // max(1, len(TUNED)))
# Time courses of regions are small and people many: one job serves all who heard a recording, and the means over them.
PEOPLE = STUDY.listeners if STUDY.dataset.recordings else ()
TUNED_ON = [participant for participant in PEOPLE if participant in STUDY.tuned_together]
HELD_OUT = [participant for participant in PEOPLE if participant not in STUDY.tuned_together]
TESTED = [participant for participant in PEOPLE if participant in STUDY.tested]
SHARED = [name for name, run in RUNS.items() if PEOPLE and not run.participant]
NOBODY = RESULTS / "nobody"
# The run that the notebooks on tuning and on alignment show; they take any other as parameters.
# People of parcellated recordings have a notebook of their own.
SHOWN = next((run for run in TUNED.values() if run.backbone == STUDY.figure_backbone and not PEOPLE), None)

VIEWED = STUDY.dataset.simulation and "fig2" in STUDY.figures.notebooks
VIEWED = VIEWED and "brain-tuned" in STUDY.conditions_of(STUDY.figure_backbone)

# Notebooks that the report links to: those of figures, and those on a dataset of participants and on one model.
EXECUTED = (["01_dataset"] if STUDY.participants and not PEOPLE else []) + list(STUDY.figures.notebooks)
EXECUTED += ["02_brain_tune", "03_brain_alignment"] if SHOWN else []

MEGABYTES = cost.megabytes(STUDY)
SIZE = max(1, len(STUDY.stories.all) // 6)
LAYERS = len(STUDY.low_level.layers) or 13
MINUTES = {"tune": 10 * SIZE * STUDY.tuning.epochs // 2, "preference": 10, "probe": 15, "dataset": 5 * SIZE}
MINUTES |= {"extract": 3 * SIZE, "align": 3 * SIZE, "low_level": 5 * SIZE * LAYERS}


def read_by(notebook):
    """Results that a notebook reads and the tables beside them, and what low-level impact was measured with."""
    results = recipes.inputs_of(STUDY, notebook)
    if notebook == "fig3":
        people = [listener for listener in STUDY.tested if listener in STUDY.participants]
        results += [*map(STUDY.low_level_features_file, people), *map(STUDY.low_level_alone_file, people)]
    return results + [path.with_suffix(".csv") for path in results if MADE[path].stored.get("stage") in WITH_TABLES]


# Only a study without results waits for the check: otherwise a new check would make every result look out of date.
# `engine.py` checks a changed study in a run of its own, since Snakemake 9.15 does not honour `ancient` behind a job that
# runs again.
CHECKED = [] if (RESULTS / "dataset.json").is_file() or (RESULTS / "ceilings").is_dir() else [RESULTS / "dataset.json"]


def recipe_of(path):
    """What of the study decides a result: a change of it runs the job again.

    A function of wildcards alone: Snakemake does not compare parameters that depend on a job's input or output.
    """
    return lambda wildcards: RECIPES[str(path).format(**dict(wildcards.items()))]


def recipes_of(paths):
    """What of the study decides several results that one job makes, a function as of `recipe_of`."""
    return lambda wildcards: [recipe_of(path)(wildcards) for path in paths]


def scores_of_people(suffix):
    """Scores of everyone with one model; of nobody in a study whose people have a job each."""
    return [RESULTS / "alignment" / participant / f"{{run}}{suffix}" for participant in TESTED]


def resources_of(step, memory=None, gpu=GPUS):
    """Resources of a job of a step: an attempt has more memory and minutes than the one before."""
    of_step = {"mem_mb": memory or (lambda wildcards, attempt: attempt * MEGABYTES[step])}
    of_step["runtime"] = lambda wildcards, attempt: attempt * MINUTES[step]
    return of_step | ({"gpu": gpu} if gpu else {})


def memory_to_tune(wildcards, attempt):
    """With what the front end makes of a run's clips or spans."""
    passes, seconds = cost.tuning_passes(STUDY, TUNED[wildcards.run])
    return attempt * (MEGABYTES["tune"] + int(4 * passes * 50 * seconds * 512) // 10**6)


def options_of(run, **more):
    parts = {"backbone": run.backbone, "condition": run.condition, "participant": run.participant, **more}
    return " ".join(f"--{name} {value}" for name, value in parts.items() if value)


def weights_of(run):
    """Weights of a backbone, and of what it is distilled from, that lie in folders."""
    backbone = STUDY.backbones[run.backbone]
    names = [backbone.name] + ([backbone.teacher] if STUDY.base(run.condition) == "bigslm-tuned" else [])
    folders = [Path(name).expanduser() for name in names]
    return [file for folder in folders for file in folder.glob("*model*") if file.suffix in (".safetensors", ".bin")]


def model_of(wildcards):
    """What a job that reads a model depends on: the tuned model, and weights that lie in a folder."""
    run = RUNS[wildcards.run]
    return ([STUDY.model_folder(run) / "provenance.json"] if run.name in TUNED else []) + weights_of(run)


def tuned_from(wildcards):
    """What tuning a model depends on: noise ceilings, and weights that lie in a folder."""
    run = TUNED[wildcards.run]
    distilled = STUDY.base(run.condition) in recipes.DISTILLED and STUDY.controls.n_targets is None
    who = STUDY.tuned_on(run) or (STUDY.participants[:1] if distilled else ())
    return [STUDY.ceiling_file(participant) for participant in who] + weights_of(run)


def scores_of(wildcards):
    """Scores of every participant whom a tuned model is compared with."""
    run = TUNED[wildcards.run]
    return [STUDY.scores_file(participant, run) for participant, _ in STUDY.alignments([run])]


def one_of(names):
    """Regular expression of some names, and of nothing where there are none."""
    return "|".join(map(re.escape, names)) or "none"


def counted(self, jobs, select=JobScheduler.job_selector):
    """Jobs to start now; Snakemake 9.15 does not count what one takes that is the only one ready, but frees it later."""
    before, selected = dict(self.resources), select(self, jobs)
    if len(jobs) == 1 and self.resources["_cores"] == before["_cores"]:
        self.update_available_resources(selected)
    return selected


JobScheduler.job_selector = counted

# Priorities have the first figures drawn early: of noise ceilings, then of what tuning did to alignment. The notebook on
# tuning takes longer than most jobs and would run alone at the end if notebooks waited for all others.
wildcard_constraints:
    run=one_of(RUNS),
    participant=one_of(STUDY.participants),
    first=r"\d+",
    recorded=r"(\.recorded)?",


rule all:
    input:
        FIGURES / "report.html",
        [FIGURES / f"{picture}{suffix}" for picture in PICTURES for suffix in (".png", ".pdf")],
        FIGURES / "viewer" / "index.html" if VIEWED else [],
        RESULTS / "dataset.json",
        [STUDY.ceiling_file(participant) for participant in STUDY.listeners],
        [STUDY.model_folder(run) / "README.md" for run in TUNED.values()],
        [STUDY.features_file(run) for run in RUNS.values()],
        [STUDY.scores_file(participant, run) for participant, run in STUDY.alignments()],
        [STUDY.scores_file(participant, RUNS[run]) for participant in TESTED for run in SHARED],
        [STUDY.nuisance_file(participant) for participant in STUDY.tested],
        # Named here because Snakemake does not remake a missing intermediate file while the figure made from it exists.
        [read_by(notebook) for notebook in EXECUTED],


rule dataset:
    message: "read and check the dataset"
    output: RESULTS / "dataset.json",
    log: TIMES / "dataset" / "dataset.tsv"
    priority: 90
    params:
        recipe=recipe_of(RESULTS / "dataset.json"),
    resources: **resources_of("dataset", gpu=0),
    shell: BRAINTUNING + " check " + GIVEN


rule ceiling:
    message: "noise ceiling of {wildcards.participant}"
    input: CHECKED,
    output: STUDY.ceiling_file("{participant}"),
    log: TIMES / "ceiling" / "{participant}.tsv"
    priority: 90
    params:
        recipe=recipe_of(STUDY.ceiling_file("{participant}")),
        participant=lambda w: w.participant,
    wildcard_constraints:
        participant=one_of(set(STUDY.participants) - set(PEOPLE)),
    resources: **resources_of("dataset", gpu=0),
    shell: BRAINTUNING + " ceiling " + GIVEN + " --participant {params.participant}"


use rule ceiling as ceilings_of_tuned with:
    message: "noise ceilings of people who tune together"
    output: [STUDY.ceiling_file(participant) for participant in TUNED_ON] or NOBODY / "tuned.h5",
    log: TIMES / "ceiling" / "tuned.tsv"
    params:
        recipe=recipes_of([STUDY.ceiling_file(participant) for participant in TUNED_ON]),
        participant="tuned",


use rule ceiling as ceilings_of_held_out with:
    message: "noise ceilings of people who are held out"
    output: [STUDY.ceiling_file(participant) for participant in HELD_OUT] or NOBODY / "held-out.h5",
    log: TIMES / "ceiling" / "held-out.tsv"
    params:
        recipe=recipes_of([STUDY.ceiling_file(participant) for participant in HELD_OUT]),
        participant="held-out",


rule tune:
    message: "tune {wildcards.run}"
    input:
        CHECKED,
        tuned_from,
    output: RESULTS / "models" / "{run}" / "provenance.json",
    log: TIMES / "tune" / "{run}.tsv"
    priority: 50
    params:
        recipe=recipe_of(RESULTS / "models" / "{run}" / "provenance.json"),
        options=lambda w: options_of(TUNED[w.run]),
    threads: THREADS
    resources: **resources_of("tune", memory_to_tune),
    shell: BRAINTUNING + " tune " + GIVEN + MAX_MEMORY + " {params.options}"


rule extract:
    message: "features of {wildcards.run}"
    input:
        CHECKED,
        model_of,
    output: RESULTS / "features" / "{run}.h5",
    log: TIMES / "extract" / "{run}.tsv"
    priority: 45
    params:
        recipe=recipe_of(RESULTS / "features" / "{run}.h5"),
        options=lambda w: options_of(RUNS[w.run]),
    threads: THREADS
    resources: **resources_of("extract"),
    shell: BRAINTUNING + " extract " + GIVEN + " {params.options}"


rule align:
    message: "align {wildcards.run} with {wildcards.participant}"
    input:
        RESULTS / "features" / "{run}.h5",
        STUDY.ceiling_file("{participant}"),
    output:
        scores=RESULTS / "alignment" / "{participant}" / "{run}.h5",
        table=RESULTS / "alignment" / "{participant}" / "{run}.csv",
    log: TIMES / "align" / "{participant}" / "{run}.tsv"
    priority: 40
    params:
        recipe=recipe_of(RESULTS / "alignment" / "{participant}" / "{run}.h5"),
        options=lambda w: options_of(RUNS[w.run], participant=w.participant),
    wildcard_constraints:
        run=one_of(set(RUNS) - set(SHARED)),
    threads: THREADS
    resources: **resources_of("align"),
    shell: BRAINTUNING + " align " + GIVEN + " {params.options}"


use rule align as align_everyone with:
    message: "align {wildcards.run} with everyone"
    input:
        RESULTS / "features" / "{run}.h5",
        [STUDY.ceiling_file(participant) for participant in TESTED],
    output:
        scores=scores_of_people(".h5") or NOBODY / "{run}.h5",
        table=scores_of_people(".csv") or NOBODY / "{run}.csv",
    log: TIMES / "align" / "everyone" / "{run}.tsv"
    params:
        recipe=recipes_of(scores_of_people(".h5")),
        options=lambda w: options_of(RUNS[w.run], participant="everyone"),
    wildcard_constraints:
        run=one_of(SHARED),


use rule align as align_first with:
    message: "align {wildcards.run} with {wildcards.participant}, first {wildcards.first} stories"
    output:
        scores=RESULTS / "alignment" / "{participant}" / "{run}.first-{first}.h5",
        table=RESULTS / "alignment" / "{participant}" / "{run}.first-{first}.csv",
    log: TIMES / "align" / "{participant}" / "{run}.first-{first}.tsv"
    params:
        recipe=recipe_of(RESULTS / "alignment" / "{participant}" / "{run}.first-{first}.h5"),
        options=lambda w: options_of(RUNS[w.run], participant=w.participant, first=w.first),
    wildcard_constraints:
        run=one_of(RUNS),


rule nuisance:
    message: "nuisance baseline of {wildcards.participant}"
    input: STUDY.ceiling_file("{participant}"),
    output:
        scores=STUDY.nuisance_file("{participant}"),
        table=STUDY.nuisance_file("{participant}").with_suffix(".csv"),
    log: TIMES / "nuisance" / "{participant}.tsv"
    priority: 40
    params:
        recipe=recipe_of(STUDY.nuisance_file("{participant}")),
        participant=lambda w: w.participant,
    wildcard_constraints:
        participant=one_of(set(STUDY.participants) - set(PEOPLE)),
    threads: THREADS
    resources: **resources_of("align"),
    shell: BRAINTUNING + " nuisance " + GIVEN + " --participant {params.participant}"


use rule nuisance as nuisance_of_everyone with:
    message: "nuisance baseline of everyone"
    input: [STUDY.ceiling_file(participant) for participant in TESTED],
    output:
        scores=[STUDY.nuisance_file(participant) for participant in TESTED] or NOBODY / "nuisance.h5",
        table=[STUDY.nuisance_file(participant).with_suffix(".csv") for participant in TESTED] or NOBODY / "nuisance.csv",
    log: TIMES / "nuisance" / "everyone.tsv"
    params:
        recipe=recipes_of([STUDY.nuisance_file(participant) for participant in TESTED]),
        participant="everyone",


rule card:
    message: "card of {wildcards.run}"
    input:
        RESULTS / "models" / "{run}" / "provenance.json",
        scores_of,
    output: RESULTS / "models" / "{run}" / "README.md",
    log: TIMES / "card" / "{run}.tsv"
    params:
        recipe=recipes.figure(STUDY, "fig2").fingerprint,
        options=lambda w: options_of(TUNED[w.run]),
    shell: BRAINTUNING + " card " + GIVEN + " {params.options}"


rule low_level_features:
    message: "low-level features"
    input: CHECKED,
    output: RESULTS / "low_level" / "features_{stories}.h5",
    log: TIMES / "low_level_features" / "{stories}.tsv"
    params:
        recipe=recipe_of(RESULTS / "low_level" / "features_{stories}.h5"),
        participant=lambda w, output: next(
            p for p in STUDY.listeners if str(STUDY.low_level_features_file(p)) == str(output[0])
        ),
    resources: **resources_of("low_level", gpu=0),
    shell: BRAINTUNING + " low-level-features " + GIVEN + " --participant {params.participant}"


rule low_level_alone:
    message: "what low-level features explain of {wildcards.participant}"
    input:
        lambda w: STUDY.low_level_features_file(w.participant),
        STUDY.ceiling_file("{participant}"),
    output: STUDY.low_level_alone_file("{participant}"),
    log: TIMES / "low_level_alone" / "{participant}.tsv"
    params:
        recipe=recipe_of(STUDY.low_level_alone_file("{participant}")),
    resources: **resources_of("low_level"),
    shell: BRAINTUNING + " low-level-alone " + GIVEN + " --participant {wildcards.participant}"


rule low_level:
    message: "low-level impact of {wildcards.run} on {wildcards.participant}"
    input:
        RESULTS / "features" / "{run}.h5",
        STUDY.ceiling_file("{participant}"),
        lambda w: STUDY.low_level_features_file(w.participant),
        STUDY.low_level_alone_file("{participant}"),
    output:
        scores=RESULTS / "low_level" / "{participant}" / "{run}.h5",
        table=RESULTS / "low_level" / "{participant}" / "{run}.csv",
    log: TIMES / "low_level" / "{participant}" / "{run}.tsv"
    params:
        recipe=recipe_of(RESULTS / "low_level" / "{participant}" / "{run}.h5"),
        options=lambda w: options_of(RUNS[w.run], participant=w.participant),
    threads: THREADS
    resources: **resources_of("low_level"),
    shell: BRAINTUNING + " low-level " + GIVEN + " {params.options}"


rule words:
    message: "synthesise words"
    output: STUDY.words_file,
    log: TIMES / "words" / "words.tsv"
    priority: 10
    params:
        recipe=recipe_of(STUDY.words_file),
    resources: **resources_of("preference", gpu=0),
    shell: BRAINTUNING + " words " + GIVEN


rule preference:
    message: "semantic preference of {wildcards.run}{wildcards.recorded}"
    input:
        model_of,
        lambda w: [] if w.recorded else STUDY.words_file,
    output:
        similarities=RESULTS / "preference" / "{run}{recorded}.h5",
        table=RESULTS / "preference" / "{run}{recorded}.csv",
    log: TIMES / "preference" / "{run}{recorded}.tsv"
    params:
        recipe=recipe_of(RESULTS / "preference" / "{run}{recorded}.h5"),
        options=lambda w: options_of(RUNS[w.run]) + (" --recordings" if w.recorded else ""),
    threads: THREADS
    resources: **resources_of("preference"),
    shell: BRAINTUNING + " preference " + GIVEN + " {params.options}"


# Tasks that were done before a kill, or before another one was asked for, stay: Snakemake would remove them first.
rule probe:
    message: "downstream tasks in {wildcards.run}"
    input: model_of,
    output:
        scores=update([RESULTS / "probes" / task / "{run}.h5" for task in STUDY.probes.tasks]),
        tables=update([RESULTS / "probes" / task / "{run}.csv" for task in STUDY.probes.tasks]),
    log: TIMES / "probe" / "{run}.tsv"
    priority: 5
    params:
        recipe=lambda w: [RECIPES[str(STUDY.probe_file(task, RUNS[w.run]))] for task in STUDY.probes.tasks],
        options=lambda w: options_of(RUNS[w.run]),
    threads: THREADS
    resources: **resources_of("probe"),
    shell: BRAINTUNING + " probe " + GIVEN + " {params.options}"


rule leaks:
    message: "leaks between speakers and prompts"
    input: weights_of(Run(STUDY.figure_backbone, "pretrained")),
    output: STUDY.leaks_file, STUDY.leaks_file.with_suffix(".csv"),
    log: TIMES / "leaks" / "leaks.tsv"
    params:
        recipe=recipe_of(STUDY.leaks_file),
    threads: THREADS
    resources: **resources_of("probe"),
    shell: BRAINTUNING + " leaks " + GIVEN


# Noise ceilings are there long before the rest of Figure A, and so is their picture.
FIRST = "figA1"

if FIRST in PICTURES:

    rule figure_of_ceilings:
        message: "figure figA1"
        input: recipes.inputs_of(STUDY, FIRST),
        output: FIGURES / f"{FIRST}.png", FIGURES / f"{FIRST}.pdf",
        log: TIMES / "figure" / f"{FIRST}.tsv"
        priority: 100
        params:
            recipe=recipes.figure(STUDY, FIRST).fingerprint,
        shell: BRAINTUNING + " draw-ceilings " + GIVEN


READ, TOLD = {notebook: recipes.inputs_of(STUDY, notebook) for notebook in EXECUTED}, {}
if SHOWN:
    ceilings = [STUDY.ceiling_file(participant) for participant in STUDY.tuned_on(SHOWN) or STUDY.participants[:1]]
    READ["02_brain_tune"] = [STUDY.model_folder(SHOWN) / "provenance.json", *ceilings]
    READ["03_brain_alignment"] = [STUDY.features_file(SHOWN), STUDY.scores_file(STUDY.participants[0], SHOWN)]
    TOLD["02_brain_tune"] = options_of(SHOWN)
    TOLD["03_brain_alignment"] = options_of(SHOWN, participant=STUDY.participants[0])

for notebook, read in READ.items():
    kind = "figure" if notebook in STUDY.figures.notebooks else "notebook"
    drawn = pictures_of(STUDY, notebook) if kind == "figure" else []

    rule:
        name: f"{kind}_of_{notebook}"
        message: f"{kind} {notebook}"
        input:
            read,
            [FIGURES / f"{FIRST}.png"] if FIRST in drawn else [],
            f"notebooks/{notebook}.ipynb",
        output:
            [FIGURES / f"{picture}{suffix}" for picture in drawn if picture != FIRST for suffix in (".png", ".pdf")],
            notebook=FIGURES / "notebooks" / f"{notebook}.ipynb",
        log: TIMES / "figure" / f"{notebook}.tsv"
        priority: 100 if kind == "figure" else 20
        params:
            recipe=recipes.figure(STUDY, notebook, read).fingerprint,
            notebook=notebook,
            options=TOLD.get(notebook, ""),
        shell: BRAINTUNING + " notebook {params.notebook:q} " + GIVEN + " {params.options} --out {output.notebook:q}"


rule viewer:
    message: "viewer"
    input: [STUDY.scores_file(participant, run) for participant, run in STUDY.alignments()],
    output: FIGURES / "viewer" / "index.html",
    log: TIMES / "viewer" / "viewer.tsv"
    params:
        recipe=recipes.figure(STUDY, "fig2").fingerprint,
    shell: BRAINTUNING + " viewer --write " + GIVEN


rule report:
    message: "report"
    input:
        [FIGURES / "notebooks" / f"{name}.ipynb" for name in EXECUTED],
        [FIGURES / f"{picture}.png" for picture in PICTURES],
    output:
        FIGURES / "report.html",
        [FIGURES / "notebooks" / f"{name}.html" for name in EXECUTED],
    log: TIMES / "report" / "report.tsv"
    shell: BRAINTUNING + " report " + GIVEN
