"""The maths at its edges: the ordinary numbers are held by the tests of the layers."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import functional
from tests.layers.layer_checks import dtype_of, to_numpy
from tests.reference import automatic_gradients


def random(*shape):
    return np.random.default_rng(shape).normal(size=shape).astype("float32")


def softmax(logits, mask=None):
    (scores,) = to_numpy(functional.masked_softmax(ops.convert_to_tensor(logits), mask))
    return scores


# ---------------------------------------------------------------------------------------------
# masked_softmax
# ---------------------------------------------------------------------------------------------


def test_softmax_over_kept_positions():
    # e^0 : e^ln 3 = 1 : 3, whatever the masked one holds.
    logits = np.array([[0.0, np.log(3.0), 50.0], [np.nan, 7.0, np.inf]], "float32")
    mask = np.array([[True, True, False], [False, True, False]])
    np.testing.assert_allclose(softmax(logits, mask), [[0.25, 0.75, 0], [0, 1, 0]], atol=1e-6)


def test_softmax_without_a_mask():
    logits = np.log(np.array([[[1.0, 2.0, 5.0]]], "float32"))
    np.testing.assert_allclose(softmax(logits), [[[0.125, 0.25, 0.625]]], atol=1e-6)


def test_softmax_mask_is_broadcast():
    logits = np.zeros((2, 3, 2), "float32")
    mask = np.array([[[True, False]], [[True, True]]])
    scores = softmax(logits, mask)
    np.testing.assert_array_equal(scores[0], [[1, 0]] * 3)
    np.testing.assert_array_equal(scores[1], [[0.5, 0.5]] * 3)


@pytest.mark.parametrize("logit", [0.0, np.nan, np.inf, -np.inf, 3e38])
def test_softmax_of_nothing_is_zero_and_so_is_its_gradient(logit):
    logits = np.array([[logit] * 3, [1.0, 2.0, 3.0]], "float32")
    mask = np.array([[False] * 3, [True] * 3])
    scores = softmax(logits, mask)
    assert not scores[0].any() and scores[1].sum() == pytest.approx(1.0)

    def loss(logits):
        upstream = ops.convert_to_tensor([1.0, 2.0, 4.0], "float32")
        return ops.sum(functional.masked_softmax(logits, mask) * upstream)

    ((gradient,), _) = automatic_gradients(loss, [logits], [])
    assert not gradient[0].any()
    assert np.isfinite(gradient[1]).all() and gradient[1].any()


@pytest.mark.parametrize("mask", [None, np.zeros((2, 3, 0), bool)], ids=["unmasked", "masked"])
def test_softmax_of_an_axis_of_length_zero(mask):
    assert softmax(np.zeros((2, 3, 0), "float32"), mask).shape == (2, 3, 0)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([3e38, 3e38, -3e38], [0.5, 0.5, 0]),
        ([-3e38, -3e38, -3e38], [1 / 3] * 3),
        ([1e4, 1e4 + 1, -1e4], [0.2689414, 0.7310586, 0]),
        ([-np.inf, 0.0, 0.0], [0, 0.5, 0.5]),
    ],
    ids=str,
)
def test_softmax_of_huge_logits(logits, expected):
    logits = np.array([logits], "float32")
    np.testing.assert_allclose(softmax(logits), [expected], atol=1e-4)
    kept = np.ones((1, 3), bool)
    np.testing.assert_allclose(softmax(logits, kept), [expected], atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_softmax_of_half_precision_is_float32(dtype):
    # 2,048 equal weights sum to 1 in float32; neither half precision counts so far.
    logits = ops.zeros((1, 2048), dtype)
    scores = functional.masked_softmax(logits, ops.ones((1, 2048), "bool"))
    assert dtype_of(scores) == "float32"
    np.testing.assert_allclose(to_numpy(scores)[0], 1 / 2048, rtol=1e-6)
    largest = {"float16": 65504.0, "bfloat16": 3e38}[dtype]
    logits = ops.convert_to_tensor([[largest, -largest]], dtype)
    np.testing.assert_array_equal(to_numpy(functional.masked_softmax(logits))[0], [[1, 0]])


def test_softmax_of_float64_is_float64():
    logits = ops.convert_to_tensor(np.log([[1.0, 3.0]]), "float64")
    if dtype_of(logits) != "float64":
        pytest.skip("JAX has float64 only with JAX_ENABLE_X64=1")
    for mask in (None, ops.ones((1, 2), "bool")):
        scores = functional.masked_softmax(logits, mask)
        assert dtype_of(scores) == "float64"
        np.testing.assert_allclose(to_numpy(scores)[0], [[0.25, 0.75]], rtol=1e-14)
    nothing = functional.masked_softmax(logits, ops.zeros((1, 2), "bool"))
    assert not to_numpy(nothing)[0].any()


# ---------------------------------------------------------------------------------------------
# The rest
# ---------------------------------------------------------------------------------------------


def test_zero_masked():
    tensor = np.array([[[np.nan, 1.0], [2.0, 3.0]]], "float32")
    (masked,) = to_numpy(functional.zero_masked(tensor, np.array([[False, True]])))
    np.testing.assert_array_equal(masked, [[[0, 0], [2, 3]]])
    assert functional.zero_masked(tensor, None) is tensor


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (2, 1, 5, 4), (0, 4), (2, 0, 4)])
def test_project(shape):
    tensor, kernel = random(*shape), random(4, 3)
    projected = functional.project(ops.convert_to_tensor(tensor), ops.convert_to_tensor(kernel))
    np.testing.assert_allclose(to_numpy(projected)[0], tensor @ kernel, atol=1e-5)


def test_project_with_unknown_sizes():
    inputs = keras.Input((None, 4))

    class Project(keras.layers.Layer):
        def call(self, tensor):
            return functional.project(tensor, np.ones((4, 3), "float32"))

    outputs = Project()(inputs)
    assert tuple(outputs.shape) == (None, None, 3)
    predicted = keras.Model(inputs, outputs).predict(random(2, 5, 4), verbose=0)
    np.testing.assert_allclose(predicted[..., 0], random(2, 5, 4).sum(axis=-1), atol=1e-5)


def test_location_logits_are_cut_to_the_source():
    query, kernel, bias = random(2, 3, 4), random(4, 7), random(7)
    tensors = [ops.convert_to_tensor(one) for one in (query, kernel)]
    (cut,) = to_numpy(functional.location_logits(*tensors, 5))
    np.testing.assert_allclose(cut, (query @ kernel)[..., :5], atol=1e-5)
    (biased,) = to_numpy(functional.location_logits(*tensors, 7, ops.convert_to_tensor(bias)))
    np.testing.assert_allclose(biased, query @ kernel + bias, atol=1e-5)
    assert to_numpy(functional.location_logits(*tensors, 0))[0].shape == (2, 3, 0)


def test_concat_logits_worked_by_hand():
    # tanh(0.25 + 0.5 - 0.75) = 0 and tanh(0.25 + 100 - 0.75) = 1, times v = 3.
    query, key = np.array([[[0.25]]], "float32"), np.array([[[0.5], [100.0]]], "float32")
    v, bias = np.array([3.0], "float32"), np.array([-0.75], "float32")
    (logits,) = to_numpy(
        functional.concat_logits(*(ops.convert_to_tensor(one) for one in (query, key, v, bias)))
    )
    np.testing.assert_allclose(logits, [[[0.0, 3.0]]], atol=1e-6)


def test_dot_logits_and_weighted_sum_worked_by_hand():
    query, key = (
        np.array([[[1.0, 2.0]]], "float32"),
        np.array([[[3.0, 4.0], [5.0, 6.0]]], "float32"),
    )
    query, key = ops.convert_to_tensor(query), ops.convert_to_tensor(key)
    logits = functional.dot_logits(query, key)
    np.testing.assert_array_equal(to_numpy(logits)[0], [[[11.0, 17.0]]])
    # 11 (3, 4) + 17 (5, 6)
    np.testing.assert_array_equal(to_numpy(functional.weighted_sum(logits, key))[0], [[[118, 146]]])
