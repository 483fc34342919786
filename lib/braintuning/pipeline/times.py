"""What each job took, as it writes down at its end for the report and for the estimate of the next run."""

import os
import resource
from pathlib import Path

from braintuning.results import atomic_path

TIMES = "BRAINTUNING_TIMES"
"""Environment variable with the file that a job writes what it took into; the Snakefile sets it."""


def write_times(path: Path, seconds: float, cpu: float, peak: float) -> None:
    """Write what a job took.

    Parameters
    ----------
    path : Path
        Tab-separated, with columns as Snakemake's `benchmark` has them: s, max_rss, cpu_time.
    seconds : float
        From start to end.
    cpu : float
        Seconds of a processor, of the job and of the processes that it started.
    peak : float
        Memory in MiB, of the largest process.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(f"s\tmax_rss\tcpu_time\n{seconds:.2f}\t{peak:.1f}\t{cpu:.2f}\n")


def write_own_times(seconds: float) -> None:
    """Write what this process took, if it was asked to."""
    if path := os.environ.pop(TIMES, None):
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(each.ru_utime + each.ru_stime for each in used)
        write_times(Path(path), seconds, cpu, max(each.ru_maxrss for each in used) / 1024)
