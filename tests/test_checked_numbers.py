"""Counts and numbers that public functions are given."""

import numpy as np
import pytest

from keras_luong.checked_numbers import above_0, at_least, integer

NO_NUMBERS = [None, "3", True, float("nan"), float("inf"), 1e39, -1, [1]]


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_of_every_type_are_kept_as_int(value):
    assert integer("count", value, 1) == 3 and type(integer("count", value, 1)) is int


@pytest.mark.parametrize("value", [*NO_NUMBERS, 3.0, np.float32(3)])
def test_what_is_no_count_is_named(value):
    with pytest.raises(ValueError, match="`count` must be an integer, at least 0. Received: "):
        integer("count", value, 0)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(7)])
def test_numbers_of_every_type_are_kept_as_float(value):
    for checked in (above_0("rate", value), at_least("rate", value, 0.5)):
        assert checked == value and type(checked) is float


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_is_named(value):
    with pytest.raises(ValueError, match="`rate` must be at least 0 and finite. Received: "):
        at_least("rate", value, 0)
    with pytest.raises(ValueError, match="`rate` must be above 0 and finite. Received: "):
        above_0("rate", value)


@pytest.mark.parametrize("value", [0, 1e-39])
def test_what_float32_has_for_0_is_not_above_it(value):
    assert at_least("rate", value, 0) == value
    with pytest.raises(ValueError, match="above 0"):
        above_0("rate", value)
