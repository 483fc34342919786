"""The settings of a study, read from one YAML file and checked."""

from braintuning.errors import check_parameters
from braintuning.study.load import STUDIES, given_name, load_study
from braintuning.study.study import Run, Study

__all__ = ["STUDIES", "Run", "Study", "check_parameters", "given_name", "load_study"]
