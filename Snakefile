# The workflow of a study. `python -m braintuning figures` calls it; it can be called by hand as well:
#   snakemake --cores 2 --config study=demo device=cpu
#   snakemake --profile workflow/profiles/slurm --config study=paper device=cuda cores=8
from pathlib import Path

from braintuning.results import fingerprint
from braintuning.study import load_study

DEVICE = config.get("device", "cpu")
ROOT = config.get("root") or ""
STUDY = load_study(config.get("study", "demo"), ROOT or None)
SHARED_OPTIONS = f"--study {config.get('study', 'demo')} --device {DEVICE}" + (f" --root {ROOT!r}" if ROOT else "")
BRAINTUNING = "python -m braintuning"
CORES = int(config.get("cores") or workflow.cores or 1)
GPUS = int(DEVICE == "cuda")
MAX_MEMORY = f" --max-memory {config['max_memory']}" if config.get("max_memory") else ""
RESULTS, FIGURES = STUDY.results, STUDY.figures_folder
TIMES = RESULTS / "times"
TUNED = {run.name: run for run in STUDY.tuned_runs()}
RUNS = {run.name: run for run in STUDY.runs()}
# On a CPU jobs side by side use a processor better than threads of one job; on a GPU threads feed it.
THREADS = min(8, CORES) if GPUS else max(1, CORES // max(1, len(TUNED)))
SCORES = [STUDY.scores_file(participant, run) for participant, run in STUDY.alignments()]
LOW_LEVEL = [STUDY.low_level_file(participant, run) for participant, run in STUDY.alignments(STUDY.main_runs())]
PROBES = [STUDY.probe_file(task, run) for task in STUDY.probes.tasks for run in STUDY.main_runs()]
PREFERENCES = [STUDY.preference_file(run) for run in STUDY.main_runs()]
CEILINGS = [STUDY.ceiling_file(participant) for participant in STUDY.participants]
SHARED_WITH_CLAIMS = {"fig3": LOW_LEVEL, "fig4": PROBES, "fig5": PREFERENCES}
FIGURE_INPUTS = {
    "figA1": CEILINGS,
    **SHARED_WITH_CLAIMS,
    **dict.fromkeys(("fig2", "figA2", "figA3", "figA4", "figA5", "figB1", "figB2", "figB3"), SCORES),
    "claims": SCORES
    + sum((SHARED_WITH_CLAIMS.get(figure, []) for figure in STUDY.figures.notebooks), [])
    + [FIGURES / f"{figure}.png" for figure in STUDY.figures.notebooks if figure == "figB1"],
    **dict.fromkeys(("alice", "alice_joint"), [STUDY.features_file(run) for run in RUNS.values()]),
}

# Beside what grows with the data, a third more than a job of the demo took at most on one thread (data/results/demo/times).
ROWS_A_STORY, VOXELS, REPEATS = (150, 60_000, 5) if STUDY.dataset.simulation else (400, 110_000, 10)
ROWS = ROWS_A_STORY * len(STUDY.stories.all)
RESPONSES = 4 * ROWS * VOXELS // 10**6
FRONTS = 4 * ROWS * 500 * 512 // 10**6
MEGABYTES = {"dataset": 1500 + 10 * REPEATS * ROWS_A_STORY * VOXELS // 10**6, "tune": 4000 + FRONTS, "extract": 1500}
MEGABYTES |= {"align": 1500 + 2 * RESPONSES, "low_level": 2500 + 2 * RESPONSES, "preference": 2000, "probe": 2000}
HEARD = max(1, len(STUDY.stories.all) // 6)
LAYERS = len(STUDY.low_level.layers) or 13
MINUTES = {"tune": 10 * HEARD * STUDY.tuning.epochs // 2, "preference": 10, "probe": 15, "dataset": 5 * HEARD}
MINUTES |= {"extract": 3 * HEARD, "align": 3 * HEARD, "low_level": 3 * HEARD * LAYERS}


def options_of(run, **more):
    parts = {"backbone": run.backbone, "condition": run.condition, "participant": run.participant, **more}
    return " ".join(f"--{name} {value}" for name, value in parts.items() if value)


def weights_of(run):
    weights = Path(STUDY.backbones[run.backbone].name) / "model.safetensors"
    return [weights] if weights.is_file() else []


def model_of(run):
    return [STUDY.model_folder(run) / "provenance.json"] if run.name in TUNED else []


def ceilings_for(run):
    return [STUDY.ceiling_file(participant) for participant in STUDY.tuned_on(run) or STUDY.participants[:1]]


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)),
    participant="|".join(map(re.escape, STUDY.participants)) or "none",
    figure="|".join(STUDY.figures.notebooks),


rule all:
    input:
        FIGURES / "report.html",
        FIGURES / "viewer" / "index.html" if STUDY.dataset.simulation and "fig2" in STUDY.figures.notebooks else [],
        RESULTS / "dataset.json",
        CEILINGS,
        [STUDY.model_folder(run) / "provenance.json" for run in TUNED.values()],
        [STUDY.features_file(run) for run in RUNS.values()],
        SCORES,
        sum((made for figure, made in SHARED_WITH_CLAIMS.items() if figure in STUDY.figures.notebooks), []),


rule dataset:
    message: "read and check the dataset"
    output: RESULTS / "dataset.json",
    params:
        settings=fingerprint([STUDY.dataset.model_dump(), STUDY.participants, STUDY.stories.model_dump()]),
    resources:
        mem_mb=lambda w, attempt: attempt * MEGABYTES["dataset"],
        runtime=lambda w, attempt: attempt * MINUTES["dataset"],
    shell: BRAINTUNING + " check " + SHARED_OPTIONS + " --out {output}"


rule ceiling:
    message: "noise ceiling of {wildcards.participant}"
    input: ancient(RESULTS / "dataset.json"),
    output: STUDY.ceiling_file("{participant}"),
    benchmark: TIMES / "ceiling" / "{participant}.tsv"
    params:
        settings=fingerprint([STUDY.encoding.mask_from, STUDY.encoding.test_skip_rows, STUDY.dataset.model_dump()]),
    resources:
        mem_mb=lambda w, attempt: attempt * MEGABYTES["dataset"],
        runtime=lambda w, attempt: attempt * MINUTES["dataset"],
    shell: BRAINTUNING + " ceiling " + SHARED_OPTIONS + " --participant {wildcards.participant}"


rule look_at_dataset:
    message: "notebook 01_dataset"
    input: CEILINGS,
    output: FIGURES / "notebooks" / "01_dataset.ipynb",
    shell: BRAINTUNING + " notebook 01_dataset " + SHARED_OPTIONS + " --out {output}"


rule tune:
    message: "tune {wildcards.run}"
    input:
        lambda w: ceilings_for(TUNED[w.run]),
        lambda w: weights_of(TUNED[w.run]),
    output:
        model=RESULTS / "models" / "{run}" / "provenance.json",
        notebook=FIGURES / "notebooks" / "02_brain_tune_{run}.ipynb",
    benchmark: TIMES / "tune" / "{run}.tsv"
    params:
        options=lambda w: options_of(TUNED[w.run]),
        settings=lambda w: fingerprint(
            [
                STUDY.tuning_of(TUNED[w.run].condition).model_dump(),
                STUDY.stories.model_dump(),
                STUDY.controls.model_dump(),
                STUDY.dataset.model_dump(),
                STUDY.tuned_together,
                STUDY.backbones[TUNED[w.run].backbone].model_dump(),
            ]
        ),
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=lambda w, attempt: attempt * MEGABYTES["tune"],
        runtime=lambda w, attempt: attempt * MINUTES["tune"],
    shell: BRAINTUNING + " notebook 02_brain_tune " + SHARED_OPTIONS + MAX_MEMORY + " {params.options} --out {output.notebook}"


rule extract:
    message: "features of {wildcards.run}"
    input:
        ancient(RESULTS / "dataset.json"),
        lambda w: model_of(RUNS[w.run]),
        lambda w: weights_of(RUNS[w.run]),
    output: RESULTS / "features" / "{run}.h5",
    benchmark: TIMES / "extract" / "{run}.tsv"
    params:
        options=lambda w: options_of(RUNS[w.run]),
        settings=lambda w: fingerprint(
            [STUDY.features.model_dump(), STUDY.stories.model_dump(), STUDY.backbones[RUNS[w.run].backbone].model_dump()]
        ),
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=lambda w, attempt: attempt * MEGABYTES["extract"],
        runtime=lambda w, attempt: attempt * MINUTES["extract"],
    shell: BRAINTUNING + " extract " + SHARED_OPTIONS + " {params.options}"


rule align:
    message: "align {wildcards.run} with {wildcards.participant}"
    input:
        RESULTS / "features" / "{run}.h5",
        STUDY.ceiling_file("{participant}"),
    output:
        scores=RESULTS / "alignment" / "{participant}" / "{run}.h5",
        table=RESULTS / "alignment" / "{participant}" / "{run}.csv",
        notebook=FIGURES / "notebooks" / "03_brain_alignment_{participant}_{run}.ipynb",
    benchmark: TIMES / "align" / "{participant}" / "{run}.tsv"
    params:
        options=lambda w: options_of(RUNS[w.run], participant=w.participant),
        settings=fingerprint(STUDY.encoding.model_dump()),
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=lambda w, attempt: attempt * MEGABYTES["align"],
        runtime=lambda w, attempt: attempt * MINUTES["align"],
    shell: BRAINTUNING + " notebook 03_brain_alignment " + SHARED_OPTIONS + " {params.options} --out {output.notebook}"


rule low_level:
    message: "low-level impact of {wildcards.run} on {wildcards.participant}"
    input:
        RESULTS / "features" / "{run}.h5",
        STUDY.ceiling_file("{participant}"),
    output:
        scores=RESULTS / "low_level" / "{participant}" / "{run}.h5",
        table=RESULTS / "low_level" / "{participant}" / "{run}.csv",
    benchmark: TIMES / "low_level" / "{participant}" / "{run}.tsv"
    params:
        options=lambda w: options_of(RUNS[w.run], participant=w.participant),
        settings=fingerprint([STUDY.encoding.model_dump(), STUDY.low_level.model_dump()]),
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=lambda w, attempt: attempt * MEGABYTES["low_level"],
        runtime=lambda w, attempt: attempt * MINUTES["low_level"],
    shell: BRAINTUNING + " low-level " + SHARED_OPTIONS + " {params.options}"


rule preference:
    message: "semantic preference of {wildcards.run}"
    input: lambda w: model_of(RUNS[w.run]),
    output:
        similarities=RESULTS / "preference" / "{run}.h5",
        table=RESULTS / "preference" / "{run}.csv",
    benchmark: TIMES / "preference" / "{run}.tsv"
    params:
        options=lambda w: options_of(RUNS[w.run]),
        settings=lambda w: fingerprint(
            [STUDY.preference.model_dump(), STUDY.backbones[RUNS[w.run].backbone].model_dump()]
        ),
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=lambda w, attempt: attempt * MEGABYTES["preference"],
        runtime=lambda w, attempt: attempt * MINUTES["preference"],
    shell: BRAINTUNING + " preference " + SHARED_OPTIONS + " {params.options}"


rule probe:
    message: "downstream tasks in {wildcards.run}"
    input: lambda w: model_of(RUNS[w.run]),
    output:
        scores=[RESULTS / "probes" / task / "{run}.h5" for task in STUDY.probes.tasks],
        tables=[RESULTS / "probes" / task / "{run}.csv" for task in STUDY.probes.tasks],
    benchmark: TIMES / "probe" / "{run}.tsv"
    params:
        options=lambda w: options_of(RUNS[w.run]),
        settings=lambda w: fingerprint([STUDY.probes.model_dump(), STUDY.backbones[RUNS[w.run].backbone].model_dump()]),
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=lambda w, attempt: attempt * MEGABYTES["probe"],
        runtime=lambda w, attempt: attempt * MINUTES["probe"],
    shell: BRAINTUNING + " probe " + SHARED_OPTIONS + " {params.options}"


rule figure:
    message: "figure {wildcards.figure}"
    input:
        data=lambda w: FIGURE_INPUTS[w.figure],
        notebook="notebooks/{figure}.ipynb",
    output:
        notebook=FIGURES / "notebooks" / "{figure}.ipynb",
        png=FIGURES / "{figure}.png",
        pdf=FIGURES / "{figure}.pdf",
    benchmark: TIMES / "figure" / "{figure}.tsv"
    params:
        settings=fingerprint([STUDY.figures.model_dump(), STUDY.encoding.model_dump()]),
    shell: BRAINTUNING + " notebook {wildcards.figure} " + SHARED_OPTIONS + " --out {output.notebook}"


rule viewer:
    message: "viewer"
    input: SCORES,
    output: FIGURES / "viewer" / "index.html",
    shell: BRAINTUNING + " viewer --write " + SHARED_OPTIONS


rule report:
    message: "report"
    input:
        FIGURES / "notebooks" / "01_dataset.ipynb" if STUDY.participants else [],
        [FIGURES / "notebooks" / f"{figure}.ipynb" for figure in STUDY.figures.notebooks],
        [FIGURES / f"{figure}.png" for figure in STUDY.figures.notebooks],
    output: FIGURES / "report.html",
    shell: BRAINTUNING + " report " + SHARED_OPTIONS
