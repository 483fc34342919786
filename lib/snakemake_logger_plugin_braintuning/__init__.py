"""Snakemake logger plugin: one line an event, with what is left, for how long. Found by Snakemake by its name."""

import json
import os
import sys
import time
from collections import Counter
from logging import ERROR, LogRecord
from pathlib import Path

from braintuning.pipeline import cost
from braintuning.pipeline.engine import LINE_BACK
from braintuning.pipeline.times import log_of
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


class LogHandler(LogHandlerBase):
    """Prints when a job starts and ends, figures that are drawn, what failed, and nothing else; a bar in a terminal."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.jobs: dict[int, LogRecord] = {}
        self.started: dict[int, float] = {}
        self.left: Counter[str] = Counter()
        self.failed: dict[int, str] = {}
        self.total = 0
        self.took = self.expected = 0.0
        self.costs = json.loads(os.environ.get(cost.COSTS, "null"))
        self.bar = sys.stdout.isatty() and not self.common_settings.dryrun

    def emit(self, record: LogRecord) -> None:
        """Print the record's lines, if it is worth any."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.left = Counter({rule: n for rule, n in record.stats.items() if rule != "total"})
            self.total = record.stats["total"]
            self._say(f"{self.total} jobs to do" + (f": {cost.told(self.costs, self.left)}" if self.costs else ""))
        elif event == LogEvent.JOB_INFO:
            self.jobs[record.jobid], self.started[record.jobid] = record, time.monotonic()
            self.failed.pop(record.jobid, None)  # a cluster tries a job again
            if self.common_settings.dryrun:
                print(f"  {_name(record)}", flush=True)
            else:
                self._say(f"start   {_name(record)}")
        elif event == LogEvent.JOB_FINISHED:
            self._finished(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self._failed(record.jobid, self.jobs.get(record.jobid, record))
        elif record.getMessage() == NOTHING_TO_BE_DONE_MSG:
            self._say("nothing to do, every result is up to date")
        elif record.levelno >= ERROR and event in (None, LogEvent.ERROR) and not self.failed:
            if "CalledProcessError" not in record.getMessage():  # which the job itself has told of
                self._say(record.getMessage().strip())

    def close(self) -> None:
        """Give the terminal its last line back."""
        if self.bar:
            print(LINE_BACK, end="", flush=True)
        self.bar = False
        if self.failed:
            waiting = self.left.total() - len(self.failed)
            self._say(f"{len(self.failed)} of {self.total} jobs failed, {waiting} wait for them; what is done is kept")
            print(*self.failed.values(), sep="\n")
            print("Once the cause is mended, the same command goes on from here.", flush=True)
        self.failed = {}
        super().close()

    def _failed(self, number: int, job: LogRecord) -> None:
        """Say once that a job failed and why, and remember it for the end."""
        if number in self.failed:
            return
        logs = [log for path in getattr(job, "log", None) or () if (log := log_of(Path(path))).is_file()]
        why, _, trace = (logs[0].read_text() if logs else "it ended without a word, killed perhaps").partition("\n")
        more = f"\n    its traceback: {os.path.relpath(logs[0])}" if trace else ""
        self.failed[number] = f"  {_name(job)}: {why}{more}"
        self._say(f"FAILED  {_name(job)}")

    def _finished(self, number: int) -> None:
        """Say that a job is done, when the run will be, and what was drawn."""
        job, took = self.jobs[number], time.monotonic() - self.started[number]
        self.left[job.rule_name] -= 1
        if self.costs and (kind := cost.kind_of(job.rule_name)) in self.costs["kinds"]:
            self.took, self.expected = self.took + took, self.expected + self.costs["kinds"][kind][0]
        left = self.left.total()
        self._say(f"done    {_name(job)}, {_clock(took)}; {left} left{self._until()}")
        for path in [path for path in job.output if str(path).endswith(".png")]:
            self._say(f"drawn   {os.path.relpath(path)}")

    def _until(self) -> str:
        """How long what is left will take, by the run's own speed as far as it has shown it."""
        if not self.costs or not self.left.total():
            return ""
        slower = (self.took + 60) / (self.expected + 60)
        return f", about {_clock(slower * cost.wall(self.costs, self.left))}"

    def _say(self, text: str) -> None:
        print(f"[{_clock(time.monotonic() - self.began)}] {text}", flush=True)
        if self.bar and self.total:
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
            done = self.total - self.left.total()
            full = max(10, columns // 3) * done // self.total
            drawn = f"[{'#' * full:<{max(10, columns // 3)}}] {done} of {self.total}{self._until()}"[:columns]
            # The last line is kept out of what scrolls, since jobs print as well.
            print(f"\n\x1b[A\x1b7\x1b[1;{lines - 1}r\x1b[{lines};1H\x1b[K{drawn}\x1b8", end="", flush=True)


def _name(record: LogRecord) -> str:
    return getattr(record, "rule_msg", None) or getattr(record, "rule_name", "job")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes:02d}:{seconds:02d}"
