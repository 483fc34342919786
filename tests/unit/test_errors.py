import pytest
from braintuning.errors import InputError, check_parameters

KERNEL = {"In": [], "Out": {}, "exit": object(), "open": open, "_i1": "x", "__name__": "__main__", "pi": object()}


def test_trap_papermill_only_warns_about_unknown_parameters():
    check_parameters(KERNEL | {"study": "demo", "layer": 3}, "study", "layer")
    with pytest.raises(InputError, match="parameter 'studdy' does not exist; did you mean 'study'"):
        check_parameters(KERNEL | {"study": "demo", "studdy": "demo"}, "study", "layer")


@pytest.mark.parametrize("value", ["x", 3, 0.5, True, [1], {"a": 1}, None])
def test_unknown_parameter_of_any_type_stops_the_notebook(value):
    with pytest.raises(InputError, match="'extra'"):
        check_parameters(KERNEL | {"study": "demo", "extra": value}, "study")
