"""The layout of the library, read from its source: what may import what, and how long anything may be."""

import ast
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "lib"
PACKAGE = LIB / "braintuning"
CORE = {"study", "datasets", "backbone", "tuning", "alignment", "cortex"}
ABOVE = {"demo", "figures", "pipeline", "explore"}
OPTIONAL = {"cortex", "himalaya", "peft"}
"""Packages that take long to import, or write to the user's home when they are (pycortex, `cortex`)."""
ENTRIES = {"braintuning.cli", "braintuning.__main__"}
STEPS = {f"braintuning.pipeline.{step}" for step in ("ceiling", "tune", "extract", "align", "low_level", "probe")}
STEPS |= {"braintuning.pipeline.preference"}


def name_of(path):
    """Dotted name of the module in a file; that of the package for `__init__.py`."""
    parts = path.relative_to(LIB).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
PATHS = {name_of(path): path.relative_to(LIB) for path in sorted(PACKAGE.rglob("*.py"))}


def top_level(node):
    """Statements that run when a module is imported: all but those of functions and of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from top_level(child)


def imported(nodes):
    """Modules of this package that some statements import, by name."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in TREES else node.module for name in full}
    return names & set(TREES)


def named_in(node):
    """Modules that a statement imports, by the name that stands there."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


def room(name):
    """Sub-package that a module is in; a module of the root is a room of its own."""
    return name.split(".")[1] if "." in name else name


ANYWHERE = {name: imported(ast.walk(tree)) for name, tree in TREES.items()}
AT_IMPORT = {name: imported(top_level(tree)) for name, tree in TREES.items()}


def with_packages(name):
    """What importing a module imports: also the `__init__.py` of each package that holds what it names."""
    packages = {other.rpartition(".")[0] for other in AT_IMPORT[name]} & set(TREES)
    return (AT_IMPORT[name] | packages) - {name} - {p for p in packages if f"{name}.".startswith(f"{p}.")}


def by_room(graph):
    """The graph of rooms of a graph of modules."""
    rooms = {room(name): set() for name in graph}
    for name, others in graph.items():
        rooms[room(name)] |= {room(other) for other in others} - {room(name)}
    return rooms


def circles(graph):
    """Sets of nodes of a graph that reach each other."""
    reached = {}
    for start in graph:
        waiting, seen = [start], set()
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        reached[start] = seen
    return sorted({tuple(sorted(b for b in reached[a] if a in reached[b])) for a in graph if a in reached[a]})


def expect_none(violations):
    """Fail with a line for each violation."""
    if violations := list(violations):
        pytest.fail("\n".join(["", *violations]), pytrace=False)


def of_rooms(*rooms):
    """Modules of some rooms."""
    return {name for name in TREES if room(name) in rooms}


def forbidden(importers, targets):
    """A line for each import, in a function or not, by which one of some modules imports another of some modules."""
    for name in sorted(importers):
        for other in sorted(ANYWHERE[name] & targets):
            if room(other) != room(name):
                yield f"{PATHS[name]} imports {other}"


def functions(tree):
    """Functions and methods of a module, with the lines of each without its signature and docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, body[-1].end_lineno - body[0].lineno + 1 if body else 0


def n_lines(paths):
    return sum(len(path.read_text().splitlines()) for path in paths)


def test_detectors_find_what_they_look_for():
    source = "import a\nif TYPE_CHECKING:\n    import b\nclass C:\n    import c\n    def f():\n        import d\n"
    found = [n.names[0].name for n in top_level(ast.parse(source)) if isinstance(n, ast.Import)]
    assert found == ["a", "c"]
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": set()}
    assert circles(graph) == [("a", "b", "c")] and circles({"a": {"a"}}) == [("a",)] and not circles({"a": set()})
    assert list(functions(ast.parse('def f():\n    """One."""\n    a = 1\n    return a\n'))) == [("f", 2)]
    assert "braintuning.study" in ANYWHERE["braintuning.datasets"]
    assert "braintuning.study" in with_packages("braintuning.alignment.features")
    assert "braintuning.study" not in with_packages("braintuning.study.study")


def test_few_files_lie_outside_the_rooms():
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def test_no_circle_of_modules():
    expect_none(" <-> ".join(circle) for circle in circles({name: with_packages(name) for name in TREES}))


def test_no_circle_of_rooms():
    expect_none(
        f"{' <-> '.join(circle)}: {PATHS[name]} imports {other}"
        for circle in circles(by_room(AT_IMPORT))
        for name, others in sorted(AT_IMPORT.items())
        for other in sorted(others)
        if room(name) != room(other) and {room(name), room(other)} <= set(circle)
    )


def test_core_and_root_import_nothing_above_them():
    in_root = {name for name, path in PATHS.items() if path.parent == Path("braintuning")} - ENTRIES
    expect_none(forbidden(in_root | of_rooms(*CORE), of_rooms(*ABOVE)))


def test_figures_compute_no_features_and_tune_nothing():
    features = {"braintuning.alignment.features", "braintuning.lowlevel.acoustic", "braintuning.probes.features"}
    expect_none(forbidden(of_rooms("figures"), features | of_rooms("tuning", "backbone")))


def test_only_the_pipeline_the_command_line_and_explore_import_figures():
    expect_none(forbidden(set(TREES) - of_rooms("pipeline", "explore") - ENTRIES, of_rooms("figures")))


def test_nothing_imports_explore():
    expect_none(forbidden(set(TREES), of_rooms("explore")))


def test_optional_packages_are_imported_where_they_are_needed():
    expect_none(
        f"{PATHS[name]} imports {module} at its top"
        for name, tree in TREES.items()
        for node in top_level(tree)
        for module in named_in(node)
        if module.partition(".")[0] in OPTIONAL
    )


def test_steps_call_no_other_step():
    """A step may know the recipe of what it reads."""
    expect_none(
        f"{PATHS[name]} imports {node.module}.{alias.name}"
        for name in sorted(STEPS & set(TREES))
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if {node.module, f"{node.module}.{alias.name}"} & STEPS and "recipe" not in alias.name
    )


def test_no_module_is_too_long():
    lengths = {path: n_lines([LIB / path]) for path in PATHS.values()}
    expect_none(f"{path}: {lines} lines, expected at most 300" for path, lines in lengths.items() if lines > 300)


def test_no_function_is_too_long():
    expect_none(
        f"{PATHS[name]}: {function}: {lines} lines, expected at most 50"
        for name, tree in TREES.items()
        for function, lines in functions(tree)
        if lines > 50
    )


def test_library_is_thin():
    whole = n_lines(LIB.rglob("*.py"))
    core = n_lines(path for room in CORE for path in (PACKAGE / room).rglob("*.py"))
    found = [f"the library: {whole} lines, expected under 22560"] if whole >= 22560 else []
    expect_none(found + ([f"the core: {core} lines, expected under 10000"] if core >= 10000 else []))


def test_tests_mirror_the_rooms():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    expect_none(f"tests/unit/{folder}: no such room" for folder in sorted(folders - rooms))
