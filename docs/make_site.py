"""The site: `python docs/make_site.py [folder]` builds it offline into `docs/_build/html`.

Pages in `docs/` are taken as they are, with tables of what was measured in place of `<!-- table: ... -->`. Beside them
come the notebooks (as they were executed, where they were), the figures that are committed, the README files of `data/`
and of the adapters, the settings of the studies, the timings, and the reference, made from docstrings.
"""

import ast
import inspect
import re
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import braintuning as bt
import measured
import nbformat
import yaml
from braintuning.results import REPOSITORY

DOCS = Path(__file__).resolve().parent
NOTEBOOKS, FIGURES, RESULTS = (REPOSITORY / name for name in ("notebooks", "figures", "data/results"))
STUDIES, PACKAGE = REPOSITORY / "data" / "studies", REPOSITORY / "lib" / "braintuning"
FROM_ELSEWHERE = {
    "adapters.md": PACKAGE / "datasets" / "README.md",
    "data.md": REPOSITORY / "data" / "README.md",
    **{f"timings/{path.name}": path for path in (REPOSITORY / "benchmarks" / "results").glob("*.md")},
}
"""Pages of the site that are files elsewhere in the repository."""
FIRST = ("demo", "demo-eight", "real-brains", "demo-full", "paper-small")
"""Studies whose executed notebooks are shown before those of others."""
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
NOT_EXECUTED = (
    "```{note}\nThis notebook was not executed when the site was built, so it shows no results. `make figures` "
    "executes it, or `make lab` opens it in JupyterLab.\n```"
)


def build(out: Path) -> Path:
    """Build the site below a folder, every warning an error, and return the folder of its pages."""
    source, html = out / "source", out / "html"
    shutil.rmtree(source, ignore_errors=True)
    stage(source)
    arguments = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(DOCS), "-d", str(out / "doctrees")]
    subprocess.run([sys.executable, "-m", "sphinx", *arguments, str(source), str(html)], check=True)
    return html


def stage(source: Path) -> None:
    """Put all pages into a folder that Sphinx reads."""
    for folder in ("tutorials", "gallery", "reference", "timings"):
        (source / folder).mkdir(parents=True)
    for path in DOCS.glob("*.md"):
        (source / path.name).write_text(linked(with_tables(path.read_text()), path))
    for name, path in FROM_ELSEWHERE.items():
        text = path.read_text()
        headed = text if text.startswith("# ") else f"# {path.stem}\n\n{text}"
        (source / name).write_text(linked(headed, path))
    tutorials(source / "tutorials")
    gallery(source / "gallery")
    reference(source / "reference")
    (source / "settings.md").write_text(settings())
    listed = [f"timings/{path.stem}" for path in sorted((source / "timings").glob("*.md"))]
    text = (
        "# Measurements\n\nTimings and other measurements, as written by `make bench` and the scripts in `benchmarks/`."
    )
    (source / "timings.md").write_text(f"{text}\n\n{toctree(listed)}")


def with_tables(text: str) -> str:
    """A page with tables of `measured.py` in place of comments such as `<!-- table: results demo -->`."""
    return re.sub(r"<!-- table: (\w+) ?([\w-]*) -->", lambda m: getattr(measured, m[1])(*filter(None, [m[2]])), text)


def linked(text: str, path: Path) -> str:
    """A page whose links to other files of the repository are links to their pages here."""
    pages = {file.resolve(): name for name, file in FROM_ELSEWHERE.items()}
    pages |= {file.resolve(): file.name for file in DOCS.glob("*.md")}
    own = next((name for name, file in FROM_ELSEWHERE.items() if file == path), path.name)

    def link(match: re.Match) -> str:
        target, _, anchor = match[1].partition("#")
        page = pages.get((path.parent / target).resolve())
        up = "../" * own.count("/")
        return f"]({up}{page}{'#' if anchor else ''}{anchor})" if page else match[0]

    return re.sub(r"\]\(([^):]+\.md(?:#[\w-]+)?)\)", link, text)


def toctree(names: list[str], hidden: bool = False) -> str:
    """A list of pages with links to them, or what says which pages there are."""
    return "\n".join(["```{toctree}", ":hidden:" if hidden else ":maxdepth: 1", "", *names, "```", ""])


def title(notebook: nbformat.NotebookNode) -> str:
    """The first heading of a notebook."""
    return re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)[1]


def titles() -> dict[str, str]:
    """Titles of figures by the names of their files: of notebooks, and of panels such as `## A1: noise ceilings`."""
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    texts = [cell.source for one in notebooks.values() for cell in one.cells if cell.cell_type == "markdown"]
    panels = re.findall(r"^##+ (?:Figure )?([A-Z]\d+): (.+)$", "\n".join(texts), re.MULTILINE)
    return {f"fig{name}": f"Figure {name}: {text}" for name, text in panels} | {
        name: title(notebook) for name, notebook in notebooks.items()
    }


def executed(name: str) -> Path | None:
    """A notebook as it was executed for a study, of those in `FIRST` if there is one."""
    by_study = {
        path.parts[-4]: path for path in sorted(RESULTS.glob(f"*/figures/notebooks/{name}.ipynb"), reverse=True)
    }
    return next((by_study[study] for study in (*FIRST, *by_study) if study in by_study), None)


def tutorials(folder: Path) -> None:
    """Every notebook as it was executed, else with a sentence that says so, and the list of them."""
    groups: dict[str, list[str]] = {"Step by step": [], "Figures of the paper": [], "More": []}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        where = executed(path.stem)
        notebook = nbformat.read(where or path, as_version=4)
        said = f"*Executed for the study `{where.parts[-4]}`.*" if where else NOT_EXECUTED
        if path.stem == "explore":
            said += "\n\n*Its controls work in JupyterLab.*"
        notebook.cells[0].source = re.sub(
            r"(^# .+$)", rf"\1\n\n{said}", notebook.cells[0].source, count=1, flags=re.MULTILINE
        )
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, folder / path.name)
        group = (
            "Step by step" if path.stem[0].isdigit() else "Figures of the paper" if path.stem[:3] == "fig" else "More"
        )
        groups[group].append(path.stem)
    needs = "but `figC1` takes hours and `real_brains` needs its data"
    parts = ["# Notebooks", f"`make lab` opens them in JupyterLab; each runs top to bottom with its defaults, {needs}."]
    for group, names in groups.items():
        parts += [f"## {group}", "\n".join(first_sentence(name) for name in names), toctree(names, hidden=True)]
    (folder / "index.md").write_text("\n\n".join(parts))


def first_sentence(name: str) -> str:
    """An entry of a list: a link to a notebook, and the sentence that it begins with."""
    heading, _, text = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells[0].source.partition("\n")
    said = re.match(r".+?[.?!](?=\s+[A-Z`*]|\s*$)", " ".join(text.split()))
    return f"- [{heading.lstrip('# ')}]({name}.ipynb)" + (f": {said[0]}" if said else "")


def gallery(folder: Path) -> None:
    """A page a study: its committed pictures with the titles of their notebooks, and links to their tables."""
    headings = titles()
    made = {path.parent for path in FIGURES.glob("*/*.png")}
    for figures in sorted(made, key=lambda one: (FIRST.index(one.name) if one.name in FIRST else 9, one.name)):
        (folder / figures.name).mkdir()
        study = yaml.safe_load((STUDIES / f"{figures.name}.yaml").read_text())
        parts = [f"# {study['title']}"]
        for picture in sorted(figures.glob("*.png")):
            kin = (name for name in headings if picture.stem == name or picture.stem.startswith(f"{name}_"))
            name = max(kin, key=len, default=picture.stem)
            heading = headings.get(name, name)
            detail = picture.stem.removeprefix(name).strip("_").replace("_", " ")
            tables = sorted(figures.glob(f"{picture.stem}*.csv"))
            for file in (picture, *tables):
                shutil.copy(file, folder / figures.name / file.name)
            numbers = ", ".join(f"{{download}}`{file.name} <{figures.name}/{file.name}>`" for file in tables)
            parts += [f"## {heading}" + (f": {detail}" if detail else "")]
            parts += [f"![{heading}]({figures.name}/{picture.name})", f"Numbers: {numbers}" if numbers else ""]
        (folder / f"{figures.name}.md").write_text("\n\n".join(filter(None, parts)))
    names = sorted((path.stem for path in folder.glob("*.md")), key=lambda n: (FIRST.index(n) if n in FIRST else 9, n))
    text = "# Figures\n\nAll figures that are in the repository, study by study, with their numbers."
    (folder / "index.md").write_text(f"{text}\n\n{toctree(names)}")


def settings() -> str:
    """Every setting with its comment: the files of the studies."""
    parts = [
        "# Settings",
        "A study is one YAML file, in `data/studies/` or elsewhere. A study with `extends` holds only what "
        "differs. Settings that a study does not give are as in the paper.",
    ]
    for path in sorted(STUDIES.glob("*.yaml"), key=lambda path: (path.stem != "demo", path.stem)):
        parts += [f"## {path.stem}", f"```yaml\n{path.read_text().strip()}\n```"]
    return "\n\n".join(parts)


def classes(hint: object) -> Iterator[type]:
    """Classes of this package in an annotation."""
    if inspect.isclass(hint) and hint.__module__.startswith("braintuning."):
        yield hint
    for part in typing.get_args(hint):
        yield from classes(part)


def public() -> dict[str, object]:
    """The public names in their order, and after a function the classes that it returns."""
    things: dict[str, object] = {}
    for name in bt.__all__:
        things[name] = thing = getattr(bt, name)
        if inspect.isfunction(thing):
            things |= {kind.__name__: kind for kind in classes(thing.__annotations__.get("return"))}
    return things


def members(path: Path) -> list[str]:
    """Public functions, classes and documented constants of a module, in their order."""
    found, body = [], ast.parse(path.read_text()).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(getattr(following, "value", None), ast.Constant):
            targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
            found += [target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()]
    return [name for name in found if not name.startswith("_")]


def documented(path: str, thing: object) -> str:
    """Directive for a function, or for a class with its methods."""
    if not inspect.isclass(thing):
        return f".. autofunction:: {path}"
    return f".. autoclass:: {path}\n   :members:\n   :exclude-members: model_config, model_post_init"


def reference(folder: Path) -> None:
    """The public names on one page, and a page for each room of the library."""
    parts = [
        "# Public names",
        "`import braintuning as bt` gives these; a module is loaded when one of its names is first used.",
    ]
    for name, thing in public().items():
        path = f"braintuning.{name}" if name in bt.__all__ else f"{thing.__module__}.{name}"
        shown = documented(path, thing) + ("" if name in bt.__all__ else "\n   :no-index:")
        parts += [f"## {name}", f"```{{eval-rst}}\n{shown}\n```"]
    (folder / "names.md").write_text("\n\n".join(parts))
    for room in ROOMS:
        parts = [f"# {room}"]
        for path in sorted((PACKAGE / room).glob("*.py")):
            module = ".".join(["braintuning", room, *([path.stem] if path.stem != "__init__" else [])])
            directive = f".. automodule:: {module}"
            if names := members(path):
                directive += f"\n   :members: {', '.join(names)}\n   :exclude-members: model_config, model_post_init"
            parts += [f"## {module}", f"```{{eval-rst}}\n{directive}\n```"]
        (folder / f"{room}.md").write_text("\n\n".join(parts))
    text = "# Reference\n\nThe public names come first, and then every module, package by package."
    (folder / "index.md").write_text(f"{text}\n\n{toctree(['names', *ROOMS])}")


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "_build") / "index.html")
