"""Small tools on tensors."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import functional
from tests.functional.tools import DTYPE, gradients_of, random, tensor, weighted
from tests.layers.layer_checks import dtype_of, to_numpy


@pytest.mark.parametrize("dtype", sorted({"float32", DTYPE}))
def test_the_logarithm_of_nothing_is_that_of_the_smallest_normal_number(dtype):
    exponent = {"float32": 126, "float64": 1022}[dtype]
    array = np.array([0.0, 2.0 ** -(exponent + 10), 2.0**-exponent, 1.0, np.nan], dtype)
    (logs,) = to_numpy(functional.finite_log(tensor(array, dtype)))
    least = -exponent * np.log(2)
    np.testing.assert_allclose(logs, [least, least, least, 0.0, np.nan], rtol=1e-6)
    (gradient,) = gradients_of(lambda x: ops.sum(functional.finite_log(x)), [array[[0, 3]]])
    np.testing.assert_allclose(gradient, [0.0, 1.0])


def test_zero_masked():
    array = np.array([[[np.nan, 1.0], [2.0, 3.0]]], "float32")
    (masked,) = to_numpy(functional.zero_masked(array, np.array([[False, True]])))
    np.testing.assert_array_equal(masked, [[[0, 0], [2, 3]]])
    assert functional.zero_masked(array, None) is array


def test_zero_masked_silences_a_nan_in_the_gradient_too():
    # x^2 has the gradient 2x: what stands at padding gets none, not 0 x NaN.
    array = np.array([[[np.nan, np.inf], [2.0, 3.0]]], "float32")
    mask = np.array([[False, True]])

    def loss(array):
        return ops.sum(ops.square(functional.zero_masked(array, mask)))

    (gradient,) = gradients_of(loss, [array])
    np.testing.assert_array_equal(gradient, [[[0, 0], [4, 6]]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_float32_at_least(dtype):
    given = tensor([1.0], dtype)
    if dtype_of(given) != dtype:
        pytest.skip("JAX has float64 only with JAX_ENABLE_X64=1")
    expected = "float64" if dtype == "float64" else "float32"
    assert dtype_of(functional.float32_at_least(given)) == expected


@pytest.mark.parametrize("dtype", sorted({"float32", DTYPE}))
def test_tanh(dtype):
    array = np.array([-400.0, -20.0, -1.5, -1e-3, 0.0, 1e-3, 0.5, 20.0, 400.0])
    hidden = functional.tanh(tensor(array, dtype))
    assert dtype_of(hidden) == dtype
    atol = 1e-15 if dtype == "float64" else 1e-6
    np.testing.assert_allclose(to_numpy(hidden)[0], np.tanh(array), atol=atol, rtol=0)


def test_tanh_has_its_gradient():
    array = np.array([-400.0, -1.5, 0.0, 0.5, 400.0]).astype(DTYPE)
    (gradient,) = gradients_of(lambda array: ops.sum(functional.tanh(array)), [array])
    np.testing.assert_allclose(gradient, 1.0 - np.tanh(array) ** 2, atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (2, 1, 5, 4), (0, 4), (2, 0, 4)])
def test_project(shape):
    array, kernel = random(*shape), random(4, 3)
    projected = functional.project(tensor(array), tensor(kernel))
    np.testing.assert_allclose(to_numpy(projected)[0], array @ kernel, atol=1e-5)


def test_project_with_unknown_sizes():
    inputs = keras.Input((None, 4))

    class Project(keras.layers.Layer):
        def call(self, tensor):
            return functional.project(tensor, np.ones((4, 3), "float32"))

    outputs = Project()(inputs)
    assert tuple(outputs.shape) == (None, None, 3)
    array = random(2, 5, 4).astype("float32")
    predicted = keras.Model(inputs, outputs).predict(array, verbose=0)
    np.testing.assert_allclose(predicted[..., 0], array.sum(axis=-1), atol=1e-5)


def test_project_has_its_gradients():
    # d(sum U (x W)) = U W^T dx, and x^T U dW.
    array, kernel, upstream = (
        random(*shape).astype(DTYPE) for shape in ((2, 3, 4), (4, 5), (2, 3, 5))
    )

    def loss(array, kernel):
        return weighted(functional.project(array, kernel), upstream)

    for_array, for_kernel = gradients_of(loss, [array, kernel])
    np.testing.assert_allclose(for_array, upstream @ kernel.T, atol=1e-5)
    np.testing.assert_allclose(
        for_kernel, array.reshape(-1, 4).T @ upstream.reshape(-1, 5), atol=1e-5
    )


def test_weighted_sum_worked_by_hand():
    # 11 (3, 4) + 17 (5, 6)
    scores, value = tensor([[[11.0, 17.0]]]), tensor([[[3.0, 4.0], [5.0, 6.0]]])
    context = functional.weighted_sum(scores, value)
    np.testing.assert_array_equal(to_numpy(context)[0], [[[118, 146]]])


def test_weighted_sum_of_nothing_is_zero():
    context = functional.weighted_sum(ops.zeros((2, 3, 0)), ops.zeros((2, 0, 4)))
    np.testing.assert_array_equal(to_numpy(context)[0], np.zeros((2, 3, 4)))
