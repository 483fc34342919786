"""Snakemake logger plugin: one line a job, with elapsed time and how many are left. Found by Snakemake by its name."""

import time
from logging import ERROR, LogRecord

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


class LogHandler(LogHandlerBase):
    """Prints when a job starts and ends, what failed, and nothing else."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.jobs: dict[int, tuple[str, float]] = {}
        self.total = self.done = 0

    def emit(self, record: LogRecord) -> None:
        """Print the record's line, if it is worth one."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.total = record.stats["total"]
            self._say(f"{self.total} jobs to do")
        elif event == LogEvent.JOB_INFO:
            self.jobs[record.jobid] = (record.rule_msg or record.rule_name, time.monotonic())
            if self.common_settings.dryrun:
                print(f"  {self.jobs[record.jobid][0]}", flush=True)
            else:
                self._say(f"start   {self.jobs[record.jobid][0]}")
        elif event == LogEvent.JOB_FINISHED:
            name, started = self.jobs.get(record.job_id, ("job", self.began))
            self.done += 1
            self._say(f"done    {name}, {_clock(time.monotonic() - started)}; {self.total - self.done} left")
        elif event == LogEvent.JOB_ERROR:
            self._say(f"FAILED  {self.jobs.get(record.jobid, (record.rule_name, 0))[0]}")
        elif record.getMessage() == NOTHING_TO_BE_DONE_MSG:
            self._say("nothing to do, every result is up to date")
        elif record.levelno >= ERROR and event in (None, LogEvent.ERROR):
            self._say(record.getMessage().strip())

    def _say(self, text: str) -> None:
        print(f"[{_clock(time.monotonic() - self.began)}] {text}", flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes:02d}:{seconds:02d}"
