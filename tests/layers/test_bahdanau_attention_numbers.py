"""`BahdanauAttention` against the equations: numbers, gradients and what must not change them."""

import math

import keras
import numpy as np
import pytest

from keras_luong.layers import BahdanauAttention
from tests.layers.number_checks import (
    BAHDANAU,
    build_layer,
    call,
    check_batch_mates,
    check_empty_axes,
    check_extra_padding,
    check_gradients,
    check_numbers,
    check_padding_content,
    each,
    each_dtype,
    random_inputs,
    random_oracle,
)
from tests.reference import Attention

LOG3 = math.log(3.0)

each_kind = each(BAHDANAU, "normalize", "bahdanau_coverage")


# Two units. The query 1 and the bias cancel: (1, 2) + (-1, -2) = 0, so tanh acts on k (1, 0).
# v = (3, 4) has length 5, and g = 10 log(3) / 3, so g v / |v| = (2 log 3, 8 log(3) / 3):
# k = 0 gives 0, k = log(3) / 2 gives 2 log(3) tanh(log(3) / 2) = 2 log(3) / 2 = log 3.
# The scores are 1 / (1 + 3) and 3 / (1 + 3), the context 1/4 (8, 0) + 3/4 (0, 4) = (2, 3).
def test_normalize_worked_by_hand():
    weights = {
        "query_kernel": np.array([[1.0, 2.0]]),
        "key_kernel": np.array([[1.0, 0.0]]),
        "v": np.array([3.0, 4.0]),
        "g": np.array(10.0 * LOG3 / 3.0),
        "bias": np.array([-1.0, -2.0]),
    }
    inputs = {
        "query": np.array([[[1.0]]], "float32"),
        "value": np.array([[[8.0, 0.0], [0.0, 4.0]]], "float32"),
        "key": np.array([[[0.0], [LOG3 / 2.0]]], "float32"),
    }
    layer = build_layer(Attention("bahdanau", weights), inputs, "float32")
    context, scores = call(layer, inputs, {})
    np.testing.assert_allclose(scores, [[[0.25, 0.75]]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(context, [[[2.0, 3.0]]], rtol=0, atol=1e-5)
    # However long v is.
    layer.v.assign([0.003, 0.004])
    np.testing.assert_allclose(call(layer, inputs, {})[1], scores, rtol=0, atol=1e-6)


@each_dtype
@each(BAHDANAU)
def test_ragged_batch_with_garbage_in_the_padding(options, dtype):
    check_numbers(options, ("query", "value"), dtype)


@pytest.mark.parametrize("masked", [(), ("value",), ("query",)], ids=str)
@each_kind
def test_without_masks_and_with_one_alone(options, masked):
    check_numbers(options, masked, "float32")


@each(BAHDANAU, "bahdanau_coverage", "normalize_coverage_sparsemax")
def test_from_a_coverage(options):
    check_numbers(options, ("query", "value"), "float32", from_state=True)


@each(BAHDANAU)
def test_initial_weights(options):
    oracle, inputs = random_oracle(options), random_inputs(options, "float32")
    layer = BahdanauAttention(
        len(oracle.weights["v"]),
        normalize="g" in oracle.weights,
        use_coverage="coverage_kernel" in oracle.weights,
    )
    layer.build(*(inputs[name].shape for name in ("query", "value", "key")))
    arrays = {w.name: keras.ops.convert_to_numpy(w) for w in layer.trainable_weights}
    expected = {name: np.shape(array) for name, array in oracle.weights.items()}
    assert {name: array.shape for name, array in arrays.items()} == expected
    # Six units.
    assert arrays.pop("g", 0.40824829) == pytest.approx(0.40824829)
    assert not np.any(arrays.pop("bias", 0.0))
    assert all(array.all() for array in arrays.values())


@each_kind
def test_axes_of_size_zero(options):
    check_empty_axes(options)


@each_kind
def test_padding_content_does_not_matter(options):
    check_padding_content(options)


@each_kind
def test_extra_padding_columns_do_not_matter(options):
    check_extra_padding(options)


@each_kind
def test_batch_mates_do_not_matter(options):
    check_batch_mates(options)


@each(BAHDANAU, "bahdanau", "normalize", "normalize_coverage_sparsemax")
def test_gradients_are_the_central_differences(options):
    check_gradients(options)


@each_kind
def test_gradients_of_one_step_are_the_central_differences(options):
    check_gradients(options, single_step=True)
