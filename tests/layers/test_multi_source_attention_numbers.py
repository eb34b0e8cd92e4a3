"""`MultiSourceAttention` against the equations of its parts, side by side."""

import numpy as np
import pytest

from tests.layers.number_checks import (
    LUONG,
    MULTI_SOURCE,
    assert_equal_numbers,
    build_layer,
    call,
    check_batch_mates,
    check_gradients,
    check_numbers,
    check_padding_content,
    each,
    each_dtype,
    masks_of,
    put_garbage,
    random_inputs,
    random_oracle,
)
from tests.reference import Attention, MultiSource, attend


# Location scores of zeros: 1/2 each of two source states, 1/3 each of three, and the contexts are
# (2 + 4) / 2 = 3 and (3 + 6 + 9) / 3 = 6, which stand side by side.
def test_example_worked_by_hand():
    oracle = MultiSource([Attention("location", {"kernel": np.zeros((1, 3))}) for _ in range(2)])
    inputs = {
        "query": np.ones((1, 1, 1), "float32"),
        "value": [
            np.array([[[2.0], [4.0]]], "float32"),
            np.array([[[3.0], [6.0], [9.0]]], "float32"),
        ],
    }
    context, scores = call(build_layer(oracle, inputs, "float32"), inputs, {})
    np.testing.assert_allclose(context, [[[3.0, 6.0]]], rtol=1e-6)
    np.testing.assert_allclose(scores, [[[1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3]]], rtol=1e-6)


@each_dtype
@each(MULTI_SOURCE)
def test_ragged_batch_with_garbage_in_the_padding(options, dtype):
    check_numbers(options, ("query", "value"), dtype)


@pytest.mark.parametrize("masked", [(), ("value",), ("query",)], ids=str)
@each(MULTI_SOURCE, "two_windows", "state_beside_none")
def test_without_masks_and_with_one_alone(options, masked):
    check_numbers(options, masked, "float32")


@each(MULTI_SOURCE, "state_beside_none", "three_states")
def test_from_a_state(options):
    check_numbers(options, ("query", "value"), "float32", from_state=True)


@each(MULTI_SOURCE, "two", "two_windows")
def test_one_source_without_a_mask(options):
    oracle, inputs = random_oracle(options), random_inputs(options, "float32")
    masks = masks_of(options)
    masks["value_mask"] = [None, masks["value_mask"][1]]
    layer = build_layer(oracle, inputs, "float32")
    expected = attend(oracle, **inputs, **masks)
    actual = call(layer, inputs, masks)
    assert_equal_numbers(actual, [expected.context, expected.scores], "float32")


# Positions are those of the query: the same for every source.
def test_positions_that_are_given():
    options = [LUONG["local_m"], LUONG["local_m"]]
    oracle, inputs = random_oracle(options), random_inputs(options, "float32")
    masks, positions = masks_of(options), np.array([0.5, 2.0, 3.25])
    layer = build_layer(oracle, inputs, "float32")
    inputs = put_garbage(inputs, masks)
    expected = attend(oracle, **inputs, **masks, query_position=positions)
    actual = call(layer, inputs, masks, query_position=positions)
    assert_equal_numbers(actual, [expected.context, expected.scores], "float32")


@each(MULTI_SOURCE, "two_windows", "state_beside_none")
def test_padding_content_does_not_matter(options):
    check_padding_content(options)


@each(MULTI_SOURCE, "two", "three_states")
def test_batch_mates_do_not_matter(options):
    check_batch_mates(options)


@each(MULTI_SOURCE, "two", "state_beside_none")
def test_gradients_are_the_central_differences(options):
    check_gradients(options)


def test_gradients_of_one_step_are_the_central_differences():
    check_gradients(MULTI_SOURCE["two_windows"], single_step=True)
