"""Heads that give probabilities in the place of logits."""

import keras
import pytest
from keras import layers, ops

from keras_luong.models.head_checks import check_head
from tests.models.test_seq2seq import UNITS, build


def functional(*made):
    inputs = outputs = keras.Input((None, UNITS))
    for one in made:
        outputs = one(outputs)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (lambda: layers.Dense(5, activation="softmax"), "softmax"),
        (lambda: layers.Dense(5, activation=layers.Softmax()), "softmax"),
        (lambda: layers.EinsumDense("bti,iv->btv", (None, 5), activation="sigmoid"), "sigmoid"),
        (lambda: layers.Dense(5, activation=ops.softmax), "softmax"),
        (lambda: layers.TimeDistributed(layers.Dense(5, activation="hard_sigmoid")), "hardsigmoid"),
        (lambda: keras.Sequential([layers.Dense(5), layers.Softmax()]), "softmax"),
        (
            lambda: keras.Sequential([layers.Dense(5, activation="softmax"), layers.Dropout(0.1)]),
            "softmax",
        ),
        (
            lambda: keras.Sequential([keras.Sequential([layers.Activation("sparsemax")])]),
            "sparsemax",
        ),
        (lambda: functional(layers.Dense(5), layers.Activation("softmax")), "softmax"),
        (lambda: functional(layers.Dense(5), ops.sigmoid, layers.Dropout(0.1)), "sigmoid"),
    ],
)
def test_a_head_that_ends_in_probabilities_is_refused(head, name):
    with pytest.raises(ValueError, match=rf"`head` must return logits.*ends in {name}, <"):
        check_head(head())


class OwnHead(layers.Layer):
    """Computes with a softmax on its way to logits."""

    activation = staticmethod(keras.activations.softmax)


@pytest.mark.parametrize(
    "head",
    [
        lambda: None,
        lambda: layers.Dense(5),
        lambda: layers.Dense(5, activation="log_softmax"),  # whose softmax is that of the logits
        lambda: layers.TimeDistributed(layers.Dense(5)),
        lambda: keras.Sequential([layers.Dense(5, activation="softmax"), layers.Dense(5)]),
        lambda: keras.Sequential(),
        lambda: functional(layers.Softmax(), layers.Dense(5)),
        lambda: functional(layers.Dense(5), lambda logits: ops.softmax(logits) * 2.0 - logits),
        OwnHead,
    ],
)
def test_logits_pass(head):
    check_head(head())


def test_a_model_is_not_made_with_such_a_head():
    model = build(tied=False)
    model.head.activation = keras.activations.softmax
    with pytest.raises(ValueError, match=r"`head` must return logits"):
        type(model)(model.encoder, model.target_embedding, model.decoder, model.head)
