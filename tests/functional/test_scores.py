"""Attention logits: worked by hand, and one source position at a time."""

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
from tests.layers.layer_checks import to_numpy
from tests.reference import central_differences

BATCH, TARGET, SOURCE, UNITS = 2, 3, 4, 5


def test_dot_logits_worked_by_hand():
    query, key = tensor([[[1.0, 2.0]]]), tensor([[[3.0, 4.0], [5.0, 6.0]]])
    np.testing.assert_array_equal(to_numpy(functional.dot_logits(query, key))[0], [[[11.0, 17.0]]])


def test_additive_logits_worked_by_hand():
    # tanh(0.25 + 0.5 - 0.75) = 0 and tanh(0.25 + 100 - 0.75) = 1, times v = 3.
    arrays = ([[[0.25]]], [[[0.5], [100.0]]], [3.0], [-0.75])
    (logits,) = to_numpy(functional.additive_logits(*(tensor(one) for one in arrays)))
    np.testing.assert_allclose(logits, [[[0.0, 3.0]]], atol=1e-6)


def test_additive_logits_with_coverage_worked_by_hand():
    # Unit 1: 0.5 + 0.5 - 2 x 0.5 = 0, so tanh is 0; unit 2: 0 + 0 + 100 x 0.5, so tanh is 1.
    # At position 1 nothing was attended to: tanh(0.5 + 100) = 1 and tanh(0 + 0) = 0. v = (3, 7).
    (logits,) = to_numpy(
        functional.additive_logits(
            tensor([[[0.5, 0.0]]]),
            tensor([[[0.5, 0.0], [100.0, 0.0]]]),
            tensor([3.0, 7.0]),
            coverage=tensor([[[0.5, 0.0]]]),
            coverage_kernel=tensor([-2.0, 100.0]),
        )
    )
    np.testing.assert_allclose(logits, [[[7.0, 3.0]]], atol=1e-6)


def additive_inputs():
    shapes = {
        "projected_query": (BATCH, TARGET, UNITS),
        "projected_key": (BATCH, SOURCE, UNITS),
        "v": (UNITS,),
        "bias": (UNITS,),
        "coverage": (BATCH, TARGET, SOURCE),
        "coverage_kernel": (UNITS,),
    }
    return {
        name: random(*shape, seed=seed).astype(DTYPE)
        for seed, (name, shape) in enumerate(shapes.items())
    }


def additive_by_loops(projected_query, projected_key, v, bias, coverage, coverage_kernel):
    logits = np.zeros((BATCH, TARGET, SOURCE))
    for b, t, s in np.ndindex(*logits.shape):
        hidden = projected_query[b, t] + projected_key[b, s] + bias
        hidden = hidden + coverage[b, t, s] * coverage_kernel
        logits[b, t, s] = np.dot(v, np.tanh(hidden))
    return logits


@pytest.mark.parametrize("left_out", [(), ("bias",), ("coverage", "coverage_kernel")], ids=str)
def test_additive_logits(left_out):
    inputs = additive_inputs()
    zeros = {name: np.zeros_like(inputs[name]) for name in left_out}
    given = {name: tensor(one, DTYPE) for name, one in inputs.items() if name not in left_out}
    (logits,) = to_numpy(functional.additive_logits(**given))
    np.testing.assert_allclose(logits, additive_by_loops(**{**inputs, **zeros}), atol=TOLERANCE)


def test_additive_logits_have_their_gradients():
    inputs, upstream = additive_inputs(), random(BATCH, TARGET, SOURCE, seed=9)

    def loss(*arrays):
        logits = functional.additive_logits(**dict(zip(inputs, arrays, strict=True)))
        return weighted(logits, upstream)

    gradients = gradients_of(loss, list(inputs.values()))
    doubles = {name: one.astype("float64") for name, one in inputs.items()}
    for name, gradient in zip(inputs, gradients, strict=True):
        expected = central_differences(
            lambda: np.sum(upstream * additive_by_loops(**doubles)), doubles[name]
        )
        np.testing.assert_allclose(gradient, expected, atol=GRADIENT_TOLERANCE, err_msg=name)


def test_location_logits_are_cut_to_the_source():
    query, kernel, bias = random(2, 3, 4), random(4, 7), random(7)
    tensors = [tensor(query), tensor(kernel)]
    (cut,) = to_numpy(functional.location_logits(*tensors, 5))
    np.testing.assert_allclose(cut, (query @ kernel)[..., :5], atol=1e-5)
    (biased,) = to_numpy(functional.location_logits(*tensors, 7, tensor(bias)))
    np.testing.assert_allclose(biased, query @ kernel + bias, atol=1e-5)
    assert to_numpy(functional.location_logits(*tensors, 0))[0].shape == (2, 3, 0)


@pytest.mark.parametrize("score", ["dot", "additive"])
def test_logits_over_a_source_of_length_zero(score):
    query, key = ops.zeros((2, 3, 4)), ops.zeros((2, 0, 4))
    logits = (
        functional.dot_logits(query, key)
        if score == "dot"
        else functional.additive_logits(query, key, ops.ones((4,)))
    )
    assert tuple(logits.shape) == (2, 3, 0)
