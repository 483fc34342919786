"""Jobs of a run as forks of one process that has imported what they import, so that each starts in no time.

`engine.run_workflow` starts it beside Snakemake. It imports nothing until the first job asks, starts no threads and
touches no GPU. A job's command, `client.py`, hands over its streams and waits: where it is killed its fork is, and
where the worker is killed its forks are.
"""

import ctypes
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from braintuning.pipeline.times import TIMES, log_of, write_times

SOCKET = "BRAINTUNING_WORKER"
"""Environment variable with the path at which the worker listens; `client.py` reads it."""
IMPORTED = ("tune", "extract", "align", "low_level", "preference", "probe", "card", "check", "report", "notebooks")
IMPORTED = (
    *(f"braintuning.pipeline.{name}" for name in IMPORTED), "transformers.models.whisper.modeling_whisper",
    "himalaya.ridge", "sklearn.linear_model", "papermill", "ipykernel.kernelapp", "matplotlib.pyplot",
    "braintuning.figures.tables",
)  # fmt: skip
INLINE = "module://matplotlib_inline.backend_inline"
PR_SET_PDEATHSIG = 1
GRACE = 2.0
"""Seconds in which forks that were interrupted with the run may tidy up."""
KILLED = ("it ended by signal {0}", "it was killed with {1:.1f} GiB of memory; most likely the machine had no more")
"""What is said of a job that a signal ended: any, or SIGKILL."""
LONGEST_PARENT = 103 - len("/kernel-12345678/ipc-5")
"""Bytes of a folder's path that leave room for a socket's name; macOS takes 103, Linux 107."""


@contextmanager
def folder_for_sockets(prefix: str) -> Iterator[Path | None]:
    """Yield a new folder of this user alone, elsewhere where TMPDIR is too long for names of sockets; None nowhere."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")):
        if len(os.fsencode(parent)) <= LONGEST_PARENT and os.access(parent, os.W_OK | os.X_OK):
            with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder:
                yield Path(folder)
            return
    yield None


@contextmanager
def listening(
    environment: dict[str, str], imported: Sequence[str] = IMPORTED
) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Start a worker for a run of Snakemake in this environment; it imports modules before its first fork.

    Yields the environment with what tells the run's jobs, and kernels of its notebooks, where the worker is, and
    descriptors for Snakemake to inherit: when all who hold one have ended, the worker ends. As given, and none, on
    other systems than Linux, whose libraries do not all bear a fork.
    """
    with folder_for_sockets("worker-") as folder:
        if folder is None or sys.platform != "linux":
            yield environment, ()
            return
        kernel, address = folder / "kernels" / "python3" / "kernel.json", str(folder / "s")
        kernel.parent.mkdir(parents=True)
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("client.py")), "ipykernel_launcher"]
        command += ["-f", "{connection_file}"]
        kernel.write_text(json.dumps({"argv": command, "display_name": "python3", "language": "python"}))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(128)
            ends, held = os.pipe()
            one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            # torch asks the driver by NVML then whether there is a GPU, after which a fork can still use it.
            own = {**environment, **one_thread, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
            command = [sys.executable, "-m", __spec__.name, listener.fileno(), ends, *imported]
            worker = subprocess.Popen(list(map(str, command)), env=own, pass_fds=(listener.fileno(), ends))
        os.close(ends)
        kernels = os.pathsep.join(filter(None, [str(folder), environment.get("JUPYTER_PATH")]))
        try:
            yield {**environment, SOCKET: address, "JUPYTER_PATH": kernels}, (held,)
        finally:
            os.close(held)
            worker.wait()


@dataclass
class _Job:
    """A fork, what waits for it, and what forks that it started itself (kernels) took."""

    pid: int
    client: socket.socket
    request: dict
    began: float = field(default_factory=time.monotonic)
    cpu: float = 0.0
    peak: float = 0.0
    kernels: "list[_Job]" = field(default_factory=list)


class Worker:
    """Forks a child for each client that connects to a listening socket, until `ends`, a pipe, is at its end."""

    def __init__(self, listener: socket.socket, ends: int, imported: Sequence[str]) -> None:
        self.listener, self.ends, self.imported = listener, ends, list(imported)
        self.jobs: dict[int, _Job] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.selector.register(ends, selectors.EVENT_READ)

    def serve(self) -> list[str] | None:
        """Fork until the run has ended; returns None then, and in a fork the command that it is to run."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    if request := self._fork():
                        return request["command"]
                elif key.fileobj == self.ends:
                    return self._end_all()
                else:
                    self._heed(key)

    def _heed(self, key: selectors.SelectorKey) -> None:
        """A fork has ended, or the client that waits for it: then it ends."""
        if key.data.pid not in self.jobs:
            return
        if key.fileobj is key.data.client:
            self.selector.unregister(key.fileobj)
            os.kill(key.data.pid, signal.SIGKILL)
        else:
            self._ended(key.fileobj, key.data)

    def _fork(self) -> dict | None:
        """Fork for a client; in the fork, what it asked for."""
        client, _ = self.listener.accept()
        header, streams, _, _ = socket.recv_fds(client, 16, 3)
        with client.makefile("rb") as reader:
            content = reader.read(int(header or 0))
        request = json.loads(content) if header and len(content) == int(header) else None
        if request:
            import_all(self.imported)
        pid = os.fork() if request else None
        if pid == 0:
            for one in [client, *(key.fileobj for key in self.selector.get_map().values())]:
                os.close(one) if isinstance(one, int) else one.close()
            self.selector.close()
            _become(request, streams)
            return request
        for stream in streams:
            os.close(stream)
        if pid is None:
            return client.close()
        job = self.jobs[pid] = _Job(pid, client, request)
        if parent := self.jobs.get(request["parent"]):
            parent.kernels.append(job)
        self.selector.register(client, selectors.EVENT_READ, job)
        self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ, job)

    def _ended(self, descriptor: int, job: _Job) -> None:
        """Tell a fork's client how it ended, and write down what it took if that is asked for."""
        self.selector.unregister(descriptor)
        os.close(descriptor)
        _, status, usage = os.wait4(job.pid, 0)
        del self.jobs[job.pid]
        for kernel in job.kernels:
            if kernel.pid in self.jobs:
                os.kill(kernel.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(status)
        job.cpu += usage.ru_utime + usage.ru_stime
        job.peak = max(job.peak, usage.ru_maxrss / 1024)
        if parent := self.jobs.get(job.request["parent"]):
            parent.cpu, parent.peak = parent.cpu + job.cpu, max(parent.peak, job.peak)
        elif path := job.request["environment"].get(TIMES):
            if code == 0:
                write_times(Path(path), time.monotonic() - job.began, job.cpu, job.peak)
            elif code < 0 and code != -signal.SIGINT:
                log_of(Path(path)).parent.mkdir(parents=True, exist_ok=True)
                log_of(Path(path)).write_text(f"{KILLED[code == -signal.SIGKILL].format(-code, job.peak / 1024)}\n")
        with suppress(KeyError):
            self.selector.unregister(job.client)
        with suppress(OSError), job.client:
            job.client.sendall(b"%d" % (code if code >= 0 else 128 - code))

    def _end_all(self) -> None:
        """Wait a moment for forks that still run, and kill what is left of them."""
        self.selector.unregister(self.ends)
        self.selector.unregister(self.listener)
        until = time.monotonic() + GRACE
        while self.jobs and (left := until - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                self._heed(key)
        for pid in self.jobs:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def import_all(names: list[str]) -> None:
    """Import modules and empty the list; whatever this machine lacks is left to the step that needs it."""
    if names:
        for name in names:
            with suppress(ImportError):
                import_module(name)
        names.clear()
        gc.collect()
        gc.freeze()


def _become(request: dict, streams: list[int]) -> None:
    """Make a fork look like a process that its client had started; it ends when the worker does."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.environ.pop(TIMES, None)
    module, *_ = sys.argv = request["command"]
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    if threads != 1:  # libraries were imported for one
        import threadpoolctl
        import torch

        torch.set_num_threads(threads)
        threadpoolctl.threadpool_limits(threads)
    if module == "ipykernel_launcher":
        sys.argv.append(f"--IPKernelApp.parent_handle={os.getppid()}")
        if "matplotlib" in sys.modules:
            import matplotlib as mpl

            mpl.rcParams["backend"] = os.environ.setdefault("MPLBACKEND", INLINE)


def main() -> None:
    """Listen at a socket until a pipe's end; arguments are their descriptors and the modules to import."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    if command := Worker(listener, int(sys.argv[2]), sys.argv[3:]).serve():
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
