"""A wrapper of one policy around parts of another: its own compute dtype comes out.

Numbers are held against the same wrapper in float32, whose parts are too: 16 bits round to 1e-2.
"""

import keras
import numpy as np
import pytest

from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    BahdanauAttention,
    FastRNN,
    LuongAttention,
    MonotonicAttention,
    MultiSourceAttention,
    ResidualCell,
)
from tests.layers.layer_checks import dtype_of, symbolic_inputs, to_numpy
from tests.layers.options import BATCH, MEMORY_DEPTH, SOURCE, attention_arrays, random
from tests.reference import why_not

POLICIES = [
    ("mixed_float16", "float32"),
    ("float32", "mixed_bfloat16"),
    ("mixed_float16", "mixed_bfloat16"),
    pytest.param(
        ("float64", "float32"),
        marks=pytest.mark.skipif(bool(why_not("float64")), reason="float64 is not there"),
    ),
]
if keras.backend.backend() == "jax":
    # Eager loops compile at every call there; and a run of float64 tests nothing else.
    POLICIES = POLICIES[3:] if why_not("float32") else POLICIES[:1]
SCORES = {"return_attention_scores": True}


def decoder(outer, cell, attention, input_feeding):
    step = AttentionDecoderCell(
        keras.layers.LSTMCell(4, dtype=attention),
        LuongAttention("concat", use_coverage=True, dtype=attention),
        units=4,
        input_feeding=input_feeding,
        dtype=cell,
    )
    return AttentionDecoder(step, return_state=True, dtype=outer)


def target_arrays():
    return {"sequences": random(BATCH, 3, 4), "memory": random(BATCH, SOURCE, MEMORY_DEPTH)}


def rnn_of_a_residual_cell(outer, inner):
    cell = ResidualCell(keras.layers.LSTMCell(4, dtype=inner), dtype=outer)
    return keras.layers.RNN(cell, return_state=True, dtype=outer)


SEQUENCES = {"sequences": random(BATCH, 3, 4)}
WRAPPERS = {
    "monotonic": (
        lambda outer, inner: MonotonicAttention(BahdanauAttention(7, dtype=inner), dtype=outer),
        attention_arrays(),
        SCORES,
    ),
    "several sources": (
        lambda outer, inner: MultiSourceAttention(
            [LuongAttention(dtype=inner), LuongAttention("concat", use_coverage=True, dtype=outer)],
            dtype=outer,
        ),
        attention_arrays(sources=2),
        SCORES,
    ),
    **{
        f"{name}, {fed} input feeding": (
            lambda outer, inner, wraps=wraps, fed=fed: decoder(
                outer, inner if wraps else outer, inner, fed == "with"
            ),
            target_arrays(),
            SCORES,
        )
        for name, wraps in (("decoder of a cell", True), ("cell of an attention", False))
        for fed in ("with", "without")
    },
    "residual cell": (rnn_of_a_residual_cell, SEQUENCES, {}),
    "fast": (
        lambda outer, inner: FastRNN(keras.layers.GRUCell(4, dtype=inner), dtype=outer),
        SEQUENCES,
        {},
    ),
}


@pytest.mark.parametrize("policies", POLICIES, ids="-".join)
@pytest.mark.parametrize(("make", "arrays", "call"), WRAPPERS.values(), ids=WRAPPERS)
def test_the_compute_dtype_of_a_wrapper_comes_out(make, arrays, call, policies):
    layer = make(*policies)
    outputs = keras.tree.flatten(layer(**arrays, **call))
    symbolic = keras.tree.flatten(layer(**symbolic_inputs(arrays), **call))
    assert [dtype_of(one) for one in outputs] == [dtype_of(one) for one in symbolic]
    assert dtype_of(outputs[0]) == layer.compute_dtype
    plain = make("float32", "float32")
    plain(**symbolic_inputs(arrays), **call)  # builds it
    plain.set_weights(layer.get_weights())
    expected = to_numpy(plain(**arrays, **call))
    for one, other in zip(to_numpy(outputs), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-2)
