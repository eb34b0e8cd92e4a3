"""What `MultiSourceAttention` refuses; `test_multi_source_attention_numbers.py` has its numbers."""

import keras
import numpy as np
import pytest

from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    LuongAttention,
    MultiSourceAttention,
)


@pytest.mark.parametrize("attentions", [[], ["general"], [keras.layers.Attention()]], ids=str)
def test_refused_options(attentions):
    with pytest.raises(ValueError, match=r"attentions must be a list of attention layers"):
        MultiSourceAttention(attentions)


@pytest.mark.parametrize(
    "option", [{"dropout": 0.9}, {"probability_fn": "hardmax"}, {"use_coverage": True}], ids=str
)
def test_options_of_its_attentions_are_not_its_own(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        MultiSourceAttention([LuongAttention()], **option)


def ones(*shape):
    return np.ones(shape, "float32")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"value": ones(2, 4, 3)}, ["list of 2", "value", "Received 1"]),
        ({"value": [ones(2, 4, 3)]}, ["list of 2", "value", "Received 1"]),
        ({"value": [ones(2, 4, 3), ones(2, 5)]}, ["value", "rank 3", "(2, 5)"]),
        ({"value_mask": [None]}, ["list of 2", "value_mask", "Received 1"]),
        ({"value_mask": [None, np.ones((2, 4), bool)]}, ["value_mask", "(2, 5)", "(2, 4)"]),
        ({"key": [ones(2, 4, 3)]}, ["list of 2", "key", "Received 1"]),
        ({"value": [ones(2, 4, 3), ones(3, 5, 3)]}, ["value", "2", "Received 3"]),
    ],
    ids=str,
)
def test_refused_calls(changes, parts):
    layer = MultiSourceAttention([LuongAttention(), LuongAttention()])
    inputs = {"query": ones(2, 3, 4), "value": [ones(2, 4, 3), ones(2, 5, 3)], **changes}
    with pytest.raises(ValueError) as error:
        layer(**inputs)
    for part in parts:
        assert part in str(error.value)


def test_a_decoder_says_how_many_memories_it_takes():
    attention = MultiSourceAttention([LuongAttention(), LuongAttention()])
    decoder = AttentionDecoder(AttentionDecoderCell(keras.layers.GRUCell(4), attention, 3))
    with pytest.raises(ValueError, match=r"list of 2 for memory.*Received 1"):
        decoder(ones(2, 3, 4), [ones(2, 4, 3)])
