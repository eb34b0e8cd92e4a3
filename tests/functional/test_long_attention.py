"""Attention in blocks: the same numbers as one softmax, and never all of its weights at once.

Blocks are made small here, so that a few queries fill several of them.
"""

import importlib
import math
import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import functional
from tests.functional.tools import (
    BACKEND,
    DTYPE,
    GRADIENT_TOLERANCE,
    TOLERANCE,
    compiled,
    gradients_of,
    gradients_under_xla,
    random,
    tensor,
    weighted,
)
from tests.layers.layer_checks import dtype_of, to_numpy
from tests.reference import central_differences

# By its path: the package has the function under the name of the module.
module = importlib.import_module("keras_luong.functional.long_attention")

BATCH, TARGET, SOURCE, KEY_DEPTH, VALUE_DEPTH = 4, 7, 5, 3, 2
# Padding behind, a hole, nothing kept, padding in front.
MASK = np.array([[c == "x" for c in row] for row in ("xxx..", "x..xx", ".....", "..xxx")])

only_tensorflow = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="the others know sizes when they trace"
)


@pytest.fixture(autouse=True)
def three_queries_a_block(monkeypatch):
    """Three blocks of the seven queries above, the last one with two rows of nothing."""
    monkeypatch.setattr(module, "_BLOCK", 3 * BATCH * SOURCE)


def inputs_of(batch=BATCH, target=TARGET, source=SOURCE):
    """Query, key and value; the key has one depth, the value another."""
    shapes = ((batch, target, KEY_DEPTH), (batch, source, KEY_DEPTH), (batch, source, VALUE_DEPTH))
    return [random(*shape, seed=seed) for seed, shape in enumerate(shapes)]


def scores_by_loops(query, key, mask=None):
    scores = np.zeros((*query.shape[:2], key.shape[1]))
    for b, t in np.ndindex(*query.shape[:2]):
        kept = [s for s in range(key.shape[1]) if mask is None or mask[b, s]]
        logits = {s: np.dot(query[b, t], key[b, s]) for s in kept}
        weights = {s: np.exp(logits[s] - max(logits.values())) for s in kept}
        for s in kept:
            scores[b, t, s] = weights[s] / sum(weights.values())
    return scores


def by_loops(query, key, value, mask=None):
    context = np.zeros((*query.shape[:2], value.shape[2]))
    scores = scores_by_loops(query, key, mask)
    for b, t, s in np.ndindex(*scores.shape):
        context[b, t] += scores[b, t, s] * value[b, s]
    return context


def context_of(inputs, mask=None, dtype=DTYPE):
    mask = None if mask is None else tensor(mask, "bool")
    context = functional.long_attention(*(tensor(one, dtype) for one in inputs), mask)
    assert dtype_of(context) == dtype
    return to_numpy(context)[0]


def check_gradients(differentiate, mask, tolerance=GRADIENT_TOLERANCE, dtype=DTYPE):
    """Gradients, in `DTYPE`, of the context computed in `dtype`, against float64 differences."""
    inputs, upstream = inputs_of(), random(BATCH, TARGET, VALUE_DEPTH, seed=9)

    def loss(*inputs):
        inputs = [ops.cast(one, dtype) for one in inputs]
        kept = None if mask is None else tensor(mask, "bool")
        return weighted(functional.long_attention(*inputs, kept), upstream)

    gradients = differentiate(loss, [one.astype(DTYPE) for one in inputs])
    for gradient, array in zip(gradients, inputs, strict=True):
        expected = central_differences(lambda: np.sum(upstream * by_loops(*inputs, mask)), array)
        np.testing.assert_allclose(gradient, expected, atol=tolerance)
        if mask is not None:
            assert not gradient[~mask.any(axis=-1)].any()  # nothing kept: exactly no gradient
    if mask is not None:
        assert not gradients[1][~mask].any() and not gradients[2][~mask].any()


# ---------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------


def test_worked_by_hand():
    # Weights 1 : 3 at the first query, equal ones at the second; values (0, 4) and (8, 0).
    query, key = [[[np.log(3.0)], [0.0]]], [[[0.0], [1.0]]]
    context = context_of((query, key, [[[0.0, 4.0], [8.0, 0.0]]]))
    np.testing.assert_allclose(context, [[[6, 1], [4, 2]]], atol=1e-5)


# Blocks of 1, 3 (the last is not full), 7 (one block) and 100 queries (more than there are).
@pytest.mark.parametrize("rows", [1, 3, 7, 100])
@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
def test_against_loops(rows, mask, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", rows * BATCH * SOURCE)
    context = context_of(inputs_of(), mask)
    np.testing.assert_allclose(context, by_loops(*inputs_of(), mask), atol=TOLERANCE)
    if mask is not None:
        assert not context[2].any()


def test_a_row_of_weights_larger_than_a_block(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 1)
    np.testing.assert_allclose(context_of(inputs_of()), by_loops(*inputs_of()), atol=TOLERANCE)


def test_large_logits():
    # Logits of some thousands: exponentials of them are infinite or 0.
    query, key, value = inputs_of()
    inputs = (100.0 * query, 100.0 * key, value)
    np.testing.assert_allclose(context_of(inputs, MASK), by_loops(*inputs, MASK), atol=TOLERANCE)

    def loss(*inputs):
        context = functional.long_attention(*inputs, tensor(MASK, "bool"))
        return weighted(context, random(BATCH, TARGET, VALUE_DEPTH))

    gradients = gradients_of(loss, [one.astype(DTYPE) for one in inputs])
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("sizes", [(2, 3, 0), (2, 0, 3), (0, 2, 3), (1, 1, 1)], ids=str)
def test_small_sizes(sizes):
    inputs = inputs_of(*sizes)
    for mask in (None, np.ones((sizes[0], sizes[2]), bool)):
        np.testing.assert_allclose(context_of(inputs, mask), by_loops(*inputs), atol=TOLERANCE)


@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
def test_gradients(mask):
    check_gradients(gradients_of, mask)


# Groups of sentences, and blocks of queries in each.
@pytest.mark.parametrize("division", [(1, 1), (1, 7), (2, 1), (2, 7), (4, 1), (4, 7)], ids=str)
def test_division(division, monkeypatch):
    monkeypatch.setattr(module, "_division", lambda query: division)
    context = context_of(inputs_of(), MASK)
    np.testing.assert_allclose(context, by_loops(*inputs_of(), MASK), atol=TOLERANCE)
    check_gradients(gradients_of, MASK)


@pytest.mark.parametrize(
    ("batch", "target", "expected"),
    [(1, 8192, (1, 8)), (4, 2048, (4, 2)), (3, 7, (3, 1)), (11, 16, (1, 8)), (64, 512, (8, 1))]
    + [(None, 8, (1, 1)), (8, None, (1, 1)), (0, 8, (1, 1)), (8, 0, (1, 1))],
)
def test_division_of_queries(batch, target, expected):
    assert module._division(keras.KerasTensor((batch, target, 3))) == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype):
    context = context_of(inputs_of(), MASK, dtype)
    np.testing.assert_allclose(context, by_loops(*inputs_of(), MASK), atol=0.03)
    check_gradients(gradients_of, MASK, tolerance=0.1, dtype=dtype)


def test_half_precision_sums_in_float32():
    # 4,096 queries a thousandth each: bfloat16 would stop adding blocks up at a quarter.
    query, key, value = ops.zeros((1, 4096, 1)), ops.zeros((1, 1, 1)), ops.zeros((1, 1, 1))

    def loss(query, key, value):
        inputs = [ops.cast(one, "bfloat16") for one in (query, key, value)]
        return ops.sum(functional.long_attention(*inputs, None)) / 1024.0

    arrays = to_numpy([query, key, value])
    gradients = gradients_of(loss, arrays)
    np.testing.assert_allclose(gradients[2], [[[4.0]]], rtol=0.01)


# ---------------------------------------------------------------------------------------------
# Graphs and compilers
# ---------------------------------------------------------------------------------------------


def test_compiled():
    def run(*inputs):
        return functional.long_attention(*inputs, tensor(MASK, "bool"))

    (context,) = to_numpy(compiled(run)(*(tensor(one, DTYPE) for one in inputs_of())))
    np.testing.assert_allclose(context, by_loops(*inputs_of(), MASK), atol=TOLERANCE)


@only_tensorflow
def test_gradients_under_xla():
    check_gradients(gradients_under_xla, MASK)


@only_tensorflow
def test_unknown_sizes():
    import tensorflow as tf

    specs = [tf.TensorSpec((None, None, depth)) for depth in (KEY_DEPTH, KEY_DEPTH, VALUE_DEPTH)]

    @tf.function(input_signature=(*specs, tf.TensorSpec((None, None), tf.bool)))
    def run(query, key, value, mask):
        with tf.GradientTape() as tape:
            tape.watch(value)
            context = functional.long_attention(query, key, value, mask)
        return context, tape.gradient(context, value)

    for sizes in ((BATCH, TARGET, SOURCE), (1, 1, 1), (2, 40, 3), (2, 3, 0), (0, 3, 2)):
        inputs = inputs_of(*sizes)
        mask = random(sizes[0], sizes[2]) > -0.5
        context, gradient = run(*(tensor(one) for one in inputs), tf.constant(mask))
        np.testing.assert_allclose(context, by_loops(*inputs, mask), atol=1e-5)
        # A value's gradient is the sum of the weights that it gets.
        query, key, value = inputs
        worth = scores_by_loops(query, key, mask).sum(axis=1)
        expected = np.broadcast_to(worth[..., None], value.shape)
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


# ---------------------------------------------------------------------------------------------
# Memory
# ---------------------------------------------------------------------------------------------

LONG = (2, 64, 48)
SHAPE = re.compile(r"\b(?:f32|bf16|f16|pred|s32)\[([\d,]+)\]|tensor<([\dx]+)x[a-z]")


def sizes_of_tensors(loss, inputs):
    """How many elements the tensors have that `loss` and its gradient compute, largest first."""
    inputs = [one.astype("float32") for one in inputs]
    if BACKEND == "torch":
        import torch

        with torch.profiler.profile(record_shapes=True) as profile:
            gradients_of(loss, inputs)
        shapes = [shape for event in profile.events() for shape in event.input_shapes or ()]
        shapes = [shape for shape in shapes if all(isinstance(size, int) for size in shape)]
    else:
        text = program_of(loss, inputs)
        shapes = [re.split("[,x]", a or b) for a, b in SHAPE.findall(text)]
    return sorted({math.prod(map(int, shape)) for shape in shapes}, reverse=True)


def program_of(loss, inputs):
    """The text of the program for the gradients, before the compiler works on it."""
    if BACKEND == "jax":
        import jax

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*inputs).as_text()
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def gradients(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = loss(*tensors)
        return tape.gradient(result, tensors)

    return gradients.experimental_get_compiler_ir(*map(tf.constant, inputs))(stage="hlo")


def test_never_holds_all_weights(monkeypatch):
    batch, target, source = LONG
    monkeypatch.setattr(module, "_BLOCK", 4 * batch * source)
    inputs = inputs_of(*LONG)
    mask = ops.ones((batch, source), "bool")
    upstream = random(batch, target, VALUE_DEPTH).astype("float32")

    def in_blocks(*inputs):
        return weighted(functional.long_attention(*inputs, mask), upstream)

    def at_once(query, key, value):
        logits = functional.dot_logits(query, key)
        scores = functional.masked_softmax(logits, ops.expand_dims(mask, 1))
        return weighted(functional.weighted_sum(scores, value), upstream)

    # What the inspection sees of the plain way: without that, the test below could not fail.
    assert sizes_of_tensors(at_once, inputs)[0] >= batch * target * source
    largest = sizes_of_tensors(in_blocks, inputs)[0]
    assert 4 * batch * source <= largest < batch * target * source / 4


# ---------------------------------------------------------------------------------------------
# is_long
# ---------------------------------------------------------------------------------------------

# Of depth 0, so that they take no memory.
SIZES = [
    ((16, 1024, 1024), True),
    ((16, 1024, 1023), False),
    ((1, 4096, 4096), True),
    ((0, 4096, 4096), False),
    ((2048, 2048, 1024), True),  # 2^32, which would be 0 in 32 bits
]


def empty(sizes):
    batch, target, source = sizes
    return ops.zeros((batch, target, 0)), ops.zeros((batch, source, 0))


@pytest.mark.parametrize(("sizes", "expected"), SIZES, ids=str)
def test_is_long(sizes, expected):
    assert functional.is_long(*empty(sizes)) is expected


@pytest.mark.parametrize("unknown", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_is_long_where_a_size_is_unknown(unknown):
    # However small the others are: that size may be any.
    batch, target, source = (None if axis in unknown else 1 for axis in range(3))
    query, key = keras.KerasTensor((batch, target, 3)), keras.KerasTensor((batch, source, 3))
    assert functional.is_long(query, key) is True
