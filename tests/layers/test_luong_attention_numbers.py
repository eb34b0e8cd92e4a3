"""`LuongAttention` against the equations: numbers, gradients and what must not change them."""

import math

import keras
import numpy as np
import pytest

from keras_luong.layers import LuongAttention
from tests.layers.number_checks import (
    BATCH,
    LUONG,
    MAX_SOURCE_LENGTH,
    QUERY_DEPTH,
    SCORES,
    SOURCE,
    TARGET,
    assert_equal_numbers,
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
    layer_of,
    masks_of,
    put_garbage,
    random,
    random_inputs,
    random_oracle,
    set_all_weights,
)
from tests.reference import Attention, attend

# ---------------------------------------------------------------------------------------------
# Worked by hand
# ---------------------------------------------------------------------------------------------

LOG3 = math.log(3.0)

# In every example the kept logits are 0 and log 3, so that the weights are 1 / (1 + 3) = 1/4 and
# 3 / (1 + 3) = 3/4, and the context is 1/4 (8, 0) + 3/4 (0, 4) = (2, 3). What differs is the way
# from query and keys to the logits:
#
# dot       h . k:  (1, 2) . (2, -1) = 2 - 2 = 0;  (1, 2) . (log 3, 0) = log 3.
# general   h . (k W), W of shape (key depth 1, query depth 2) = [[1, 3]]:  k = 0 gives 0;
#           k = log(3) / 7 gives k W = (log(3) / 7) (1, 3), and (1, 2) . (1, 3) = 7, so log 3.
# concat    v . tanh(h W_q + k W_k), one unit, v = 2 log 3, W_q = [[1], [1]], W_k = [[1]], so that
#           h W_q = 3:  k = -3 gives 2 log(3) tanh(0) = 0;  k = log(3) / 2 - 3 gives
#           tanh(log(3) / 2) = (e^log3 - 1) / (e^log3 + 1) = 2/4 = 1/2, and so 2 log(3) / 2 = log 3.
# location  h W, W of shape (query depth 2, max_source_length 3):  (1, 2) W = (4 - 4, log 3, 102).
#           The source has two positions, so the third logit is outside the softmax.
HAND_WORKED = {
    "dot": ([[2.0, -1.0], [LOG3, 0.0]], {}),
    "general": ([[0.0], [LOG3 / 7.0]], {"kernel": [[1.0, 3.0]]}),
    "concat": (
        [[-3.0], [LOG3 / 2.0 - 3.0]],
        {"query_kernel": [[1.0], [1.0]], "key_kernel": [[1.0]], "v": [2.0 * LOG3]},
    ),
    "location": (
        [[0.0], [0.0]],
        {"kernel": [[4.0, LOG3, 100.0], [-2.0, 0.0, 1.0]]},
    ),
}


TWO_VALUES = np.array([[[8.0, 0.0], [0.0, 4.0]]], "float32")


def layer_with(weights, inputs, score_mode="location", **options):
    """A layer with these weights, which are written as lists."""
    weights = {name: np.array(weight) for name, weight in weights.items()}
    return build_layer(Attention(score_mode, weights, **options), inputs, "float32")


@pytest.mark.parametrize("score_mode", HAND_WORKED)
def test_example_worked_by_hand(score_mode):
    keys, weights = HAND_WORKED[score_mode]
    inputs = {
        "query": np.array([[[1.0, 2.0]]], "float32"),
        "value": TWO_VALUES,
        "key": np.array([keys], "float32"),
    }
    context, scores = call(layer_with(weights, inputs, score_mode), inputs, {})
    np.testing.assert_allclose(scores, [[[0.25, 0.75]]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(context, [[[2.0, 3.0]]], rtol=0, atol=1e-5)


# Scale 2 and logits 0 and log(3) / 2 give the same weights as above:  2 log(3) / 2 = log 3.
# A bias of log 3 on the second position alone does the same for location when h W is 0.
def test_scale_and_bias_worked_by_hand():
    inputs = {"query": np.array([[[1.0]]], "float32"), "value": TWO_VALUES}
    inputs["key"] = np.array([[[0.0], [LOG3 / 2.0]]], "float32")
    layer = layer_with({"scale": 2.0}, inputs, "dot")
    np.testing.assert_allclose(call(layer, inputs, {})[0], [[[2.0, 3.0]]], rtol=0, atol=1e-5)

    layer = layer_with({"kernel": np.zeros((1, 3)), "bias": [0.0, LOG3, 100.0]}, inputs)
    np.testing.assert_allclose(call(layer, inputs, {})[0], [[[2.0, 3.0]]], rtol=0, atol=1e-5)


# v . (W_s h) + u . sigmoid(h_s), one unit, h = 1, v = log 3, W = 1 and 3, u = 4 log 3, keys log 3
# and 0, whose sigmoids are 3/4 and 1/2:  log 3 + 3 log 3 = 4 log 3  and  3 log 3 + 2 log 3 =
# 5 log 3, which differ by log 3 as above. The third matrix has no position.
def test_tutorial_worked_by_hand():
    inputs = {"query": np.array([[[1.0]]], "float32"), "value": TWO_VALUES}
    inputs["key"] = np.array([[[LOG3], [0.0]]], "float32")
    weights = {"kernel": [[[1.0]], [[3.0]], [[50.0]]], "v": [LOG3], "u": [4.0 * LOG3]}
    layer = layer_with(weights, inputs, "tutorial")
    np.testing.assert_allclose(call(layer, inputs, {})[0], [[[2.0, 3.0]]], rtol=0, atol=1e-5)


# Location scores of zeros: the softmax is even over what the window keeps.
def even_inputs(target=1):
    return {
        "query": np.ones((1, target, 1), "float32"),
        "value": random(1, 5, 2).astype("float32"),
    }


# Five positions, the last one padding: S = 4.
# v_p = 0: p = 4 / 2 = 2. D = 1 keeps [1, 3], both ends, each with 1/3; sigma = 1/2, so the ends get
# exp(-1 / (2 / 4)) = exp(-2).
# W_p h = log(3) / 2, so its tanh is 1/2, and v_p = 2 log 3 makes log 3, whose sigmoid is 3/4, so
# p = 3. D = 2.5 keeps [0.5, 5.5], in the sentence 1, 2 and 3, each with 1/3; sigma = 1.25,
# 2 sigma^2 = 3.125, so the factors are exp(-4 / 3.125), exp(-1 / 3.125) and 1.
@pytest.mark.parametrize(
    ("v", "size", "factors"),
    [
        (0.0, 1, [0.0, math.exp(-2.0), 1.0, math.exp(-2.0), 0.0]),
        (2.0 * LOG3, 2.5, [0.0, math.exp(-1.28), math.exp(-0.32), 1.0, 0.0]),
    ],
)
def test_local_p_worked_by_hand(v, size, factors):
    inputs = even_inputs()
    weights = {"kernel": np.zeros((1, 5)), "position_kernel": [[LOG3 / 2.0]], "position_v": [v]}
    layer = layer_with(weights, inputs, window="local_p", window_size=size)
    mask = np.array([[True, True, True, True, False]])
    _, scores = call(layer, inputs, {"value_mask": mask})
    np.testing.assert_allclose(scores[0, 0], np.array(factors) / 3.0, rtol=0, atol=1e-6)


# D = 1 keeps 0 and 1 of the query at 0, 0 to 2 of that at 1, 1 to 3 of that at 2; at 1.5 it keeps
# [0.5, 2.5], which is 1 and 2; at 6 there is nothing left.
def test_local_m_worked_by_hand():
    inputs = even_inputs(target=3)
    layer = layer_with({"kernel": np.zeros((1, 5))}, inputs, window="local_m", window_size=1)
    half, third = 1.0 / 2.0, 1.0 / 3.0
    _, scores = call(layer, inputs, {})
    expected = [[half, half, 0, 0, 0], [third, third, third, 0, 0], [0, third, third, third, 0]]
    np.testing.assert_allclose(scores[0], expected, rtol=0, atol=1e-6)
    _, scores = call(layer, inputs, {}, query_position=np.array([1.5, 6.0, 5.0]))
    expected = [[0, half, half, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_allclose(scores[0], expected, rtol=0, atol=1e-6)


# Sparsemax of (0, 1/2, -2), highest first: 1 + 1/2 > 1/2 and 1 + 2 0 > 1/2, but 1 - 3 2 < -3/2. Two
# remain, tau = (1/2 - 1) / 2 = -1/4, and the scores are 1/4, 3/4 and 0.
def test_sparsemax_worked_by_hand():
    inputs = even_inputs()
    weights = {"kernel": [[0.0, 0.5, -2.0, 90.0, 90.0]]}
    layer = layer_with(weights, inputs, probability_fn="sparsemax")
    mask = np.array([[True, True, True, False, False]])
    _, scores = call(layer, inputs, {"value_mask": mask})
    np.testing.assert_allclose(scores[0, 0], [0.25, 0.75, 0.0, 0.0, 0.0], rtol=0, atol=1e-6)


# Close logits, so that most positions keep a weight; where they are far apart, one takes all.
@each_dtype
def test_sparsemax_of_close_logits(dtype):
    options = LUONG["sparsemax"]
    oracle, inputs, masks = random_oracle(options), random_inputs(options, dtype), masks_of(options)
    oracle.weights["kernel"] *= 0.1
    layer = build_layer(oracle, inputs, dtype)
    inputs = put_garbage(inputs, masks)
    expected = attend(oracle, **inputs, **masks)
    assert (expected.scores > 0).sum() > 15 and ((expected.scores > 0).sum(axis=-1) > 2).any()
    actual = call(layer, inputs, masks)
    assert_equal_numbers(actual, [expected.context, expected.scores], dtype)


def test_hardmax_takes_the_first_of_equals():
    inputs = even_inputs()
    layer = layer_with({"kernel": [[5.0, 1.0, 3.0, 3.0, 3.0]]}, inputs, probability_fn="hardmax")
    mask = np.array([[False, True, True, True, True]])
    context, scores = call(layer, inputs, {"value_mask": mask})
    np.testing.assert_array_equal(scores[0, 0], [0.0, 0.0, 1.0, 0.0, 0.0])
    np.testing.assert_array_equal(context[0, 0], inputs["value"][0, 2])


# One unit, kernels of zeros, v = 2 log 3 and w = log(3) / 2: a coverage of (0, 1) makes logits of 0
# and 2 log(3) tanh(log(3) / 2) = log 3, so scores of 1/4 and 3/4 as above. Without a coverage they
# are 1/2 and 1/2, and so they are after that, since the coverage is then (1/2, 1/2).
def test_coverage_worked_by_hand():
    inputs = {"query": np.ones((1, 2, 1), "float32"), "value": TWO_VALUES}
    zeros = {"query_kernel": [[0.0]], "key_kernel": [[0.0], [0.0]]}
    weights = {**zeros, "v": [2.0 * LOG3], "coverage_kernel": [LOG3 / 2.0]}
    layer = layer_with(weights, inputs, "concat")
    _, scores = call(layer, inputs, {})
    np.testing.assert_allclose(scores, [[[0.5, 0.5], [0.5, 0.5]]], rtol=0, atol=1e-6)
    inputs["query"] = inputs["query"][:, 0]
    _, scores = call(layer, inputs, {}, state=np.array([[0.0, 1.0]], "float32"))
    np.testing.assert_allclose(scores, [[0.25, 0.75]], rtol=0, atol=1e-6)


# ---------------------------------------------------------------------------------------------
# Against the reference
# ---------------------------------------------------------------------------------------------


@each_dtype
@each(LUONG)
def test_ragged_batch_with_garbage_in_the_padding(options, dtype):
    check_numbers(options, ("query", "value"), dtype)


@pytest.mark.parametrize("masked", [(), ("value",), ("query",)], ids=str)
@each(LUONG, *SCORES, "local_m", "local_p", "hardmax", "sparsemax", "coverage")
def test_without_masks_and_with_one_alone(options, masked):
    check_numbers(options, masked, "float32")


@each(LUONG, "coverage", "coverage_everything")
def test_from_a_coverage(options):
    check_numbers(options, ("query", "value"), "float32", from_state=True)


@each_dtype
@each(LUONG, "local_m", "local_m_dot_sparsemax")
def test_positions_that_are_given(options, dtype):
    oracle, inputs, masks = random_oracle(options), random_inputs(options, dtype), masks_of(options)
    layer = build_layer(oracle, inputs, dtype)
    inputs = put_garbage(inputs, masks)
    of_each = np.array([0.5, 2.0, 3.25]) + np.arange(BATCH)[:, None]
    for positions in (np.array([0.5, 2.0, 3.25]), of_each, np.array([3, 1, 0])):
        expected = attend(oracle, **inputs, **masks, query_position=positions)
        actual = call(layer, inputs, masks, query_position=positions)
        assert_equal_numbers(actual, [expected.context, expected.scores], dtype)
        for t in range(TARGET):
            # One position for all sentences, or one for each.
            position = positions[..., t] if positions.ndim == 2 else positions[t].item()
            step = {**inputs, "query": inputs["query"][:, t]}
            step_masks = {**masks, "query_mask": masks["query_mask"][:, t]}
            actual = call(layer, step, step_masks, query_position=position)
            wanted = [expected.context[:, t], expected.scores[:, t]]
            assert_equal_numbers(actual, wanted, dtype)


@each_dtype
@each(LUONG, *SCORES, "local_p", "coverage")
def test_a_layer_first_called_with_one_step_is_the_same_layer(options, dtype):
    oracle, inputs, masks = random_oracle(options), random_inputs(options, dtype), masks_of(options)
    inputs = put_garbage(inputs, masks)
    expected = attend(oracle, **inputs, **masks)
    inputs["query"], masks["query_mask"] = inputs["query"][:, 0], masks["query_mask"][:, 0]
    layer = layer_of(oracle, dtype)
    layer(**inputs, **masks)
    set_all_weights(layer, oracle)
    wanted = [expected.context[:, 0], expected.scores[:, 0]]
    assert_equal_numbers(call(layer, inputs, masks), wanted, dtype)


@each_dtype
@each(LUONG, *SCORES, "local_p", "coverage")
def test_without_a_key_the_value_is_the_key(options, dtype):
    inputs = {
        "query": random(BATCH, TARGET, QUERY_DEPTH).astype(dtype),
        "value": random(BATCH, SOURCE, QUERY_DEPTH, seed=3).astype(dtype),
    }
    oracle, masks = random_oracle(options, key_depth=QUERY_DEPTH), masks_of(options)
    layer = build_layer(oracle, inputs, dtype)
    inputs = put_garbage(inputs, masks)
    expected = attend(oracle, **inputs, **masks)
    actual = call(layer, inputs, masks)
    assert_equal_numbers(actual, [expected.context, expected.scores], dtype)
    # Nor do the scores that are not asked for change the context.
    context_alone = keras.ops.convert_to_numpy(layer(**inputs, **masks))
    np.testing.assert_array_equal(context_alone, actual[0])


@each(LUONG, *SCORES, "local_m", "local_p", "hardmax", "sparsemax", "coverage")
def test_axes_of_size_zero(options):
    check_empty_axes(options)


@each_dtype
@each(LUONG, *(f"{name}_scale" for name in SCORES))
def test_large_logits_do_not_overflow(options, dtype):
    oracle, inputs, masks = random_oracle(options), random_inputs(options, dtype), masks_of(options)
    oracle.weights["scale"] = np.array(2.0**16)
    layer = build_layer(oracle, inputs, dtype)
    inputs = put_garbage(inputs, masks)
    expected = attend(oracle, **inputs, **masks)
    # So large a scale makes the softmax a hard maximum: rounding cannot move it.
    assert np.isin(expected.scores.round(12), (0.0, 1.0)).all()
    actual = call(layer, inputs, masks)
    assert_equal_numbers(actual, [expected.context, expected.scores], dtype)


@each(LUONG)
def test_initial_weights(options):
    oracle = random_oracle(options)
    layer = layer_of(oracle)
    # Built, and not given other weights.
    inputs = random_inputs(options, "float32")
    layer.build(*(inputs[name].shape for name in ("query", "value", "key")))
    arrays = {w.name: keras.ops.convert_to_numpy(w) for w in layer.trainable_weights}
    expected = {name: np.shape(array) for name, array in oracle.weights.items()}
    assert {name: array.shape for name, array in arrays.items()} == expected
    assert arrays.pop("scale", 1.0) == 1.0
    assert not np.any(arrays.pop("bias", 0.0))
    assert all(array.all() for array in arrays.values())


def test_default_units_and_default_window_size():
    layer = LuongAttention("concat")
    layer.build((None, None, 3), (None, None, 4))
    assert layer.v.shape == (3,)
    layer = LuongAttention("tutorial", max_source_length=MAX_SOURCE_LENGTH)
    layer.build((None, None, 3), (None, None, 4))
    assert layer.kernel.shape == (MAX_SOURCE_LENGTH, 3, 3) and layer.v.shape == (3,)
    # D = 10: 11 positions of the query at 0.
    layer = LuongAttention("location", max_source_length=30, window="local_m")
    _, scores = call(layer, {"query": np.ones((1, 1, 2)), "value": np.ones((1, 30, 2))}, {})
    assert (scores[0, 0] > 0).sum() == 11


# ---------------------------------------------------------------------------------------------
# Invariances
# ---------------------------------------------------------------------------------------------

each_kind = each(
    LUONG,
    "dot_scale",
    "general",
    "concat_bias",
    "location_scale_bias",
    "tutorial_softmax",
    "local_m",
    "local_p",
    "sparsemax",
    "coverage",
)


@each_kind
def test_padding_content_does_not_matter(options):
    check_padding_content(options)


@each_kind
def test_extra_padding_columns_do_not_matter(options):
    check_extra_padding(options)


@each_kind
def test_batch_mates_do_not_matter(options):
    check_batch_mates(options)


# ---------------------------------------------------------------------------------------------
# Gradients
# ---------------------------------------------------------------------------------------------


@each(
    LUONG,
    "dot_scale",
    "general",
    "concat_scale_bias",
    "location_scale_bias",
    "tutorial",
    "tutorial_softmax",
    "local_m",
    "local_p",
    "local_p_sparsemax",
    "sparsemax",
    "coverage_everything",
)
def test_gradients_are_the_central_differences(options):
    check_gradients(options)


@each(LUONG, "dot_scale", "concat_scale_bias", "local_m", "local_p", "coverage")
def test_gradients_of_one_step_are_the_central_differences(options):
    check_gradients(options, single_step=True)
