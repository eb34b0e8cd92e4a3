"""What a cell is, what is known of its states, and its dropout masks."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.layers import (
    AttentionDecoderCell,
    BahdanauAttention,
    CopyMechanism,
    FastRNN,
    LayerNormLSTMCell,
    LuongAttention,
    ResidualCell,
    ScheduledSampling,
    WordDropout,
)
from keras_luong.layers.cells import drawn_dropout, flat_state_size, output_depth, pack_states
from tests.layers.layer_checks import to_numpy


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
# What is no cell, and what is no count, is said where it is given
# ---------------------------------------------------------------------------------------------

TAKERS = {
    "decoder": lambda cell: AttentionDecoderCell(cell, LuongAttention(), 6),
    "rnn": FastRNN,
    "list": lambda cell: FastRNN([keras.layers.LSTMCell(8), cell]),
    "residual": ResidualCell,
    "stack": lambda cell: AttentionDecoderCell(
        keras.layers.StackedRNNCells([keras.layers.LSTMCell(8), cell]), LuongAttention(), 6
    ),
}
NO_CELLS = {
    "lstm": (lambda: keras.layers.LSTM(8), r"keras.layers.LSTMCell\(8\)"),
    "gru": (lambda: keras.layers.GRU(8), r"keras.layers.GRUCell\(8\)"),
    "simple": (lambda: keras.layers.SimpleRNN(8), r"keras.layers.SimpleRNNCell\(8\)"),
    "rnn": (lambda: keras.layers.RNN(keras.layers.LSTMCell(8)), "the cell that it was made with"),
    "both ways": (lambda: keras.layers.Bidirectional(keras.layers.LSTM(8)), "LSTMCell"),
    "dense": (lambda: keras.layers.Dense(8), "LSTMCell"),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("name", NO_CELLS)
def test_what_is_no_cell_is_named_with_the_cell_to_take(taker, name):
    make, cell = NO_CELLS[name]
    if taker == "stack" and name in ("both ways", "dense"):
        pytest.skip("StackedRNNCells says so itself")
    with pytest.raises(ValueError, match=rf"`cell` must be a recurrent cell.*{cell}.*Received: <"):
        TAKERS[taker](make())


@pytest.mark.parametrize("taker", ["decoder", "rnn", "residual"])
@pytest.mark.parametrize("cell", [keras.layers.LSTMCell, ResidualCell])
def test_a_class_is_no_cell(taker, cell):
    with pytest.raises(ValueError, match=rf"not a class: {cell.__name__}\(\.\.\.\) makes one"):
        TAKERS[taker](cell)


def test_attention_inside_attention_is_no_cell():
    with pytest.raises(ValueError, match="without an attention of its own.*MultiSourceAttention"):
        TAKERS["decoder"](TAKERS["decoder"](keras.layers.LSTMCell(8)))


COUNTS = {
    "units of concat": lambda n: LuongAttention("concat", units=n),
    "max_source_length": lambda n: LuongAttention("location", max_source_length=n),
    "units of Bahdanau": lambda n: BahdanauAttention(n),
    "units of a decoder": lambda n: AttentionDecoderCell(
        keras.layers.LSTMCell(4), LuongAttention(), n
    ),
    "units of LayerNormLSTMCell": lambda n: LayerNormLSTMCell(n),
    "vocabulary_size": lambda n: CopyMechanism(n),
    "max_unknown_words": lambda n: CopyMechanism(9, max_unknown_words=n),
    "unknown_id of copying": lambda n: CopyMechanism(9, max_unknown_words=1, unknown_id=n),
    "unknown_id": lambda n: WordDropout(0.1, unknown_id=n),
    "last_special_id": lambda n: WordDropout(0.1, last_special_id=n),
    "passes": lambda n: ScheduledSampling(0.5, passes=n),
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("count", [-1, 2.5, True, "4", np.float32(4)], ids=repr)
def test_a_count_is_an_integer(name, count):
    named = name.split()[0]
    with pytest.raises(ValueError, match=rf"`{named}` must be an integer.*Received: ") as error:
        COUNTS[name](count)
    assert repr(count) in str(error.value)


@pytest.mark.parametrize("name", COUNTS)
def test_an_integer_of_numpy_is_kept_as_one_of_python(name):
    config = COUNTS[name](np.int64(7)).get_config()
    assert type(config[name.split()[0]]) is int
    assert json.loads(json.dumps(config))[name.split()[0]] == 7


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


def test_drawn_dropout_reaches_into_wrappers_and_stacks_of_stacks():
    inner = [keras.layers.SimpleRNNCell(size, dropout=0.5) for size in (3, 3, 4)]
    lower = keras.layers.StackedRNNCells([inner[0], ResidualCell(inner[1])])
    cell = keras.layers.StackedRNNCells([lower, inner[2]])
    with drawn_dropout(cell, 2, 9, training=True):
        assert [mask_of(one, (1, 1)).shape for one in inner] == [(2, 9), (2, 3), (2, 3)]
    assert [mask_of(one, (1, 1)).shape for one in inner] == [(1, 1)] * 3


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
