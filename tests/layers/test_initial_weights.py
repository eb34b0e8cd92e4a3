"""Every weight begins with Glorot's uniform numbers for its shape, with zeros, ones or a constant.

Glorot, Bengio (2010), equation 16: uniform up to `sqrt(6 / (fan in + fan out))`. A vector is `n` in
and `n` out, as Keras has it; a stack of kernels has as many times more of both.
"""

import keras
import numpy as np
import pytest

from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    AttentionVector,
    BahdanauAttention,
    CopyMechanism,
    LuongAttention,
    MonotonicAttention,
)

QUERY, MEMORY, UNITS, SOURCE = 64, 80, 96, 16
POSITIONS = {"max_source_length": SOURCE}


def attention(layer, memory=MEMORY):
    layer.build((None, None, QUERY), (None, None, memory))
    return layer


def vector(**options):
    layer = AttentionVector(UNITS, **options)
    layer.build((None, MEMORY), (None, QUERY), (None, 48))
    return layer


def decoder():
    cell = AttentionDecoderCell(keras.layers.LSTMCell(QUERY), LuongAttention(), units=UNITS)
    AttentionDecoder(cell).build((None, None, 48), (None, None, MEMORY))
    return cell.attention_vector


def copying():
    layer = CopyMechanism(20)
    layer.build((None, None, 20), (None, None, UNITS), (None, None, 9), (None, None, MEMORY))
    return layer


MADE = {
    "general": lambda: attention(LuongAttention()),
    "scale": lambda: attention(LuongAttention("dot", use_scale=True), QUERY),
    "concat": lambda: attention(LuongAttention("concat", units=UNITS, use_bias=True)),
    "coverage": lambda: attention(LuongAttention("concat", units=UNITS, use_coverage=True)),
    "location": lambda: attention(LuongAttention("location", use_bias=True, **POSITIONS)),
    "tutorial": lambda: attention(LuongAttention("tutorial", units=UNITS, **POSITIONS)),
    "local_p": lambda: attention(LuongAttention(window="local_p", window_size=2)),
    "bahdanau": lambda: attention(BahdanauAttention(UNITS, normalize=True, use_coverage=True)),
    "monotonic": lambda: attention(MonotonicAttention(LuongAttention(), score_bias_init=-4.0)),
    "vector": lambda: vector(use_bias=True),
    "two_layer": lambda: vector(two_layer=True),
    "gate_both": lambda: vector(gate="both"),
    "decoder": decoder,
    "copying": copying,
}
CONSTANTS = {"scale": 1.0, "g": UNITS**-0.5, "score_bias": -4.0}


def limit(shape):
    *stack, fan_in, fan_out = shape if len(shape) > 1 else 2 * shape
    return np.sqrt(6 / (np.prod(stack) * (fan_in + fan_out)))


@pytest.mark.parametrize("name", MADE)
def test_each_weight_begins_as_its_shape_says(name):
    variables = MADE[name]().trainable_variables
    assert variables
    drawn = []
    for variable in variables:
        values = keras.ops.convert_to_numpy(variable)
        if variable.name in CONSTANTS:
            np.testing.assert_allclose(values, CONSTANTS[variable.name], rtol=1e-6)
        elif "bias" in variable.name:
            assert not values.any()
        else:
            largest = limit(values.shape)
            assert np.abs(values).max() <= largest
            # Of a uniform distribution; the fourth moment says how far its variance may be off.
            error = largest**2 / 3 * np.sqrt(0.8 / values.size)
            assert abs(values.var() - largest**2 / 3) < 4 * error, variable.path
            assert abs(values.mean()) < 4 * largest / np.sqrt(3 * values.size), variable.path
            drawn.append(values.ravel()[:8])
    # No two weights are the same numbers, not even with the seed of a layer.
    assert len({one.tobytes() for one in drawn}) == len(drawn)


def test_weights_of_one_layer_with_a_seed_differ():
    layer = attention(LuongAttention("concat", units=UNITS, use_coverage=True, seed=3))
    assert not np.allclose(layer.v, layer.coverage_kernel)
