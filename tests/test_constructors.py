"""Options of all public constructors: what cannot be meant raises at once and names the option.

What counts as wrong is read from the signature, so that a new option is checked from the start.
"""

import importlib
import inspect

import numpy as np
import pytest

from keras_luong.models import luong_seq2seq
from tests.test_configs import ARGUMENTS, ROOMS, ROWS, arguments_of, parameters_of

NAN, EMPTY = float("nan"), inspect.Parameter.empty
FLAGS = ("yes", None, 2)
SEEDS = (1.5, "a", True)
RATES = (NAN, True, 1.5, "0.1", None)
NUMBERS = (NAN, True, "0.1", None)


# Arguments that have no default, of all that are made without a row in the table of configs.
SIZES = ("source_vocabulary_size", "target_vocabulary_size", "vocabulary_size", "embedding_dim")
USABLE = {**dict.fromkeys(SIZES, 4), "units": 4}


def makers():
    """All public classes, and functions that make something from options."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"keras_luong.{room}")
        found.update({name: getattr(module, name) for name in module.__all__})
    # Named tuples hold what is given back.
    return [one for one in found.values() if callable(one) and not hasattr(one, "_fields")]


def options_of(made):
    if made in ARGUMENTS:
        return parameters_of(made)
    return dict(inspect.signature(made).parameters)


def wrong_values(name, default):
    """What an option of this name and default must raise for."""
    if isinstance(default, bool):
        return FLAGS
    if name == "seed":
        return tuple(one for one in SEEDS if one is not default)
    if name == "rate" or "dropout" in name:
        return RATES
    return NUMBERS if isinstance(default, float) else ()


OPTIONS = [
    pytest.param(made, name, one.default, id=f"{made.__name__}-{name}")
    for made in makers()
    for name, one in options_of(made).items()
    if wrong_values(name, one.default)
]


def others(made, name):
    """Arguments beside the one called `name`: of a row of the configs, or sizes and `None`.

    `None` in the place of files, texts and models: an option is looked at before them.
    """
    rows = [arguments_of(row) for row in ARGUMENTS.get(made, [])]
    for row in [*(row for row in rows if name in row), *rows]:
        return row
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one for one in options_of(made).values() if one.default is EMPTY]
    return {one.name: USABLE.get(one.name) for one in needed if one.kind not in variadic}


@pytest.mark.parametrize(("made", "name", "default"), OPTIONS)
def test_what_an_option_cannot_be_raises_and_names_it(made, name, default):
    for value in wrong_values(name, default):
        with pytest.raises((TypeError, ValueError)) as error:
            made(**{**others(made, name), name: value})
        said = str(error.value)
        assert f"`{name}` must be " in said and f"Received: {value!r}" in said, said


def of_numpy(value):
    kinds = {bool: np.bool_, int: np.int64, float: np.float64}
    return kinds.get(type(value), lambda one: one)(value)


@pytest.mark.parametrize(("made", "row"), ROWS, ids=lambda one: getattr(one, "__name__", ""))
def test_flags_seeds_and_numbers_of_numpy_are_kept_as_those_of_python(made, row):
    given = arguments_of(row)
    names = [name for name in parameters_of(made) if type(given.get(name)) in (bool, int, float)]
    config = made(**{**given, **{name: of_numpy(given[name]) for name in names}}).get_config()
    for name in names:
        assert config[name] == given[name] and type(config[name]) in (bool, int, float), name


def test_a_model_from_sizes_takes_flags_of_numpy():
    options = options_of(luong_seq2seq).values()
    flags = [one.name for one in options if isinstance(one.default, bool)]
    model = luong_seq2seq(4, 4, units=4, **dict.fromkeys(flags, np.False_))
    assert model.decoder.cell.input_feeding is False
