"""How far two predictions are apart."""

import numpy as np
import pytest
from keras import ops

from keras_luong import functional
from tests.functional.tools import (
    DTYPE,
    GRADIENT_TOLERANCE,
    TOLERANCE,
    gradients_of,
    random,
    tensor,
    weighted,
)
from tests.layers.layer_checks import dtype_of, to_numpy
from tests.reference import central_differences


def by_loops(logits, other):
    """The mean of both Kullback-Leibler divergences, from their definition."""
    apart = np.zeros(logits.shape[:-1])
    for index in np.ndindex(apart.shape):
        p, q = (np.exp(one[index]) / np.exp(one[index]).sum() for one in (logits, other))
        apart[index] = (sum(p * np.log(p / q)) + sum(q * np.log(q / p))) / 2
    return apart


def two():
    return 2.0 * random(2, 3, 5), 2.0 * random(2, 3, 5, seed=1)


def divergence(logits, other, dtype=DTYPE):
    (apart,) = to_numpy(
        functional.symmetric_divergence(tensor(logits, dtype), tensor(other, dtype))
    )
    return apart


def test_worked_by_hand():
    # 3/4 log 3 - 1/4 log 3 either way; and nothing between equals.
    logits = np.log([[0.75, 0.25], [0.75, 0.25]])
    other = np.log([[0.25, 0.75], [0.75, 0.25]])
    np.testing.assert_allclose(divergence(logits, other), [0.5 * np.log(3), 0.0], atol=TOLERANCE)


def test_against_loops():
    np.testing.assert_allclose(divergence(*two()), by_loops(*two()), atol=10 * TOLERANCE)


def test_gradients():
    logits, other = two()
    upstream = random(2, 3)

    def loss(logits, other):
        return weighted(functional.symmetric_divergence(logits, other), upstream)

    given = [one.astype(DTYPE) for one in (logits, other)]
    for gradient, one in zip(gradients_of(loss, given), (logits, other), strict=True):
        expected = central_differences(lambda: np.sum(upstream * by_loops(logits, other)), one)
        np.testing.assert_allclose(gradient, expected, atol=GRADIENT_TOLERANCE)


def test_what_is_ruled_out_in_both_counts_for_nothing():
    logits, other = two()
    ruled_out = [np.concatenate([one, np.full((2, 3, 1), -np.inf)], -1) for one in (logits, other)]
    np.testing.assert_allclose(divergence(*ruled_out), by_loops(logits, other), atol=10 * TOLERANCE)

    def loss(logits, other):
        return ops.sum(functional.symmetric_divergence(logits, other))

    plain = gradients_of(loss, [one.astype(DTYPE) for one in (logits, other)])
    gradients = gradients_of(loss, [one.astype(DTYPE) for one in ruled_out])
    for gradient, expected in zip(gradients, plain, strict=True):
        np.testing.assert_allclose(gradient[..., :-1], expected, atol=TOLERANCE)
        np.testing.assert_array_equal(gradient[..., -1], 0.0)


@pytest.mark.parametrize("dtype", sorted({"float32", DTYPE}))
def test_far_apart_is_finite(dtype):
    # Of a probability of 0 stays the smallest normal number: p = 1 against 2^-126, both ways.
    logits, other, exponent = [[1000.0, 0.0]], [[0.0, 1000.0]], {"float32": 126, "float64": 1022}
    found = divergence(logits, other, dtype)
    np.testing.assert_allclose(found, [exponent[dtype] * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    logits = tensor(np.zeros((1, 2, 3)), dtype)
    assert dtype_of(functional.symmetric_divergence(logits, logits)) == "float32"
