"""A study: its settings, read from one YAML file and checked."""

from braintuning.study.study import STUDIES, Run, Study, check_parameters, load_study

__all__ = ["STUDIES", "Run", "Study", "check_parameters", "load_study"]
