"""A notebook in JupyterLab in headless Chromium."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import chromium
import nbformat
from braintuning.results import REPOSITORY

SHOWN = "[...jupyterapp.shell.widgets('main')][0]"
CELLS = f"[...{SHOWN}.content.model.sharedModel.cells].filter((cell) => cell.cell_type === 'code')"
OUTPUTS = f"{CELLS}.flatMap((cell) => cell.getOutputs())"
ERRORS = f"{OUTPUTS}.filter((one) => one.output_type === 'error').map((one) => one.evalue)"
RAN = f"{CELLS}.every((cell) => cell.execution_count) || {ERRORS}.length > 0"


@contextmanager
def opened(name, folder, parameters=(), environment=None, width=1300, height=1500):
    """A page with a notebook of the project all of whose cells have run without an error.

    `parameters` replace values of its first cell. JupyterLab and the browser keep their files in `folder`.
    """
    (folder / "notebooks").mkdir(parents=True)
    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source += "".join(f"\n{key} = {value!r}" for key, value in dict(parameters).items())
    nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    own = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("RUNTIME", "CONFIG", "DATA")}
    own |= {"PYTHONPATH": os.pathsep.join(sys.path), "IPYTHONDIR": str(folder / "ipython")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    with open(folder / "lab.log", "w") as log:
        lab = subprocess.Popen(command, env=os.environ | own | (environment or {}), stdout=log, stderr=log)
    try:
        found = chromium.wait_for(lambda: [*(folder / "RUNTIME").glob("jpserver-*.json")], 120)
        chromium.wait_for(lambda: found[0].read_text().strip().endswith("}"), 10)
        address = json.loads(found[0].read_text())["url"]
        (folder / "browser").mkdir()
        with chromium.page(folder / "browser", width, height) as page:
            page.open(f"{address}lab/tree/{name}.ipynb")
            chromium.wait_for(lambda: page.evaluate("!!document.querySelector('.jp-Notebook .jp-CodeCell')"), 400)
            asked = "document.querySelector('.jp-Dialog .jp-mod-accept')?.click()"  # which kernel
            context = f"{SHOWN}.sessionContext"
            ready = f"{asked}, {context}.isReady && {context}.session?.kernel?.status === 'idle'"
            chromium.wait_for(lambda: page.evaluate(ready), 400)
            page.click(width / 2, 160)  # on the notebook, which commands are then for
            page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
            chromium.wait_for(lambda: page.evaluate(RAN), 600)
            errors = page.evaluate(ERRORS)
            assert not errors, errors
            yield page
    finally:
        lab.terminate()
        lab.wait(30)


def shown(page):
    """The notebook as the page shows it."""
    return nbformat.reads(page.evaluate(f"JSON.stringify({SHOWN}.content.model.toJSON())"), as_version=4)
