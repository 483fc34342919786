"""`make` takes an interpreter that fits, or says in one sentence which it needs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
FAKE = """#!{python}
import subprocess, sys
from types import SimpleNamespace

if sys.argv[1] == "-c":
    if "ensurepip" in {lacks!r}:
        sys.exit("No module named ensurepip")
    before, sys.version_info = sys.version_info, {version}
    exec(sys.argv[2])
if sys.argv[1:3] == ["-m", "venv"]:
    from pathlib import Path
    (Path(sys.argv[-1]) / "bin").mkdir(parents=True)
    (Path(sys.argv[-1]) / "bin" / "python").write_text("#!/bin/sh\\necho pip $*\\n")
    (Path(sys.argv[-1]) / "bin" / "python").chmod(0o755)
"""


@pytest.fixture
def made(tmp_path):
    """What `make .venv/ready` says, with interpreters of some versions on the path and no other."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("make", "sh", "rm", "touch", "echo", "mkdir"):
        (tools / tool).symlink_to(shutil.which(tool))

    def make(*words, lacks="", **interpreters):
        for name, version in interpreters.items():
            path = tools / name.replace("_", ".")
            path.write_text(FAKE.format(python=sys.executable, version=version, lacks=lacks))
            path.chmod(0o755)
        environment = {"PATH": str(tools), "HOME": os.environ.get("HOME", "/")}
        command = ["make", ".venv/ready", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return make


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 1), (3, 13, 0)])
def test_the_first_interpreter_that_fits_makes_the_environment(made, tmp_path, version):
    done = made(python3=(3, 9, 18), python3_13=version)
    assert done.returncode == 0, done.stderr
    assert "making .venv from requirements.lock, with python3.13\n" in done.stdout
    assert (tmp_path / ".venv" / "ready").is_file()


def test_the_interpreter_that_was_named_is_taken(made):
    assert "with python3.12" in made("PYTHON=python3.12", python3_11=(3, 11, 7), python3_12=(3, 12, 1)).stdout


@pytest.mark.parametrize(
    ("found", "lacks"), [({}, ""), ({"python3": (3, 10, 4)}, ""), ({"python3": (3, 14, 0)}, ""),
                         ({"python3": (3, 11, 2)}, "ensurepip")],
)  # fmt: skip
def test_without_one_there_is_a_sentence_and_no_environment(made, tmp_path, found, lacks):
    done = made(lacks=lacks, **found)
    assert done.returncode != 0 and not (tmp_path / ".venv").exists()
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "found no Python 3.11, 3.12 or 3.13 with venv" in said and "make PYTHON=<path>" in said


@pytest.mark.parametrize(("user", "options"), [(0, " --allow-root"), (1000, "")])
def test_jupyterlab_opens_for_root_too_as_in_containers(tmp_path, user, options):
    for name, says in {"python": "", "jupyter": "$*", "id": user}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["make", "--no-print-directory", "lab", f"BIN={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == f"lab --notebook-dir notebooks{options}", done.stderr
