"""Runs a notebook in batch, through papermill."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from braintuning.errors import InputError, nearest
from braintuning.results import REPOSITORY, atomic_path

NOTEBOOKS = REPOSITORY / "notebooks"


def execute(name: str, out: Path, parameters: Mapping[str, str]) -> Path:
    """Execute a notebook and save it with its outputs.

    Parameters
    ----------
    name : str
        Name in `notebooks/`, without `.ipynb`.
    out : Path
        Where the executed notebook goes.
    parameters : mapping
        Values for its `parameters` cell; those that it does not have are an error, except `device` and `root`, which
        every command carries and some notebooks do not need.

    Raises
    ------
    InputError
        No such notebook; a parameter it does not have; or an `InputError` inside it, as the same sentence.
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
    with atomic_path(out) as temporary, TemporaryDirectory(prefix="kernel-") as sockets:
        own_sockets = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/ipc"})
        try:
            papermill.execute_notebook(
                str(path), str(temporary), given, kernel_name="python3", cwd=str(NOTEBOOKS),
                progress_bar=False, config=own_sockets,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            if error.ename == "InputError":
                raise InputError(error.evalue) from None
            raise
    return out
