"""Noise ceilings."""

from braintuning.alignment.encoding import group_mean_ceiling, leave_one_out_correlation, noise_ceiling

__all__ = ["group_mean_ceiling", "leave_one_out_correlation", "noise_ceiling"]
