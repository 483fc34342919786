"""The settings of a study, read from one YAML file and checked."""

from braintuning.errors import check_parameters
from braintuning.study.study import STUDIES, Run, Study, load_study

__all__ = ["STUDIES", "Run", "Study", "check_parameters", "load_study"]
