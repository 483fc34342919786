import importlib.util
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def script():
    """`docs/make_api.py` as a module."""
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_is_what_the_docstrings_say():
    assert (DOCS / "api.md").read_text() == script().page(), "run `python docs/make_api.py`"


def test_sections_of_a_docstring_become_lists():
    text = """Do it.

    Parameters
    ----------
    x : (rows,) float
        In s,
        or ms.
    device : str

    References
    ----------
    A 1999.
    """
    lists = "**Parameters**\n\n- `x : (rows,) float`: In s, or ms.\n- `device : str`\n\n**References**\n\nA 1999."
    assert script().markdown(text) == f"Do it.\n\n{lists}"
