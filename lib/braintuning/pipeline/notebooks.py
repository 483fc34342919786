"""Runs a notebook in batch, through papermill."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from braintuning.errors import InputError, MissingTier, NotebookError, nearest
from braintuning.pipeline.worker import folder_for_sockets
from braintuning.results import REPOSITORY, atomic_path

NOTEBOOKS = REPOSITORY / "notebooks"


def execute(name: str, out: Path, parameters: Mapping[str, str]) -> Path:
    """Execute a notebook, by its name in `notebooks/` without `.ipynb`, and save it with its outputs in `out`.

    `parameters` are for its `parameters` cell. `InputError` for no such notebook, for a parameter that it does not
    have, except `device` and `root`, which every command carries and some notebooks do not need, or where an
    `InputError` is raised inside it, as the same sentence. `NotebookError` for whatever else stops it; how far it came
    is kept beside `out` until it succeeds, as `<out>.failed.ipynb`.
    """
    import papermill
    from traitlets.config import Config

    path = NOTEBOOKS / f"{name}.ipynb"
    if not path.is_file():
        known = tuple(sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")))
        raise InputError(f"{path}: no such notebook{nearest(name, known)}")
    declared = papermill.inspect_notebook(str(path))
    given = {k: v for k, v in parameters.items() if k in declared or k not in ("device", "root")}
    if unknown := sorted(set(given) - set(declared)):
        raise InputError(f"{path}: notebook has no parameter {unknown[0]!r}{nearest(unknown[0], tuple(declared))}")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    failed = out.with_suffix(".failed.ipynb")
    with atomic_path(out) as temporary, folder_for_sockets("kernel-") as folder:
        listening = {"transport": "ipc", "ip": f"{folder}/ipc"} if folder else {"transport": "tcp"}
        try:
            papermill.execute_notebook(
                str(path), str(temporary), given, kernel_name="python3", cwd=str(NOTEBOOKS),
                progress_bar=False, config=Config(KernelManager=listening),
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            if error.ename in (InputError.__name__, MissingTier.__name__):
                raise InputError(error.evalue) from None
            shutil.copy(temporary, failed)
            why = f"notebook {name} stopped at cell [{error.exec_count}]: {error.ename}: {error.evalue.strip()}"
            raise NotebookError(f"{why.splitlines()[0]}; open {failed} to see it") from None
    failed.unlink(missing_ok=True)
    return out
