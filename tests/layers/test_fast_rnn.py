"""`FastRNN` against `keras.layers.RNN`, and when its own loop runs."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.layers import FastRNN, LayerNormLSTMCell, fast_rnn
from tests.layers.layer_checks import check_saved
from tests.reference import automatic_gradients, ragged_mask, why_not

BATCH, STEPS, DEPTH, UNITS = 4, 5, 3, 4
# Full, with a hole, short and empty.
MASK = ragged_mask((5, 4, 2, 0), STEPS)
MASK[1, 2] = False
LSTMCell, GRUCell = keras.layers.LSTMCell, keras.layers.GRUCell

CELLS = {
    "lstm": lambda: LSTMCell(UNITS),
    "lstm, no bias": lambda: LSTMCell(UNITS, use_bias=False),
    "gru": lambda: GRUCell(UNITS),
    "gru, no bias": lambda: GRUCell(UNITS, use_bias=False),
}
OPTIONS = {
    "sequences and state": {"return_sequences": True, "return_state": True},
    "sequences": {"return_sequences": True},
    "the last alone": {},
    "backwards": {"return_sequences": True, "return_state": True, "go_backwards": True},
    "zeros": {"return_sequences": True, "zero_output_for_mask": True},
    "backwards with zeros": {
        "return_sequences": True,
        "go_backwards": True,
        "zero_output_for_mask": True,
    },
}


def built(layer):
    layer.build((BATCH, STEPS, DEPTH))
    numbers = np.random.default_rng(3)
    for variable in layer.trainable_variables:
        variable.assign(0.7 * numbers.normal(size=variable.shape))
    return layer


def results(layer, mask, dtype):
    """Outputs, and gradients of a sum of them with random weights."""
    sequences = np.random.default_rng(4).normal(size=(BATCH, STEPS, DEPTH)).astype(dtype)

    def outputs(sequences):
        return keras.tree.flatten(layer(sequences, mask=mask))

    def loss(sequences):
        numbers = np.random.default_rng(5)
        return sum(
            ops.sum(one * ops.convert_to_tensor(numbers.normal(size=one.shape).astype(dtype)))
            for one in outputs(sequences)
        )

    (inputs, variables) = automatic_gradients(loss, [sequences], layer.trainable_variables)
    values = [ops.convert_to_numpy(one) for one in outputs(ops.convert_to_tensor(sequences))]
    return [*values, *inputs, *variables]


def check_equal(make, masked, monkeypatch):
    dtype = "float32" if why_not("float64") else "float64"
    layer, other = built(make(FastRNN, dtype)), built(make(keras.layers.RNN, dtype))
    runs = spied(monkeypatch)
    mask = MASK if masked else None
    fast = results(layer, mask, dtype)
    assert runs
    # Keras' cells round float64 on JAX to float32 in their tanh; the fast loop does not.
    is_exact = dtype == "float64" and keras.backend.backend() != "jax"
    for one, expected in zip(fast, results(other, mask, dtype), strict=True):
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-12 if is_exact else 1e-5)


def spied(monkeypatch):
    runs = []
    recurrent_loop = fast_rnn.recurrent_loop

    def spy(*arguments):
        runs.append(arguments)
        return recurrent_loop(*arguments)

    monkeypatch.setattr(fast_rnn, "recurrent_loop", spy)
    return runs


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell, masked, monkeypatch):
    def make(layer, dtype):
        # A cell of its own policy: a layer does not hand its policy to its cell.
        keras.config.set_dtype_policy(dtype)
        return layer(CELLS[cell](), **OPTIONS["sequences and state"], dtype=dtype)

    with_policy(make, masked, monkeypatch)


@pytest.mark.parametrize("options", OPTIONS)
def test_options(options, monkeypatch):
    def make(layer, dtype):
        keras.config.set_dtype_policy(dtype)
        return layer(LSTMCell(UNITS), **OPTIONS[options], dtype=dtype)

    with_policy(make, True, monkeypatch)


@pytest.mark.parametrize("masked", [False, True])
def test_both_ways(masked, monkeypatch):
    def make(layer, dtype):
        keras.config.set_dtype_policy(dtype)
        one = layer(LSTMCell(UNITS), **OPTIONS["sequences and state"], dtype=dtype)
        return keras.layers.Bidirectional(one)

    with_policy(make, masked, monkeypatch)


def with_policy(make, masked, monkeypatch):
    before = keras.config.dtype_policy()
    try:
        check_equal(make, masked, monkeypatch)
    finally:
        keras.config.set_dtype_policy(before)


def test_what_padding_holds_does_not_matter():
    layer = built(FastRNN(GRUCell(UNITS), return_sequences=True))
    numbers = np.random.default_rng(6).normal(size=(BATCH, STEPS, DEPTH)).astype("float32")
    weights = np.random.default_rng(7).normal(size=(BATCH, STEPS, UNITS)).astype("float32")

    def found(padding):
        def loss(sequences):
            outputs = layer(sequences, mask=MASK)
            return ops.sum(outputs * ops.convert_to_tensor(weights))

        sequences = np.where(MASK[..., None], numbers, np.float32(padding))
        (inputs, variables) = automatic_gradients(loss, [sequences], layer.trainable_variables)
        return [*inputs, *variables]

    for one, other in zip(found(np.nan), found(0.0), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("cell", "options", "arguments"),
    [
        (keras.layers.SimpleRNNCell(UNITS), {}, {}),
        (LayerNormLSTMCell(UNITS), {}, {}),
        (LSTMCell(UNITS, dropout=0.1), {}, {}),
        (LSTMCell(UNITS, recurrent_dropout=0.1), {}, {}),
        (LSTMCell(UNITS, activation="relu"), {}, {}),
        (GRUCell(UNITS, reset_after=False), {}, {}),
        (GRUCell(UNITS), {"unroll": True}, {}),
        (GRUCell(UNITS), {"stateful": True}, {}),
        (GRUCell(UNITS), {}, {"initial_state": [np.ones((BATCH, UNITS), "float32")]}),
    ],
)
def test_whatever_else_runs_as_in_keras(cell, options, arguments, monkeypatch):
    layer, runs = FastRNN(cell, **options), spied(monkeypatch)
    sequences = np.ones((BATCH, STEPS, DEPTH), "float32")
    arguments = {
        name: [ops.convert_to_tensor(one) for one in given] for name, given in arguments.items()
    }
    result = ops.convert_to_numpy(layer(ops.convert_to_tensor(sequences), **arguments))
    assert not runs
    other = keras.layers.RNN(cell, **options)
    expected = ops.convert_to_numpy(other(ops.convert_to_tensor(sequences), **arguments))
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_config():
    layer = FastRNN(LSTMCell(UNITS), return_sequences=True, go_backwards=True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is FastRNN
    assert again.get_config() == layer.get_config()


def test_saved_and_loaded(tmp_path):
    layer = FastRNN(GRUCell(UNITS), return_sequences=True)
    check_saved(layer, {"sequences": np.ones((BATCH, STEPS, DEPTH), "float32")}, tmp_path)


def test_lengths_unknown_while_tracing():
    """`ops.scan` on TensorFlow fails on several sequences of such a length."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow traces for shapes that it does not know")
    import tensorflow as tf

    layer = built(FastRNN(GRUCell(UNITS), return_sequences=True))
    specs = [tf.TensorSpec((None, None, DEPTH), "float32"), tf.TensorSpec((None, None), "bool")]

    @tf.function(input_signature=specs)
    def outputs_and_gradient(sequences, mask):
        with tf.GradientTape() as tape:
            outputs = layer(sequences, mask=mask)
        return outputs, tape.gradient(outputs, layer.cell.kernel.value)

    for steps in (STEPS, STEPS + 2):
        mask = ragged_mask((5, 4, 2, 0), steps)
        numbers = np.random.default_rng(steps).normal(size=(BATCH, steps, DEPTH))
        sequences = tf.constant(numbers, "float32")
        found, gradient = outputs_and_gradient(sequences, mask)
        with tf.GradientTape() as tape:
            expected = layer(sequences, mask=mask)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        eager = tape.gradient(expected, layer.cell.kernel.value)
        np.testing.assert_allclose(gradient, eager, atol=1e-5)


def test_a_stateful_one_goes_on_with_the_next_batch():
    inputs = np.random.default_rng(0).normal(size=(BATCH, STEPS, DEPTH)).astype("float32")
    options = {"return_sequences": True, "stateful": True}
    fast, slow = (
        built(FastRNN(LSTMCell(UNITS), **options)),
        keras.layers.RNN(LSTMCell(UNITS), **options),
    )
    slow.build(inputs.shape)
    slow.cell.set_weights(fast.cell.get_weights())
    first, second = (
        [ops.convert_to_numpy(layer(inputs, mask=MASK)) for layer in (fast, slow)] for _ in range(2)
    )
    np.testing.assert_allclose(*first, atol=1e-6)
    np.testing.assert_allclose(*second, atol=1e-6)
    assert np.abs(first[0] - second[0]).max() > 1e-3
