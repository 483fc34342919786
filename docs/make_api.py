"""Reference of the public names, made from their docstrings: `python docs/make_api.py` writes `docs/api.md`."""

import ast
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path

import braintuning as bt

PAGE = Path(__file__).with_name("api.md")
HEAD = """# Reference

These are the public names of `import braintuning as bt`, each followed by the classes that it returns. Importing the
package is quick: a module is loaded when one of its names is first used. This page is made from the docstrings by
`docs/make_api.py`."""
LISTED = {"Parameters", "Attributes", "Returns", "Yields", "Raises"}
"""Sections of a docstring that hold entries."""
WIDTH = 100


def parameters(arguments: ast.arguments) -> Iterator[str]:
    """Each parameter but `self`, with annotation and default as they are written, and the bare `*`."""

    def written(argument: ast.arg, default: ast.expr | None = None) -> str:
        annotation = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
        return f"{argument.arg}{annotation}" + (f" = {ast.unparse(default)}" if default else "")

    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    for argument, default in zip(positional, defaults, strict=True):
        if argument.arg not in ("self", "cls"):
            yield written(argument, default)
    if arguments.vararg or arguments.kwonlyargs:
        yield "*" + (written(arguments.vararg) if arguments.vararg else "")
    yield from map(written, arguments.kwonlyargs, arguments.kw_defaults)
    if arguments.kwarg:
        yield f"**{written(arguments.kwarg)}"


def signature(name: str, function: ast.FunctionDef) -> str:
    """A call of a function, on several lines where it is long; of a property its name and type."""
    returns = ast.unparse(function.returns) if function.returns else ""
    if any("property" in ast.unparse(decorator) for decorator in function.decorator_list):
        return f"{name}: {returns}"
    parts, arrow = list(parameters(function.args)), f" -> {returns}" if returns not in ("", "None") else ""
    line = f"{name}({', '.join(parts)}){arrow}"
    return line if len(line) <= WIDTH else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){arrow}"


def markdown(documentation: str | None) -> str:
    """A numpydoc docstring: its sections under bold titles, their entries as a list."""
    text, *sections = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(documentation or ""), flags=re.MULTILINE)
    parts = [text.strip()]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        text = f"```pycon\n{body.strip()}\n```" if ">>>" in body else body.strip()
        parts += [f"**{title}**", entries(body) if title in LISTED else text]
    return "\n\n".join(filter(None, parts))


def entries(body: str) -> str:
    """The entries of a section as a list, each with the lines that are indented beneath it."""
    found: list[list[str]] = []
    for line in filter(str.strip, body.splitlines()):
        if line.startswith(" ") and found:
            found[-1].append(line.strip())
        else:
            found.append([line.strip()])
    return "\n".join(f"- `{name}`" + (f": {' '.join(text)}" if text else "") for name, *text in found)


def code(text: str) -> str:
    """A block of Python."""
    return f"```python\n{text}\n```"


def described(name: str, thing: object) -> Iterator[str]:
    """Heading, signature and docstring of a function, or of a class and its public methods."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))).body[0]
    yield f"## {name}"
    if isinstance(definition, ast.FunctionDef):
        yield code(signature(name, definition))
        yield markdown(thing.__doc__)
        return
    methods = {node.name: node for node in definition.body if isinstance(node, ast.FunctionDef)}
    fields = [ast.unparse(node) for node in definition.body if isinstance(node, ast.AnnAssign)]
    if "__init__" in methods:
        yield code(signature(name, methods["__init__"]))
    elif fields:
        yield code("\n".join(field for field in fields if not field.startswith("_")))
    yield markdown(thing.__doc__)
    public = [method for method in methods if method == "__call__" or not method.startswith("_")]
    for method in public:
        call, text = signature(method, methods[method]), markdown(ast.get_docstring(methods[method]))
        yield f"### {name}.{method}\n\n{code(call)}\n\n{text}"


def classes(hint: object) -> Iterator[type]:
    """Classes of this package in an annotation."""
    if inspect.isclass(hint) and hint.__module__.startswith("braintuning."):
        yield hint
    for part in typing.get_args(hint):
        yield from classes(part)


def returned(thing: object) -> Iterator[type]:
    """Classes of this package that a function returns, by its annotation."""
    if inspect.isfunction(thing):
        yield from classes(thing.__annotations__.get("return"))


def page() -> str:
    """The whole page: the public names in their order, and after a function the classes that it returns."""
    things: dict[str, object] = {}
    for name in bt.__all__:
        try:
            things[name] = getattr(bt, name)
        except (AttributeError, ImportError) as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
        else:
            things |= {kind.__name__: kind for kind in returned(things[name])}
    contents = "\n".join(f"- [{name}](#{name.lower()})" for name in things)
    parts = [HEAD, contents, *(part for name, thing in things.items() for part in described(name, thing))]
    return "\n\n".join(filter(None, parts)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
