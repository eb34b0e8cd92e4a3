"""The loop over time, and what is known of a cell's states."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.layers.recurrence import (
    drawn_dropout,
    flat_state_size,
    output_depth,
    pack_states,
    recur,
)
from tests.layers.layer_checks import to_numpy


def counting_step(inputs, states):
    """Adds up the inputs, and counts the steps."""
    total, count = states
    total = total + inputs
    return 10.0 * total, [total, count + 1.0]


SEQUENCES = np.array([[[1.0], [2.0], [4.0]], [[8.0], [16.0], [32.0]]], "float32")
STATES = [np.zeros((2, 1), "float32"), np.full((2, 1), 5.0, "float32")]


def run(mask=None):
    states = [ops.convert_to_tensor(state) for state in STATES]
    sequences = ops.convert_to_tensor(SEQUENCES)
    outputs, states = recur(counting_step, sequences, states, mask, "float32")
    return [one.tolist() for one in to_numpy([outputs[..., 0], *[state[:, 0] for state in states]])]


def test_recur():
    outputs, total, count = run()
    assert outputs == [[10.0, 30.0, 70.0], [80.0, 240.0, 560.0]]
    assert total == [7.0, 56.0] and count == [8.0, 8.0]


def test_recur_skips_masked_steps():
    outputs, total, count = run(ops.convert_to_tensor([[True, False, True], [False, True, False]]))
    assert outputs == [[10.0, 0.0, 50.0], [0.0, 160.0, 0.0]]
    assert total == [5.0, 16.0] and count == [7.0, 6.0]


def test_recur_with_nothing_kept():
    outputs, total, count = run(ops.zeros((2, 3), "bool"))
    assert outputs == [[0.0] * 3] * 2
    assert total == [0.0, 0.0] and count == [5.0, 5.0]


def stacked():
    cells = [keras.layers.LSTMCell(3), keras.layers.GRUCell(4), keras.layers.LSTMCell(2)]
    return keras.layers.StackedRNNCells(cells)


@pytest.mark.parametrize(
    ("cell", "sizes", "depth"),
    [
        (keras.layers.LSTMCell(3), [3, 3], 3),
        (keras.layers.GRUCell(3), [3], 3),
        (stacked(), [3, 3, 4, 2, 2], 2),
    ],
    ids=["lstm", "gru", "stacked"],
)
def test_sizes_of_a_cell(cell, sizes, depth):
    assert flat_state_size(cell) == sizes
    assert output_depth(cell) == depth


def test_output_depth_without_an_output_size_is_that_of_the_first_state():
    class Cell:
        state_size = [7, 2]

    assert output_depth(Cell()) == 7


def test_pack_states():
    assert pack_states(keras.layers.GRUCell(3), ["h"]) == ["h"]
    assert pack_states(keras.layers.LSTMCell(3), ["h", "c"]) == ["h", "c"]
    assert pack_states(stacked(), list("abcde")) == [["a", "b"], "c", ["d", "e"]]


# ---------------------------------------------------------------------------------------------
# Dropout masks: there while a sequence runs, gone after it
# ---------------------------------------------------------------------------------------------


def mask_of(cell, shape):
    """The cell's mask for its inputs: the one that it holds, else a new one of this shape."""
    return to_numpy(cell.get_dropout_mask(ops.zeros(shape)))[0]


def test_drawn_dropout_is_one_mask_of_the_whole_sequence():
    cell = keras.layers.SimpleRNNCell(3, dropout=0.5)
    with drawn_dropout(cell, 2, 50, training=True):
        masks = [mask_of(cell, (2, 50)) for _ in range(2)]
    np.testing.assert_array_equal(*masks)
    assert {0.0, 2.0} == set(masks[0].flat)
    with drawn_dropout(cell, 2, 50, training=True):
        assert (mask_of(cell, (2, 50)) != masks[0]).any()
    assert mask_of(cell, (1, 7)).shape == (1, 7)  # nothing was held any more


def test_drawn_dropout_knows_the_depths_in_a_stack():
    cells = [keras.layers.SimpleRNNCell(size, dropout=0.5) for size in (3, 4)]
    with drawn_dropout(keras.layers.StackedRNNCells(cells), 2, 9, training=True):
        # Whatever shape is asked for: these were there before.
        assert [mask_of(cell, (1, 1)).shape for cell in cells] == [(2, 9), (2, 3)]


def test_dropout_is_forgotten_after_an_error():
    cell = keras.layers.GRUCell(3, dropout=0.5, recurrent_dropout=0.5)
    with pytest.raises(RuntimeError), drawn_dropout(cell, 2, 9, training=True):
        raise RuntimeError
    shapes = [np.shape(mask) for mask in to_numpy(cell.get_dropout_mask(ops.zeros((1, 7))))]
    assert set(shapes) == {(1, 7)}
    shapes = [
        np.shape(mask) for mask in to_numpy(cell.get_recurrent_dropout_mask(ops.zeros((1, 7))))
    ]
    assert set(shapes) == {(1, 7)}


def test_without_training_nothing_is_drawn():
    cell = keras.layers.SimpleRNNCell(3, dropout=0.5)
    with drawn_dropout(cell, 2, 9, training=False):
        assert mask_of(cell, (1, 7)).shape == (1, 7)
