"""The report of a study: one HTML page of its figures, and the executed notebooks beside it as pages."""

import base64
import html
import io
import logging
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from PIL import Image

from braintuning.errors import InputError
from braintuning.pipeline.pictures import PANELS, pictures_of
from braintuning.pipeline.times import read_times
from braintuning.results import REPOSITORY, atomic_path, git_commit, package_versions, require_file, save_table
from braintuning.study import Study, given_name

log = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("report.html")
TUTORIALS = ("01_dataset", "02_brain_tune", "03_brain_alignment")
"""Notebooks that the workflow executes beside those of figures."""
ABOUT = {
    "alignment": "fig2",
    "low-level impact R (%)": "fig3",
    "task score": "fig4",
    "semantic preference": "fig5",
    "rise from middle to last layer": "figA",
    "alignment, joint model on a fifth of the data": "figB",
}
"""Notebook that shows what a claim is about, by the measure that `claims.csv` names."""
HEADLINE = "headline"
"""Tag of a notebook's cell whose output is the few numbers that matter."""
COLOURS = 256
READING = (
    "Result: for the first claim that a figure is about and one model, the mean difference between two conditions over "
    "participants, with its 95 % interval. A verdict needs six participants. Planted: true of the simulated listeners "
    "by construction."
)


def write_report(study: Study) -> Path:
    """Write `report.html` of figures drawn and notebooks executed, a page of each notebook, and `times.csv`.

    The report loads nothing from elsewhere; what it links to lies in its folder. A figure's section has the title and
    prose that its notebook begins with, its pictures each with the prose before the cell that drew it, and the rows of
    `claims.csv` that are about it or, where the study has no `claims`, what cells tagged `headline` printed.
    """
    folder = study.figures_folder
    names = [*(n for n in TUTORIALS if (folder / f"notebooks/{n}.ipynb").is_file()), *study.figures.notebooks]
    notebooks = {n: nbformat.read(require_file(folder / f"notebooks/{n}.ipynb"), as_version=4) for n in names}
    for name, notebook in notebooks.items():
        _write_page(folder / "notebooks" / f"{name}.html", notebook)
    claims = folder / "claims.csv"
    judged = pd.read_csv(claims) if "claims" in study.figures.notebooks and claims.is_file() else None
    sections = [_section(study, name, notebooks[name], judged) for name in study.figures.notebooks]
    times = times_of_steps(study.results / "times")
    save_table(folder / "times.csv", times.assign(machine=f"{os.cpu_count()} cores, {platform.machine()}"))
    content = {
        "title": study.title, "lead": _lead(study), "reading": "" if judged is None else READING, "sections": sections,
        "others": [(name, _heading(notebooks[name].cells[0].source)[0]) for name in names if name in TUTORIALS],
        "made": f"Commit {git_commit()}; {', '.join(f'{k} {v}' for k, v in package_versions().items())}.",
        "folder": folder.name, "settings": study.source[0].read_text(),
        "times": "" if times.empty else times.round(2).to_html(index=False, border=0),
    }  # fmt: skip
    path = folder / "report.html"
    page = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text()).render(content)
    with atomic_path(path) as temporary:
        temporary.write_text(page)
    log.info(f"{path}")
    return path


def publish(study: Study) -> Path:
    """Copy a study's figures and tables to `figures/<study>`, which git holds, in place of those that lie there.

    `InputError` where the study has no report yet, which is written last.
    """
    report = study.figures_folder / "report.html"
    if not report.is_file():
        command = f"make figures STUDY={given_name(study)}"
        raise InputError(f"{report}: found no report, expected one, which `{command}` writes")
    published = REPOSITORY / "figures" / study.name
    if study.figures_folder.resolve() == published.resolve():
        raise InputError(f"{published}: found the study's figures here already, expected them in another folder")
    with atomic_path(published) as temporary:
        temporary.mkdir()
        for path in study.figures_folder.iterdir():
            if path.is_file() and path != report and not path.name.startswith("."):
                shutil.copy(path, temporary)
    return published


def times_of_steps(folder: Path) -> pd.DataFrame:
    """What each step took, from files that its jobs left: step, jobs, minutes, cpu_minutes, longest, peak_gib."""
    jobs = pd.DataFrame(read_times(folder), columns=["step", "s", "max_rss", "cpu_time"])
    columns = {"jobs": ("s", "size"), "minutes": ("s", "sum"), "cpu_minutes": ("cpu_time", "sum")}
    columns |= {"longest": ("s", "max"), "peak_gib": ("max_rss", "max")}
    table = jobs.groupby("step").agg(**columns)
    table[["minutes", "cpu_minutes", "longest"]] /= 60
    table["peak_gib"] /= 1024
    return table.sort_values("minutes", ascending=False).reset_index()


def _lead(study: Study) -> str:
    """Who listened to what, and which models are compared."""
    who = "simulated listeners" if study.dataset.simulation else "participants"
    used = [f"{len(names)} {use}" for use, names in study.stories if use in ("train", "validation", "test") and names]
    heard = f"{len(study.participants)} {who}; stories: {', '.join(used)}."
    return f"{heard} Speech models: {', '.join(study.backbones)}. Conditions: {', '.join(study.conditions)}."


def _section(study: Study, name: str, notebook: nbformat.NotebookNode, judged: pd.DataFrame | None) -> dict[str, Any]:
    """What the template shows of one notebook."""
    full, prose = _heading(notebook.cells[0].source)
    label, colon, title = full.partition(": ")
    label, title = (label, title) if colon and label.startswith("Figure") else ("", full)
    claim = re.match(r"Claim (\d+) of the paper: (.+?)[.;](?=\s|$)", prose)
    if claim:
        label, title = f"{label}, claim {claim[1]} of the paper".removeprefix(", "), claim[2]
    about = None if judged is None else judged[judged["measure"].map(ABOUT).eq(name) | (name == "claims")]
    numbers, outcome = (_headline(notebook), "") if about is None or about.empty else _judged(about)
    if name == "claims" and outcome:
        outcome = ", ".join(f"{n} {verdict}" for verdict, n in about["verdict"].value_counts().items())
    left_out = {*PANELS.get(name, ())} - {*pictures_of(study, name)}  # a study that has changed may have had them
    own = (path for path in study.figures_folder.iterdir() if _belongs(path.stem, name))
    there = sorted(path for path in own if path.stem not in left_out)
    pictures = [path for path in there if path.suffix == ".png"]
    pictures.sort(key=lambda path: (path.stem != name, _prose_above(path, notebook)))
    links = [path.name for path in there if path.suffix == ".csv"]
    links += [*(f"{path.stem}.pdf" for path in pictures), f"notebooks/{name}.html"]
    return {
        "name": name, "label": label, "title": _plain(title[:1].upper() + title[1:]), "caption": markdown2html(prose),
        "numbers": numbers, "outcome": outcome, "links": links,
        "pictures": _captioned(pictures, notebook, title),
    }  # fmt: skip


def _plain(prose: str) -> str:
    """Markdown without the marks of emphasis and code."""
    return re.sub(r"[*`]", "", prose)


def _belongs(stem: str, name: str) -> bool:
    """Whether a file is of a notebook: `figA1` of `figA`, `fig3_features` of `fig3`."""
    return re.fullmatch(re.escape(name) + ("" if name[-1].isdigit() else r"\d*") + "(_.+)?", stem) is not None


def _captioned(pictures: list[Path], notebook: nbformat.NotebookNode, title: str) -> list[dict[str, Any]]:
    """Each picture with the prose before the cell that drew it, which stands under the first that it precedes."""
    shown, told = [], {0}
    for path in pictures:
        above = _prose_above(path, notebook)
        heading, prose = ("", "") if above in told else _heading(notebook.cells[above].source)
        told.add(above)
        picture = Image.open(path)
        summary = re.split(r"(?<=[.?!])\s", _plain(prose), maxsplit=1)[0]
        shown.append({
            "name": path.stem, "heading": heading, "caption": markdown2html(prose) if prose else "",
            "alt": ". ".join(filter(None, [_plain(f"{path.stem}: {heading or title}"), summary])),
            "source": _embedded(picture), "width": picture.width, "height": picture.height,
        })  # fmt: skip
    return shown


def _prose_above(picture: Path, notebook: nbformat.NotebookNode) -> int:
    """Number of the cell of prose before the last cell that names a picture or printed its path; 0 where none does."""
    found = above = 0
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            above = number
        elif re.search(rf"""["']{re.escape(picture.stem)}["']""", cell.get("source", "")) or any(
            picture.name in output.get("text", "") for output in cell.get("outputs", ())
        ):
            found = above
    return found


def _heading(source: str) -> tuple[str, str]:
    """Heading that a cell of prose begins with and what follows; none where it only says that the figure comes."""
    first, _, rest = source.partition("\n")
    if not first.startswith("#"):
        return "", source.strip()
    heading = first.lstrip("# ").strip()
    return "" if heading.lower().startswith("the figure") else heading, rest.strip()


def _embedded(picture: Image.Image) -> str:
    """A picture as a data URL, with a palette: a quarter of the bytes and no difference to see."""
    file = io.BytesIO()
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    flat.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _judged(rows: pd.DataFrame) -> tuple[str, str]:
    """Claims as a table, with a column for each speech model; and of the first what came out."""
    cells = [_effect(row) for row in rows.itertuples()]
    claims = [f"{row.claim}{' (planted)' if row.planted is True else ''}" for row in rows.itertuples()]
    table = pd.DataFrame({"claim of the paper": claims, "model": rows["backbone"].to_numpy(), "cell": cells})
    order, models = list(dict.fromkeys(claims)), list(dict.fromkeys(rows["backbone"]))
    table = table.pivot(index="claim of the paper", columns="model", values="cell").loc[order, models]
    page = table.reset_index().rename_axis(columns=None).to_html(index=False, border=0, na_rep="")
    return page, f"{claims[0]}, {rows['backbone'].iloc[0]}: {cells[0]}"


def _effect(row: Any) -> str:  # noqa: ANN401
    """Difference, its 95 % interval and the verdict in words."""
    if pd.isna(row.effect):
        return row.verdict
    digits = 1 if "%" in row.measure else 3
    interval = "" if pd.isna(row.low) else f" ({row.low:+.{digits}f} to {row.high:+.{digits}f})"
    return f"{row.effect:+.{digits}f}{interval}, {row.verdict}"


def _headline(notebook: nbformat.NotebookNode) -> str:
    """Output of the cells that are tagged as a headline."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()) if HEADLINE in cell.metadata.get("tags", ()) else ():
            data = output.get("data", {"text/plain": output.get("text", "")})
            page = data.get("text/html") or markdown2html(data.get("text/markdown", ""))
            found.append(page or f"<pre>{html.escape(data.get('text/plain', ''))}</pre>")
    return "".join(found)


def _write_page(path: Path, notebook: nbformat.NotebookNode) -> None:
    """An executed notebook as a page that asks nobody for scripts."""
    page, _ = HTMLExporter().from_notebook_node(notebook)
    head, end, body = page.partition("</head>")
    with atomic_path(path) as temporary:
        temporary.write_text(re.sub(r"<script\b.*?</script>", "", head, flags=re.DOTALL) + end + body)
