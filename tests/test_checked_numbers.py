"""Counts and numbers that public functions are given."""

import numpy as np
import pytest

from keras_luong.checked_numbers import (
    above_0,
    at_least,
    count_of,
    finite_of,
    fraction_of,
    integer_of,
    number_of,
    optional_count_of,
)

NO_NUMBERS = [None, "3", True, float("nan"), float("inf"), 1e39, -1, [1]]


@pytest.mark.parametrize("value", [9, np.int64(9), np.uint8(9)])
def test_a_count_is_kept_as_int(value):
    for found in (count_of("n", value), optional_count_of("n", value), integer_of("n", value)):
        assert found == 9 and type(found) is int
    assert optional_count_of("n", None) is None


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, 3.0, np.float32(3), np.bool_(True)])
def test_what_is_no_count_is_named(value):
    with pytest.raises(ValueError, match="`n` must be an integer of at least 1. Received: "):
        count_of("n", value)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(7)])
def test_numbers_of_every_type_are_kept_as_float(value):
    for kept in (above_0("rate", value), at_least("rate", value, 0.5), number_of("rate", value)):
        assert kept == value and type(kept) is float


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_is_named(value):
    with pytest.raises(ValueError, match="`rate` must be a finite number of at least 0. Received"):
        at_least("rate", value, 0)
    with pytest.raises(ValueError, match="`rate` must be a finite number above 0. Received: "):
        above_0("rate", value)


@pytest.mark.parametrize("value", ["0.5", True, None])
def test_what_has_no_digits_is_no_number(value):
    with pytest.raises(ValueError, match="`rate` must be a number. Received: "):
        number_of("rate", value)


@pytest.mark.parametrize("value", [None, "3", True, float("nan"), float("inf"), -1e39])
def test_what_is_not_finite_is_named(value):
    assert finite_of("bias", np.float32(-2)) == -2 and type(finite_of("bias", 0)) is float
    with pytest.raises(ValueError, match="`bias` must be a finite number. Received: "):
        finite_of("bias", value)


@pytest.mark.parametrize("value", [0, 1e-39])
def test_what_float32_has_for_0_is_not_above_it(value):
    assert at_least("rate", value, 0) == value
    with pytest.raises(ValueError, match="above 0"):
        above_0("rate", value)


def test_a_fraction_is_kept_as_float():
    assert fraction_of("rate", np.float32(0.25)) == 0.25 and type(fraction_of("rate", 0)) is float


@pytest.mark.parametrize("value", [-0.1, 1, True, "0.1", None, np.nan])
def test_what_is_no_fraction_is_named(value):
    with pytest.raises(ValueError, match="`rate` must be a number from 0 to below 1. Received: "):
        fraction_of("rate", value)
