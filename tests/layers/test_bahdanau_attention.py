"""What `BahdanauAttention` refuses; its numbers stand in `test_bahdanau_attention_numbers.py`."""

import pytest

from keras_luong.layers import BahdanauAttention


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"units": 0}, ["units", "at least 1", "0"]),
        (
            {"units": 4, "probability_fn": "max"},
            ["probability_fn", "softmax", "sparsemax", "'max'"],
        ),
        ({"units": 4, "dropout": 1.5}, ["dropout", "from 0 to below 1", "1.5"]),
    ],
    ids=str,
)
def test_refused_options(options, parts):
    with pytest.raises(ValueError) as error:
        BahdanauAttention(**options)
    for part in parts:
        assert part in str(error.value)
