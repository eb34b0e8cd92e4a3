"""What is known of the labels of a loss, and which losses take no logits."""

import functools

import pytest
from keras import losses

from keras_luong import MaskedCrossentropy
from keras_luong.functional import IdRange
from keras_luong.models.label_ids import check_takes_logits, label_ids

pytestmark = pytest.mark.traced

SPARSE = losses.SparseCategoricalCrossentropy


class Own(SPARSE):
    """As a user may write it."""


@pytest.mark.parametrize(
    ("loss", "size", "besides"),
    [
        (MaskedCrossentropy(padding_id=-7), 9, -7),
        (SPARSE(from_logits=True), 9, None),
        (Own(from_logits=True, ignore_class=-1), 9, -1),
        (losses.sparse_categorical_crossentropy, 9, None),
        ("sparse_categorical_crossentropy", 9, None),
        (losses.CategoricalCrossentropy(from_logits=True), None, None),
        (lambda y, logits: 0.0, None, None),
        ("mse", None, None),
        (None, None, None),
    ],
)
def test_the_ids_of_labels(loss, size, besides):
    assert label_ids(loss, 9) == IdRange("y", size, besides)


@pytest.mark.parametrize(
    "loss",
    [
        SPARSE(),
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        losses.sparse_categorical_crossentropy,
        losses.CategoricalCrossentropy(),
        losses.BinaryCrossentropy(),
        losses.CategoricalFocalCrossentropy(),
        "categorical_focal_crossentropy",
    ],
)
def test_losses_of_probabilities_raise(loss):
    with pytest.raises(ValueError, match="`MaskedCrossentropy\\(\\)`, or .*Received: loss="):
        check_takes_logits(loss)


@pytest.mark.parametrize(
    "loss",
    [
        None,
        "mse",
        MaskedCrossentropy(),
        Own(from_logits=True),
        functools.partial(losses.sparse_categorical_crossentropy, from_logits=True),
        lambda y, logits: losses.sparse_categorical_crossentropy(y, logits, from_logits=True),
    ],
)
def test_losses_of_logits_pass(loss):
    check_takes_logits(loss)
