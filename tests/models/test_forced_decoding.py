"""Dropout around a decoder in training: which numbers it drops, how many, and by what factor."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import AttentionDecoder, AttentionDecoderCell, LuongAttention, Seq2Seq
from keras_luong.models import rnn_encoder
from tests.layers.layer_checks import to_numpy

BATCH, TARGET, UNITS, WORDS, RATE = 30, 12, 6, 11, 0.3
RNG = np.random.default_rng(1)
INPUTS = [RNG.integers(4, 9, (BATCH, 5)), RNG.integers(4, WORDS, (BATCH, TARGET))]

both_kinds = pytest.mark.parametrize("variational", [False, True])


def build(variational):
    """A model whose logits are its attention vectors."""
    cell = AttentionDecoderCell(keras.layers.GRUCell(UNITS), LuongAttention(), UNITS)
    head = keras.layers.Dense(UNITS, kernel_initializer="identity")
    return Seq2Seq(
        rnn_encoder(9, 5, 4, state_sizes=[UNITS]),
        keras.layers.Embedding(WORDS, UNITS),
        AttentionDecoder(cell),
        head,
        dropout=RATE,
        variational_dropout=variational,
    )


def dropped_of(with_dropout, without, variational):
    """Which numbers were dropped; the others are 1 / (1 - rate) times what they were."""
    is_dropped = with_dropout == 0
    kept = ~is_dropped
    np.testing.assert_allclose(with_dropout[kept], without[kept] / (1 - RATE), rtol=1e-4)
    check_share(is_dropped.mean(), RATE, BATCH * UNITS * (1 if variational else TARGET))
    steps_agree = (is_dropped[:, 1:] == is_dropped[:, :-1]).mean()
    sentences_agree = (is_dropped[1:] == is_dropped[:-1]).mean()
    by_chance = RATE**2 + (1 - RATE) ** 2
    check_share(sentences_agree, by_chance, BATCH * UNITS * (1 if variational else TARGET))
    if variational:
        assert steps_agree == 1
    else:
        check_share(steps_agree, by_chance, BATCH * UNITS * TARGET)
    return is_dropped


def check_share(found, expected, count):
    """Within four standard deviations of the mean of `count` draws."""
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / count)


@both_kinds
def test_attention_vectors(variational):
    model = build(variational)
    # Words that are all the same are not changed by being dropped.
    model.target_embedding.set_weights([np.zeros((WORDS, UNITS))])
    (without,) = to_numpy(model(INPUTS, training=False))
    first, second = (
        dropped_of(to_numpy(model(INPUTS, training=True))[0], without, variational)
        for _ in range(2)
    )
    assert (first != second).any()


@both_kinds
def test_target_embeddings(variational, monkeypatch):
    model, seen, call = build(variational), [], AttentionDecoder.call

    @functools.wraps(call)  # Keras reads the names of the arguments
    def spy(self, sequences, *arguments, **named):
        seen.append(ops.convert_to_numpy(sequences))
        return call(self, sequences, *arguments, **named)

    monkeypatch.setattr(AttentionDecoder, "call", spy)
    for _ in range(2):
        model(INPUTS, training=True)
    (table,) = map(ops.convert_to_numpy, model.target_embedding.get_weights())
    first, second = (dropped_of(one, table[INPUTS[1]], variational) for one in seen)
    assert (first != second).any()


@both_kinds
def test_the_seed_of_keras_is_that_of_both(variational):
    first, results = build(variational).trainable_variables, []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        model = build(variational)
        for variable, value in zip(model.trainable_variables, first, strict=True):
            variable.assign(value)
        results.append(to_numpy(model(INPUTS, training=True))[0] == 0)
    assert (results[0] == results[1]).all() and (results[0] != results[2]).any()
