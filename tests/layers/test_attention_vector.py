"""What `AttentionVector` refuses; its numbers stand in `test_attention_vector_numbers.py`."""

import pytest

from keras_luong.layers import AttentionVector


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"units": 0}, ["units", "at least 1", "0"]),
        ({"units": 4, "gate": "update"}, ["gate", "context", "source", "both", "'update'"]),
        ({"units": None, "activation": "relu"}, ["`activation`", "attention vector", "'relu'"]),
        ({"units": None, "use_bias": True}, ["use_bias", "attention vector", "units=None"]),
        ({"units": None, "two_layer": True}, ["two_layer", "attention vector", "units=None"]),
        ({"units": None, "gate": "both"}, ["gate", "attention vector", "units=None"]),
        ({"units": 4, "two_layer": True, "use_bias": True}, ["two_layer", "use_bias=True"]),
        ({"units": 4, "two_layer": True, "gate": "source"}, ["two_layer", "context", "'source'"]),
    ],
    ids=str,
)
def test_refused_options(options, parts):
    with pytest.raises(ValueError) as error:
        AttentionVector(**options)
    for part in parts:
        assert part in str(error.value)
