"""One HTML page of a study: its figures first, then every executed notebook."""

import base64
import html
import json
import logging
import os
import platform
from pathlib import Path

import nbformat
import pandas as pd
from nbconvert import HTMLExporter

from braintuning.pipeline.pictures import pictures_of
from braintuning.results import atomic_path, git_commit, package_versions, save_table
from braintuning.study import Study

log = logging.getLogger(__name__)

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
img {{ max-width: 100% }} iframe {{ width: 100%; height: 40rem; border: 1px solid #ccc }}
summary {{ cursor: pointer; padding: .3rem 0 }} footer {{ color: #666; font-size: .85rem }}
</style></head><body><h1>{title}</h1>{figures}{times}<h2>Notebooks</h2>{notebooks}<footer>{made}</footer></body></html>
"""


def write_report(study: Study) -> Path:
    """Write `report.html`, which needs no other file, and `times.csv`, of figures drawn and notebooks executed."""
    folder = study.figures_folder
    pictures = pictures_of(study, *study.figures.notebooks)
    figures = "".join(_figure(folder / f"{picture}.png") for picture in pictures)
    names = ("01_dataset", "02_brain_tune", "03_brain_alignment", *study.figures.notebooks)
    notebooks = "".join(_notebook(path) for name in names if (path := folder / "notebooks" / f"{name}.ipynb").is_file())
    times = times_of_steps(study.results / "times")
    shown = "" if times.empty else f"<h2>Where the time went</h2>{times.round(2).to_html(index=False, border=0)}"
    save_table(folder / "times.csv", times.assign(machine=f"{os.cpu_count()} cores, {platform.machine()}"))
    made = html.escape(f"commit {git_commit()}; " + json.dumps(package_versions()))
    path = folder / "report.html"
    with atomic_path(path) as temporary:
        title = html.escape(study.title)
        temporary.write_text(PAGE.format(title=title, figures=figures, times=shown, notebooks=notebooks, made=made))
    log.info(f"{path}")
    return path


def times_of_steps(folder: Path) -> pd.DataFrame:
    """What each step took, from files that its jobs left: step, jobs, minutes, cpu_minutes, longest, peak_gib."""
    jobs = [
        pd.read_csv(path, sep="\t", na_values="-").assign(step=path.relative_to(folder).parts[0])
        for path in sorted(folder.rglob("*.tsv"))
    ]
    if not jobs:
        return pd.DataFrame(columns=["step", "jobs", "minutes", "cpu_minutes", "longest", "peak_gib"])
    table = (
        pd.concat(jobs)
        .groupby("step")
        .agg(
            jobs=("s", "size"),
            minutes=("s", "sum"),
            cpu_minutes=("cpu_time", "sum"),
            longest=("s", "max"),
            peak_gib=("max_rss", "max"),
        )
    )
    table[["minutes", "cpu_minutes", "longest"]] /= 60
    table["peak_gib"] /= 1024
    return table.sort_values("minutes", ascending=False).reset_index()


def _figure(path: Path) -> str:
    picture = base64.b64encode(path.read_bytes()).decode()
    tables = ", ".join(table.name for table in sorted(path.parent.glob("*.csv")))
    return f"<h2>{path.stem}</h2><img alt='{path.stem}' src='data:image/png;base64,{picture}'><p>Numbers: {tables}</p>"


def _notebook(path: Path) -> str:
    page, _ = HTMLExporter().from_notebook_node(nbformat.read(path, as_version=4))
    return (
        f"<details><summary>{path.stem}</summary><iframe srcdoc='{html.escape(page, quote=True)}'></iframe></details>"
    )
