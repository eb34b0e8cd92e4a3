"""`MonotonicAttention` against the paper's sums: numbers, gradients, what must not change them."""

import math

import keras
import numpy as np
import pytest

from keras_luong.layers import LuongAttention, MonotonicAttention
from tests.layers.number_checks import (
    BATCH,
    MONOTONIC,
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
    masks_of,
    put_garbage,
    random,
    random_inputs,
    random_oracle,
)
from tests.reference import Attention, Monotonic, attend

LOG3 = math.log(3.0)
SOFT = ("parallel", "recursive")

each_kind = each(MONOTONIC, "monotonic", "monotonic_hard")


def location_layer(logits, score_bias, mode, target=2):
    """Logits as they are written, whatever the query, and the values 1, 10 and 100."""
    oracle = Monotonic(
        Attention("location", {"kernel": np.array([logits])}), np.array(score_bias), mode
    )
    inputs = {
        "query": np.ones((1, target, 1), "float32"),
        "value": np.array([[[1.0], [10.0], [100.0]]], "float32"),
    }
    return build_layer(oracle, inputs, "float32"), inputs


# With r = log 3 the logits are 0, log 3 and 0, so that p = 1/2, 3/4 and 1/2.
# Step 1, from position 0:  q_0 = 1, a_0 = 1/2;  q_1 = 1/2 1 = 1/2, a_1 = 3/8;
#   q_2 = 1/4 1/2 = 1/8, a_2 = 1/16.  Context 1/2 + 30/8 + 100/16 = 10.5.
# Step 2, from there:  q_0 = 1/2, a_0 = 1/4;  q_1 = 1/2 1/2 + 3/8 = 5/8, a_1 = 15/32;
#   q_2 = 1/4 5/8 + 1/16 = 7/32, a_2 = 7/64.  Context 1/4 + 150/32 + 700/64 = 15.875.
@pytest.mark.parametrize("mode", SOFT)
def test_expectation_worked_by_hand(mode):
    layer, inputs = location_layer([-LOG3, 0.0, -LOG3], LOG3, mode)
    context, scores = call(layer, inputs, {})
    expected = [[1 / 2, 3 / 8, 1 / 16], [1 / 4, 15 / 32, 7 / 64]]
    np.testing.assert_allclose(scores[0], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(context[0], [[10.5], [15.875]], rtol=1e-6)


# The middle one padding: p = 1/2, 0 and 1/2.
# Step 1:  a_0 = 1/2;  q_2 = q_1 = 1/2, a_2 = 1/4.
# Step 2:  q_0 = 1/2, a_0 = 1/4;  q_1 = 1/4, q_2 = 1/4 + 1/4 = 1/2, a_2 = 1/4.
@pytest.mark.parametrize("mode", SOFT)
def test_expectation_past_padding_worked_by_hand(mode):
    layer, inputs = location_layer([-LOG3, 0.0, -LOG3], LOG3, mode)
    _, scores = call(layer, inputs, {"value_mask": np.array([[True, False, True]])})
    np.testing.assert_allclose(scores[0], [[1 / 2, 0, 1 / 4], [1 / 4, 0, 1 / 4]], atol=1e-6)


# With r = -1 the logits are -1/2, 1 and 2: the reader passes 0 and stays at 1; if that is padding,
# at 2. Without a logit above 0 it is gone, and does not come back.
def test_hard_choices_worked_by_hand():
    layer, inputs = location_layer([0.5, 2.0, 3.0], -1.0, "hard")
    context, scores = call(layer, inputs, {})
    np.testing.assert_array_equal(scores[0], [[0, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(context[0], [[10.0], [10.0]])
    _, scores = call(layer, inputs, {"value_mask": np.array([[True, False, True]])})
    np.testing.assert_array_equal(scores[0], [[0, 0, 1], [0, 0, 1]])

    layer, inputs = location_layer([-1.0, 2.0, -1.0], 0.0, "hard")
    state = np.array([[0.0, 0.0, 1.0]], "float32")
    context, scores = call(layer, inputs, {}, state=state)
    assert not scores.any() and not context.any()


@each_dtype
@each(MONOTONIC)
def test_ragged_batch_with_garbage_in_the_padding(options, dtype):
    check_numbers(options, ("query", "value"), dtype)


@pytest.mark.parametrize("masked", [(), ("value",), ("query",)], ids=str)
@each(MONOTONIC, "monotonic")
def test_without_masks_and_with_one_alone(options, masked):
    check_numbers(options, masked, "float32")


@each(MONOTONIC, "monotonic", "monotonic_recursive", "monotonic_hard")
def test_from_earlier_scores(options):
    check_numbers(options, ("query", "value"), "float32", from_state=True)


# What the paper's quotient of cumulative products makes NaN of: a product of 300 factors.
@pytest.mark.parametrize("mode", SOFT)
def test_a_long_source_does_not_underflow(mode):
    oracle = Monotonic(Attention("dot", {"scale": np.array(5.0)}), np.array(0.0), mode)
    inputs = {
        "query": random(1, 2, 3).astype("float32"),
        "value": random(1, 300, 3).astype("float32"),
    }
    layer = build_layer(oracle, inputs, "float32")
    # A reader near the end, since from position 0 none would come that far.
    state = np.zeros((1, 300), "float32")
    state[0, [0, 290]] = 0.5
    # Only the start that matters: the reference sums over starts times stops.
    values = inputs["value"].astype("float64")
    expected = []
    for _ in range(2):
        earlier = state[0] if not expected else expected[-1]
        logits = 5.0 * values[0] @ inputs["query"][0, len(expected)].astype("float64")
        stops, row = 1.0 / (1.0 + np.exp(-logits)), np.zeros(300)
        for before in np.flatnonzero(earlier):
            still_reading = earlier[before] * np.cumprod(np.append(1.0, 1.0 - stops[before:-1]))
            row[before:] += still_reading * stops[before:]
        expected.append(row)
    _, scores = call(layer, inputs, {}, state=state)
    np.testing.assert_allclose(scores[0], expected, rtol=0, atol=1e-5)
    assert scores[0, 1, 290:].sum() > 0.1


@pytest.mark.parametrize("start", [0.0, -2.5])
def test_initial_weights(start):
    layer = MonotonicAttention(LuongAttention("general"), score_bias_init=start)
    layer.build((None, None, 3), (None, None, 4))
    assert {w.name: w.shape for w in layer.trainable_weights} == {
        "score_bias": (),
        "kernel": (4, 3),
    }
    assert keras.ops.convert_to_numpy(layer.score_bias) == start


# The weights of a soft layer in a hard one, as its docstring says.
def test_weights_of_a_soft_layer_fit_a_hard_one():
    options = MONOTONIC["monotonic_normalize"]
    oracle, inputs, masks = (
        random_oracle(options),
        random_inputs(options, "float32"),
        masks_of(options),
    )
    soft = build_layer(oracle, inputs, "float32")
    hard = build_layer(random_oracle({**options, "mode": "hard"}), inputs, "float32")
    for variable in hard.trainable_weights:
        variable.assign(np.zeros(variable.shape))
    hard.set_weights(soft.get_weights())
    inputs = put_garbage(inputs, masks)
    expected = attend(Monotonic(oracle.attention, oracle.score_bias, "hard"), **inputs, **masks)
    _, scores = call(hard, inputs, masks)
    np.testing.assert_allclose(scores, expected.scores, rtol=0, atol=1e-6)
    assert 0 < scores.sum() < BATCH * 3


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


@each(MONOTONIC, "monotonic", "monotonic_recursive", "monotonic_normalize")
def test_gradients_are_the_central_differences(options):
    check_gradients(options)


@each(MONOTONIC, "monotonic", "monotonic_location")
def test_gradients_of_one_step_are_the_central_differences(options):
    check_gradients(options, single_step=True)
