"""The three lists of packages agree: what the code imports, the lock, and the conda environment."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {"pytorch-gpu": "torch"}
IMPORT_NAMES = {
    "cortex": "pycortex",
    "yaml": "pyyaml",
    "mpl_toolkits": "matplotlib",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "websocket": "websocket-client",
    "hibari": "hibari-tts",
    "snakemake_interface_logger_plugins": "snakemake-interface-logger-plugins",
}


def lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if not line.startswith("#"))


def test_every_line_of_the_lock_pins_one_version():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert lock()["torch"] == "2.13.0"


def test_lock_of_the_site_adds_to_the_other_and_has_what_it_asks_for():
    lines = [line for line in (ROOT / "requirements-docs.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    names = {line.split("==")[0].lower() for line in lines}
    assert not names & set(lock())
    assert (
        set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["docs"]) <= names
    )


def test_conda_environment_has_the_versions_of_the_lock():
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pairs = [entry.split("=") for entry in conda if "=" in entry and not entry.startswith("python=")]
    pairs += [entry.split("==") for entry in pip["pip"] if "==" in entry]
    wanted = {CONDA_NAMES.get(name, name).lower(): version for name, version in pairs}
    assert len(wanted) > 25
    assert {name: lock()[name] for name in wanted} == wanted


def test_everything_that_library_tests_and_benchmarks_import_is_locked():
    imported = set()
    for path in [file for folder in ("lib", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    folders = ("tests", "benchmarks", "docs")
    helpers = {path.stem for folder in folders for path in (ROOT / folder).glob("*.py")}
    ours = {"braintuning", "snakemake_logger_plugin_braintuning"} | helpers
    names = {IMPORT_NAMES.get(name, name).lower() for name in imported - ours - set(sys.stdlib_module_names)}
    assert names <= set(lock())
