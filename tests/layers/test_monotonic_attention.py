"""`MonotonicAttention`: what it refuses, and its noise.

Its numbers are held in `test_monotonic_attention_numbers.py`.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    BahdanauAttention,
    LuongAttention,
    MonotonicAttention,
    MultiSourceAttention,
)
from tests.layers.layer_checks import to_numpy


@pytest.mark.parametrize(
    ("attention", "options", "parts"),
    [
        ("general", {}, ["attention", "LuongAttention", "'general'"]),
        (LuongAttention(window="local_m"), {}, ["window", "global", "'local_m'"]),
        (LuongAttention(probability_fn="sparsemax"), {}, ["softmax", "'sparsemax'"]),
        (BahdanauAttention(4, use_coverage=True), {}, ["without coverage"]),
        (LuongAttention(dropout=0.5), {}, ["dropout", "MonotonicAttention", "0.5"]),
        (MultiSourceAttention([LuongAttention()]), {}, ["LuongAttention", "MultiSourceAttention"]),
        (LuongAttention(), {"probability_fn": "sparsemax"}, ["probability_fn"]),
        (LuongAttention(), {"use_coverage": True}, ["use_coverage"]),
        (LuongAttention(), {"dropout": 1.0}, ["`dropout`", "from 0 to below 1", "1.0"]),
        (LuongAttention(), {"mode": "soft"}, ["mode", "parallel", "recursive", "hard", "'soft'"]),
        (LuongAttention(), {"sigmoid_noise": -1.0}, ["sigmoid_noise", "at least 0", "-1.0"]),
    ],
    ids=str,
)
def test_refused_options(attention, options, parts):
    with pytest.raises(ValueError) as error:
        MonotonicAttention(attention, **options)
    for part in parts:
        assert part in str(error.value)


def decoder(seed=5, input_feeding=True):
    """Equal logits of 0 and a bias of 0: without noise every p is 1/2."""
    attention = MonotonicAttention(
        LuongAttention("location", max_source_length=6), sigmoid_noise=1.0, seed=seed
    )
    cell = AttentionDecoderCell(
        keras.layers.GRUCell(4), attention, units=3, input_feeding=input_feeding
    )
    layer = AttentionDecoder(cell)
    layer.build((2, 3, 4), (2, 6, 5))
    attention.attention.set_weights([np.zeros((4, 6))])
    return layer


def scores_of(layer, training):
    sequences, memory = np.ones((2, 3, 4), "float32"), np.ones((2, 6, 5), "float32")
    _, scores = to_numpy(layer(sequences, memory, return_attention_scores=True, training=training))
    return scores


@pytest.mark.parametrize("input_feeding", [True, False])
def test_noise_in_training_only(input_feeding):
    layer = decoder(input_feeding=input_feeding)
    # The first step stops at position j with probability 1 / 2^(j + 1).
    expected = np.broadcast_to(0.5 ** np.arange(1, 7), (2, 6))
    np.testing.assert_allclose(scores_of(layer, training=False)[:, 0], expected, atol=1e-6)
    first, second = (scores_of(layer, training=True) for _ in range(2))
    assert np.abs(first[:, 0] - expected).max() > 0.01
    assert np.abs(first - second).max() > 0.01  # another noise at every call
    assert np.abs(first[0] - first[1]).max() > 0.01  # and in every sentence
    # p of position 0 at each step, read off what the reader at 0 does: a_t(0) = p_t a_(t-1)(0).
    stops = first[0, 1:, 0] / first[0, :-1, 0]
    assert np.ptp([first[0, 0, 0], *stops]) > 0.01  # and at every step


def test_the_noise_is_normal():
    attention = MonotonicAttention(LuongAttention(), sigmoid_noise=2.0, seed=5)
    attention.build((50, 8, 4), (50, 6, 4))
    memory = attention.prepare(ops.zeros((50, 6, 4)))
    assert attention.draw_noise(memory, 8, training=False) is None
    first, second = (to_numpy(attention.draw_noise(memory, 8, training=True))[0] for _ in range(2))
    assert first.shape == (50, 8, 6) and (first != second).all()
    # 2,400 draws: four standard deviations of the mean are 0.16, of the variance's root 0.12.
    assert abs(first.mean()) < 0.16 and abs(first.std() - 2.0) < 0.12
    for axis in range(3):  # neighbours have nothing to do with each other
        one, other = (
            first.take(range(1, first.shape[axis]), axis),
            first.take(range(first.shape[axis] - 1), axis),
        )
        assert abs(np.mean(one * other)) / 4 < 4 / np.sqrt(one.size)


def test_seed_of_the_noise():
    np.testing.assert_array_equal(*(scores_of(decoder(3), training=True) for _ in range(2)))
    assert (scores_of(decoder(3), True) != scores_of(decoder(4), True)).any()
