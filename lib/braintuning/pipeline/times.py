"""What each job took, or why it failed, as it writes down at its end: for the report, the next estimate, the user."""

import os
import resource
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from braintuning.errors import InputError, NotebookError
from braintuning.results import atomic_path

LIBRARY = Path(__file__).resolve().parents[1]
TIMES = "BRAINTUNING_TIMES"
"""Environment variable with the file that a job writes what it took into; the Snakefile sets it."""
INSIDE_A_JOB = "BRAINTUNING_JOB"
"""Environment variable of the Snakefile's jobs, whose inputs are up to date: the same file, beside which a log goes."""


def write_times(path: Path, seconds: float, cpu: float, peak: float) -> None:
    """Write what a job took: seconds from start to end, and of a processor with the processes that it started.

    `peak` is MiB of the largest process. The file is tab-separated, with columns as Snakemake's `benchmark` has them.
    """
    log_of(path).unlink(missing_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(f"s\tmax_rss\tcpu_time\n{seconds:.2f}\t{peak:.1f}\t{cpu:.2f}\n")


def read_times(folder: Path, since: float = 0.0) -> Iterator[dict[str, Any]]:
    """Step and columns of `write_times` of every job that left them in a folder, since a moment (s, as `time.time`)."""
    for path in sorted(folder.rglob("*.tsv")):
        found = path.stat()
        if found.st_size and found.st_mtime >= since:  # Snakemake leaves an empty one where a job failed
            head, values = (line.split("\t") for line in path.read_text().splitlines())
            yield {"step": path.relative_to(folder).parts[0], **dict(zip(head, map(float, values), strict=True))}


def write_own_times(seconds: float) -> None:
    """Write what this process took, if it was asked to."""
    if path := os.environ.pop(TIMES, None):
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(each.ru_utime + each.ru_stime for each in used)
        write_times(Path(path), seconds, cpu, max(each.ru_maxrss for each in used) / 1024)


def log_of(times: Path) -> Path:
    """Where a job says why it failed, by where it says what it took."""
    return times.with_suffix(".log")


def write_failure(error: Exception) -> str:
    """What stopped this process, in one line; within a job it is written into the job's log.

    An error that is no sentence for the user comes with the last line of the library's own code, and the log has its
    traceback.
    """
    line = " ".join(str(error).split())
    trace = ""
    if not isinstance(error, InputError | NotebookError):
        every = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in every if Path(frame.filename).is_relative_to(LIBRARY)]
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        line = f"{type(error).__name__}: {line}{where}"
        trace = "".join(traceback.format_exception(error))
    job = Path(os.environ.get(INSIDE_A_JOB, ""))
    if job.suffix == ".tsv":
        with atomic_path(log_of(job)) as temporary:
            temporary.write_text(f"{line}\n{trace}")
    return line
