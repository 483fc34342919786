"""Commands run through the client and a worker behave as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from braintuning.pipeline import client, worker
from braintuning.pipeline.times import TIMES

CLIENT = [sys.executable, "-I", "-S", client.__file__]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands run by themselves on other systems")
MODULE = """
import json, os, signal, subprocess, sys, time

what, *rest = sys.argv[1:]
if what == "tell":
    import torch
    blas = torch.get_num_threads()
    print(json.dumps([rest, os.getcwd(), os.environ["COLOUR"], os.getppid(), blas, sys.stdin.read()]))
    print("to the other stream", file=sys.stderr)
elif what == "parent":
    print(os.getppid())
elif what == "end":
    sys.exit(int(rest[0]))
elif what == "signal":
    os.kill(os.getpid(), int(rest[0]))
elif what == "fail":
    raise ValueError("as it should")
elif what == "work":
    block, until = bytearray(200 << 20), time.process_time() + 1.0
    while time.process_time() < until:
        pass
    if rest:
        subprocess.run([*json.loads(rest[0]), "mine", "work"], check=True)
elif what == "kernel":
    from jupyter_client.manager import start_new_kernel

    manager, kernel = start_new_kernel(kernel_name="python3")
    tell = "import os, sys; print(os.getppid(), 'threadpoolctl' in sys.modules)"
    kernel.execute_interactive(tell, timeout=100)
    kernel.stop_channels()
    manager.shutdown_kernel()
elif what == "sleep":
    with open(rest[0], "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Environment for clients of a worker whose modules are few, and the pipe that it lives by."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "mine.py").write_text(MODULE)
    path = os.pathsep.join([str(folder), str(Path(worker.__file__).parents[2])])
    with worker.listening({**os.environ, "PYTHONPATH": path}, ["threadpoolctl", "no.such"]) as (env, held):
        assert held and Path(env[worker.SOCKET]).is_socket()
        yield env


def ask(env, *command, **more):
    env = {**env, "OMP_NUM_THREADS": "1"} | more.pop("more", {})
    return subprocess.run([*CLIENT, "mine", *command], capture_output=True, text=True, timeout=300, env=env, **more)


def test_a_command_has_its_arguments_folder_environment_threads_and_streams(running, tmp_path):
    ended = ask(
        running, "tell", "a b", "ü", cwd=tmp_path, more={"COLOUR": "grün", "OMP_NUM_THREADS": "2"}, input="typed"
    )
    arguments, folder, colour, parent, threads, typed = json.loads(ended.stdout)
    assert (arguments, folder, colour, typed, threads) == (["a b", "ü"], str(tmp_path), "grün", "typed", 2)
    assert ended.stderr == "to the other stream\n" and ended.returncode == 0
    assert int(ask(running, "parent").stdout) == parent != os.getpid(), "another worker, or none"


@pytest.mark.parametrize(("command", "status"), [(("end", "0"), 0), (("end", "7"), 7), (("signal", "9"), 137)])
def test_a_command_ends_as_it_would_by_itself(running, command, status):
    assert ask(running, *command).returncode == status


def test_an_error_is_told_in_full(running):
    ended = ask(running, "fail")
    assert ended.returncode == 1 and ended.stderr.endswith("ValueError: as it should\n")


def test_a_kernel_of_a_notebook_is_a_fork_as_well(running):
    parent = int(ask(running, "parent").stdout)
    ended = ask(running, "kernel")
    assert ended.stdout.split() == [str(parent), "True"], ended.stderr


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def started(env, note):
    process = subprocess.Popen([*CLIENT, "mine", "sleep", note], env=env)
    while not (note.exists() and note.read_text()):
        time.sleep(0.01)
    return process, int(note.read_text())


def gone(pid):
    until = time.monotonic() + 10
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


def test_a_killed_client_takes_what_it_ran_with_it_and_nothing_else(running, tmp_path):
    victim, victims = started(running, tmp_path / "a")
    other, others = started(running, tmp_path / "b")
    victim.kill()
    victim.wait()
    assert gone(victims) and alive(others)
    other.kill()
    other.wait()
    assert gone(others)


def test_times_and_memory_are_those_of_the_job_and_of_what_it_started(running, tmp_path):
    alone, both = tmp_path / "alone.tsv", tmp_path / "both.tsv"
    assert ask(running, "work", more={TIMES: str(alone)}).returncode == 0
    assert ask(running, "work", json.dumps(CLIENT), more={TIMES: str(both)}).returncode == 0
    one, two = (pd.read_csv(path, sep="\t").iloc[0] for path in (alone, both))
    assert 0.9 < one["cpu_time"] < 1.8 < two["cpu_time"] < 3
    assert one["s"] >= 0.9 and two["s"] >= 1.9
    assert min(one["max_rss"], two["max_rss"]) > 200
    assert ask(running, "end", "1", more={TIMES: str(tmp_path / "none")}).returncode == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("number", "said"), [(9, "it was killed with 0."), (11, "it ended by signal 11"), (2, None)])
def test_of_a_job_that_a_signal_ended_its_log_says_so(running, tmp_path, number, said):
    times = tmp_path / "some" / "a.tsv"
    subprocess.run([*CLIENT, "mine", "signal", str(number)], env={**running, TIMES: str(times)}, capture_output=True)
    log = times.with_suffix(".log")
    assert not times.exists() and (log.read_text().startswith(said) if said else not log.exists())


def test_when_the_run_ends_what_it_started_ends(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    path = os.pathsep.join([str(tmp_path), str(Path(worker.__file__).parents[2])])
    with worker.listening({**os.environ, "PYTHONPATH": path}, ()) as (env, _):
        process, pid = started(env, tmp_path / "note")
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert gone(pid) and gone(parent)
    assert process.wait(10) != 0
    process, pid = started(env, tmp_path / "by itself")
    assert process.pid == pid, "without a worker the client becomes the command"
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_takes_its_forks_with_it(tmp_path, number):
    (tmp_path / "mine.py").write_text(MODULE)
    path = os.pathsep.join([str(tmp_path), str(Path(worker.__file__).parents[2])])
    with worker.listening({**os.environ, "PYTHONPATH": path}, ()) as (env, _):
        process, pid = started(env, tmp_path / "note")
        os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), number)
        assert gone(pid) and process.wait(10) == 1


def test_importing_what_is_imported_before_forks_starts_no_thread_of_ours_and_finds_no_gpu():
    source = """
import os, sys, threading, torch
from braintuning.pipeline import worker

worker.import_all([*worker.IMPORTED])
names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
print(threading.active_count(), len(names) - ("jemalloc_bg_thd" in names), torch.cuda.is_initialized())
print(*[name for name in worker.IMPORTED if name not in sys.modules])
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    told = subprocess.run([sys.executable, "-c", source], env=env, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["1 1 False", ""]
