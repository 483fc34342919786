"""Steps one after the other, without the workflow that orders them."""

from pathlib import Path

from braintuning.pipeline.align import align, align_nuisance
from braintuning.pipeline.ceiling import measure_ceiling
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
