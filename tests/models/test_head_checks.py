"""Heads that give probabilities in the place of logits."""

import keras
import pytest
from keras import layers, ops

from keras_luong.models.head_checks import check_gives_logits, check_head
from tests.models.test_seq2seq import UNITS, build

pytestmark = pytest.mark.traced


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


class OwnSoftmax(layers.Dense):
    def call(self, inputs, training=None):
        return ops.softmax(super().call(inputs))


class Normalized(layers.Layer):
    """Probabilities without a softmax."""

    def call(self, vectors):
        positive = ops.square(vectors)
        return positive / ops.sum(positive, axis=-1, keepdims=True)


def softmax(logits):
    return ops.exp(logits) / ops.sum(ops.exp(logits), axis=-1, keepdims=True)


@pytest.mark.parametrize(
    "head",
    [
        lambda: OwnSoftmax(5),
        Normalized,
        lambda: layers.Lambda(lambda logits: softmax(logits)),
        lambda: layers.Dense(5, activation=lambda logits: softmax(logits)),
        lambda: keras.Sequential([layers.Dense(5), layers.Lambda(lambda one: softmax(one))]),
        lambda: functional(layers.Dense(5), softmax),
        lambda: layers.TimeDistributed(OwnSoftmax(5)),
        # Of a large vocabulary in half precision.
        lambda: OwnSoftmax(3000, dtype="float16"),
        lambda: OwnSoftmax(3000, dtype="bfloat16"),
    ],
)
def test_probabilities_are_seen_by_trying(head):
    head = head()
    with pytest.raises(ValueError, match="outputs are probabilities.*sum 1 at every step, <"):
        check_gives_logits(head, UNITS)


@pytest.mark.parametrize(
    "head",
    [
        lambda: None,
        lambda: layers.Dense(5),
        lambda: layers.Dense(5, activation="relu"),
        lambda: layers.Dense(5, activation="log_softmax"),
        lambda: layers.Dense(5, kernel_initializer="zeros"),
        lambda: layers.Dense(5, "relu", kernel_initializer="zeros", bias_initializer="ones"),
        lambda: keras.Sequential([layers.Dense(5, activation="softmax"), layers.Dense(5)]),
        # Of the sum 1, and some of them negative.
        lambda: functional(layers.Dense(5), lambda one: one - ops.mean(one, -1, True) + 0.2),
    ],
)
def test_what_is_tried_and_gives_logits_passes(head):
    check_gives_logits(head(), UNITS)


def test_of_a_plain_product_nothing_is_computed():
    head = layers.Dense(5)
    check_gives_logits(head, UNITS)
    assert not head.built


def test_a_model_is_not_made_with_a_head_of_ones_own_that_gives_probabilities():
    model = build(tied=False)
    with pytest.raises(ValueError, match="outputs are probabilities"):
        type(model)(model.encoder, model.target_embedding, model.decoder, OwnSoftmax(11))
