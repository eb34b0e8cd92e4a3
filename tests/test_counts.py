import numpy as np
import pytest

from keras_luong.counts import count_of, integer_of, number_of, optional_count_of


@pytest.mark.parametrize("value", [9, np.int64(9), np.uint8(9)])
def test_a_count_is_kept_as_int(value):
    for found in (count_of("n", value), optional_count_of("n", value), integer_of("n", value)):
        assert found == 9 and type(found) is int
    assert optional_count_of("n", None) is None


@pytest.mark.parametrize("value", [0, -1, 2.0, np.float32(2), True, np.bool_(True), "2", None])
def test_what_is_no_count_raises(value):
    with pytest.raises(ValueError, match="`n` must be an integer of at least 1. Received: "):
        count_of("n", value)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5)])
def test_a_number_is_kept_as_float(value):
    assert number_of("alpha", value) == 0.5 and type(number_of("alpha", value)) is float


@pytest.mark.parametrize("value", ["0.5", True, None])
def test_what_is_no_number_raises(value):
    with pytest.raises(ValueError, match="`alpha` must be a number. Received: "):
        number_of("alpha", value)
