"""`ResidualCell`, alone and in a stack, against the textbook equations."""

import keras
import numpy as np
import pytest

from keras_luong.layers import ResidualCell
from tests.layers.layer_checks import OwnCell, check_config
from tests.layers.number_checks import assert_equal_numbers, each_dtype, random
from tests.reference import Layer, gru_step, lstm_step, set_weights, simple_rnn_step, stacked_step

# Keras' cell, the reference's step, gates, states and biases.
CELLS = {
    "lstm": (keras.layers.LSTMCell, lstm_step, 4, 2, 1),
    "gru": (keras.layers.GRUCell, gru_step, 3, 1, 2),
    "simple_rnn": (keras.layers.SimpleRNNCell, simple_rnn_step, 1, 1, 1),
}
BATCH, STEPS, DEPTH = 2, 3, 4


def exact_tanh(x):
    """Hyperbolic tangent in the precision of `x`; `keras.ops.tanh` on JAX falls to float32."""
    return 2.0 * keras.ops.sigmoid(2.0 * x) - 1.0


def keras_cell(name, dtype="float32", **options):
    return CELLS[name][0](DEPTH, dtype=dtype, activation=exact_tanh, **options)


def random_layer(name, input_depth, is_residual):
    _, step, gates, states, biases = CELLS[name]
    weights = {
        "kernel": random(input_depth, gates * DEPTH),
        "recurrent_kernel": random(DEPTH, gates * DEPTH, seed=1),
        "bias": random(*([biases] if biases > 1 else []), gates * DEPTH),
    }
    return Layer(step, weights, states, is_residual)


def run(layers, sequences):
    """The reference over all steps from zeros: outputs `(b, t, d)` and flat last states."""
    rows = []
    for sequence in sequences:
        states = [np.zeros(DEPTH) for layer in layers for _ in range(layer.state_count)]
        outputs = []
        for inputs in sequence:
            output, states = stacked_step(layers, inputs, states)
            outputs.append(output)
        rows.append((np.stack(outputs), states))
    outputs, states = zip(*rows, strict=True)
    return [np.stack(outputs), *(np.stack(state) for state in zip(*states, strict=True))]


# A linear cell with h_t = 10 x_t + h_(t-1), and x = 1, 2:  h = 10 and 30, and the output 11 and 32:
# what is added does not enter the state.
def test_example_worked_by_hand():
    cell = ResidualCell(keras.layers.SimpleRNNCell(1, activation="linear", use_bias=False))
    layer = keras.layers.RNN(cell, return_sequences=True, return_state=True)
    layer.build((1, 2, 1))
    kernels = {"kernel": np.array([[10.0]]), "recurrent_kernel": np.array([[1.0]])}
    set_weights(layer.trainable_weights, kernels)
    outputs, state = layer(np.array([[[1.0], [2.0]]], "float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs), [[[11.0], [32.0]]], rtol=1e-6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(state), [[30.0]], rtol=1e-6)


@each_dtype
@pytest.mark.parametrize("name", CELLS)
def test_one_step(name, dtype):
    layer = random_layer(name, DEPTH, True)
    cell = ResidualCell(keras_cell(name, dtype), dtype=dtype)
    inputs = random(BATCH, DEPTH).astype(dtype)
    states = [random(BATCH, DEPTH, seed=2 + i).astype(dtype) for i in range(layer.state_count)]
    cell.build((BATCH, DEPTH))
    set_weights(cell.trainable_weights, layer.weights)
    actual = keras.tree.flatten(cell(inputs, states))
    rows = [stacked_step([layer], inputs[b], [state[b] for state in states]) for b in range(BATCH)]
    expected = [np.stack(row) for row in zip(*([out, *new] for out, new in rows), strict=True)]
    assert_equal_numbers([keras.ops.convert_to_numpy(one) for one in actual], expected, dtype)


@each_dtype
def test_a_stack_whose_upper_layers_are_residual(dtype):
    names = ("lstm", "gru", "simple_rnn")
    layers = [random_layer(name, DEPTH if i else 3, i > 0) for i, name in enumerate(names)]
    cells = [keras_cell(name, dtype) for name in names]
    stack = [cells[0], *(ResidualCell(cell, dtype=dtype) for cell in cells[1:])]
    rnn = keras.layers.RNN(
        keras.layers.StackedRNNCells(stack, dtype=dtype),
        return_sequences=True,
        return_state=True,
        dtype=dtype,
    )
    sequences = random(BATCH, STEPS, 3).astype(dtype)
    rnn(sequences)
    for cell, layer in zip(cells, layers, strict=True):
        set_weights(cell.trainable_weights, layer.weights)
    actual = [keras.ops.convert_to_numpy(one) for one in keras.tree.flatten(rnn(sequences))]
    assert_equal_numbers(actual, run(layers, sequences), dtype)


# Half of the inputs that the cell sees are zero, the rest twice as large; the sum has all of them.
def test_dropout_is_the_wrapped_cells_alone():
    cell = ResidualCell(keras.layers.SimpleRNNCell(DEPTH, activation="linear", dropout=0.5, seed=1))
    cell.build((BATCH, DEPTH))
    kernels = {"kernel": np.eye(DEPTH), "recurrent_kernel": np.zeros((DEPTH, DEPTH))}
    set_weights(cell.trainable_weights, {**kernels, "bias": np.zeros(DEPTH)})
    inputs, states = 1.0 + np.abs(random(8, DEPTH)).astype("float32"), [np.zeros((8, DEPTH))]
    factors = keras.ops.convert_to_numpy(cell(inputs, states, training=True)[0]) / inputs
    np.testing.assert_allclose(np.unique(factors.round(4)), [1.0, 3.0])
    factors = keras.ops.convert_to_numpy(cell(inputs, states, training=False)[0]) / inputs
    np.testing.assert_allclose(factors, 2.0, rtol=1e-6)


def test_states_are_the_wrapped_cells():
    cell = ResidualCell(keras.layers.LSTMCell(DEPTH))
    assert list(cell.state_size) == [DEPTH, DEPTH] and cell.output_size == DEPTH
    starts = cell.get_initial_state(batch_size=BATCH)
    assert [tuple(state.shape) for state in starts] == [(BATCH, DEPTH)] * 2
    # A user's cell without `get_initial_state` of its own starts with zeros.
    starts = ResidualCell(OwnCell(DEPTH)).get_initial_state(batch_size=BATCH)
    assert [tuple(state.shape) for state in starts] == [(BATCH, DEPTH), (BATCH, 2)]
    assert not any(keras.ops.convert_to_numpy(state).any() for state in starts)


def test_config():
    check_config(ResidualCell(keras.layers.GRUCell(DEPTH, dropout=0.2), name="upper"))


def test_an_activity_regularizer_inside_is_refused():
    # All wrappers ask the same function.
    with pytest.raises(ValueError, match=r"ResidualCell .*`activity_regularizer`.*outermost"):
        ResidualCell(keras.layers.LSTMCell(DEPTH, activity_regularizer="l2"))


def test_what_is_refused():
    with pytest.raises(ValueError, match="input depth 3 and output depth 4"):
        ResidualCell(keras.layers.LSTMCell(DEPTH)).build((BATCH, 3))
