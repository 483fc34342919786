"""Steps one after the other, without the workflow that orders them."""

from pathlib import Path

import pytest
from braintuning.cli import main
from braintuning.pipeline.align import align, align_nuisance
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.engine import INSIDE_A_JOB, run_workflow
from braintuning.pipeline.extract import extract_layers
from braintuning.pipeline.low_level import measure_impact, measure_low_level_alone, measure_low_level_features
from braintuning.pipeline.tune import tune_model
from braintuning.study import Run, Study


def tuned(study: Study, run: Run) -> Path:
    """Noise ceilings, then the model."""
    for participant in study.tuned_on(run) or study.participants[:1]:
        measure_ceiling(study, participant)
    return tune_model(study, run)


def extracted(study: Study, run: Run) -> Path:
    """The model where it has to be tuned, then its features."""
    if run.condition != "pretrained":
        tuned(study, run)
    return extract_layers(study, [run])[0]


def aligned(study: Study, participant: str, run: Run) -> Path:
    """Noise ceiling and features, then the scores."""
    measure_ceiling(study, participant)
    extracted(study, run)
    return align(study, participant, run)


def baseline(study: Study, participant: str) -> Path:
    """Noise ceiling, then the scores of word rate, envelope and position alone."""
    measure_ceiling(study, participant)
    return align_nuisance(study, participant)


def impact(study: Study, participant: str, run: Run) -> Path:
    """Noise ceiling, features and low-level features, then alignment without these."""
    measure_ceiling(study, participant)
    extracted(study, run)
    measure_low_level_features(study, participant)
    measure_low_level_alone(study, participant)
    return measure_impact(study, participant, run)


def whole(study: Study) -> None:
    """Every step of a study down to its own figures and the report, in the workflow's order but in this process.

    Each is the command that the workflow runs, without its start of Python.
    """
    file, root = study.source
    given = ["--study", str(file), *(["--root", root] if root else [])]

    def do(*words: str) -> None:
        assert main([*words, *given]) == 0, words

    def options_of(run: Run, participant: str | None = None) -> list[str]:
        parts = {"backbone": run.backbone, "condition": run.condition, "participant": participant or run.participant}
        return [word for name, value in parts.items() if value for word in (f"--{name}", value)]

    do("check")
    for participant in study.participants:
        do("ceiling", "--participant", participant)
        do("nuisance", "--participant", participant)
    for run in study.tuned_runs():
        do("tune", *options_of(run))
    for backbone in study.backbones:
        do("extract", "--backbone", backbone)
    for participant, run in study.alignments():
        do("align", *options_of(run, participant))
    for run in study.tuned_runs():
        do("card", *options_of(run))
    if "fig3" in study.figures.notebooks:
        for participant in study.participants:
            do("low-level-features", "--participant", participant)
            do("low-level-alone", "--participant", participant)
        for participant, run in study.alignments():
            do("low-level", *options_of(run, participant))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(INSIDE_A_JOB, "1")
        for name in study.figures.notebooks:
            do("notebook", name, "--out", str(study.figures_folder / "notebooks" / f"{name}.ipynb"))
    if study.dataset.simulation and "fig2" in study.figures.notebooks:
        do("viewer", "--write")
    do("report")


def is_up_to_date(study: Study, capfd: pytest.CaptureFixture) -> bool:
    """Whether the workflow finds every result of a study where it looks for it, and none older than its sources."""
    capfd.readouterr()
    assert run_workflow(study, dry_run=True) == 0
    return "nothing to do" in capfd.readouterr().out
