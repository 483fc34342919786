"""JupyterLab in headless Chromium: a notebook opened and run from top to bottom, as a person would."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import chromium
import nbformat
from braintuning.pipeline.notebooks import NOTEBOOKS

OPEN = "[...(window.jupyterapp?.shell.widgets('main') ?? [])].find(each => each.sessionContext)"
READY = f"({OPEN})?.sessionContext.session?.kernel?.status == 'idle'"
FOCUS = f"window.jupyterapp.shell.activateById(({OPEN}).id); 1"
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => {window.ran = true}); 1"
CONTENT = f"JSON.stringify(({OPEN}).content.model.toJSON())"


@contextmanager
def lab(folder):
    """A JupyterLab of its own that shows a folder; the address of its pages."""
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += [f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=", "--ServerApp.port=0", "--ip=127.0.0.1"]
    command += ["--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    homes = {"JUPYTER_CONFIG_DIR": f"{folder}/.config", "JUPYTER_RUNTIME_DIR": f"{folder}/.run"}
    log = folder / ".lab.log"
    with open(log, "w") as out:
        server = subprocess.Popen(command, env=os.environ | homes, stdout=out, stderr=out, start_new_session=True)
    try:
        address = chromium.wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text()), 120)[0]
        yield address
    finally:
        server.terminate()
        server.wait(30)


def run_in_lab(name, folder, parameters, seconds=600):
    """A notebook as JupyterLab shows it after it ran every cell, and how many seconds that took."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    given = [cell for cell in notebook.cells if cell.metadata.get("tags") == ["parameters"]]
    for key, value in parameters.items():
        given[0].source = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value!r}", given[0].source)
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    profile = folder / ".browser"
    shutil.rmtree(profile, ignore_errors=True)
    profile.mkdir()
    with lab(folder) as address, chromium.page(profile, 1300, 900) as page:
        page.open(f"{address}/lab/tree/{name}.ipynb")
        chromium.wait_for(lambda: page.evaluate(READY), 180)
        page.evaluate(FOCUS)
        began = time.monotonic()
        page.evaluate(RUN_ALL)
        chromium.wait_for(lambda: page.evaluate("window.ran"), seconds)
        took = time.monotonic() - began
        return nbformat.reads(page.evaluate(CONTENT), as_version=4), took
