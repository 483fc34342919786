"""The whole workflow on a small study, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

STUDY = Path(__file__).parent / "e2e" / "smoke.yaml"


class Workflow:
    """The study `tests/e2e/smoke.yaml`, run by the command of the command line in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study = folder / STUDY.name
        content = yaml.safe_load(STUDY.read_text())
        content["dataset"]["root"] = str(folder / "dataset")
        self.study.write_text(yaml.safe_dump(content))
        self.results, self.figures = folder / "results" / content["name"], folder / "figures" / content["name"]
        self.environment = {
            **os.environ,
            "BRAINTUNING_RESULTS": str(folder / "results"),
            "BRAINTUNING_FIGURES": str(folder / "figures"),
            "BRAINTUNING_PRECISION": "auto",
            "HF_HUB_OFFLINE": "1",
        }

    def start(self, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "braintuning", "figures", "--study", self.study, "--cores", "2", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=self.environment, start_new_session=True, **pipes)

    def run(self, *options: str) -> str:
        process = self.start(*options)
        output, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, output
        return output

    def modified(self) -> dict[str, int]:
        wanted = [*self.results.rglob("*.h5"), *self.results.rglob("provenance.json")]
        return {str(p.relative_to(self.results)): p.stat().st_mtime_ns for p in wanted}
