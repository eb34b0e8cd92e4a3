"""`LayerNormLSTMCell` against equations 20 to 22 of Ba, Kiros and Hinton (2016)."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.layers import LayerNormLSTMCell
from tests.layers.layer_checks import POLICIES, check_config, check_precision, check_saved
from tests.layers.number_checks import (
    GRADIENT_TOLERANCE,
    assert_equal_numbers,
    each_dtype,
    random,
)
from tests.reference import (
    automatic_gradients,
    central_differences,
    set_weights,
    sigmoid,
    why_not,
)

BATCH, STEPS, DEPTH, UNITS, EPSILON = 3, 4, 5, 3, 0.01


def layer_norm(z, scale):
    mean = sum(z) / len(z)
    variance = sum((element - mean) ** 2 for element in z) / len(z)
    return scale * (z - mean) / np.sqrt(variance + EPSILON)


def step(weights, inputs, h, c):
    """One sentence, one step."""
    gates = layer_norm(np.dot(inputs, weights["kernel"]), weights["input_scale"])
    gates = gates + layer_norm(np.dot(h, weights["recurrent_kernel"]), weights["recurrent_scale"])
    i, f, candidate, o = np.split(gates + weights.get("bias", 0.0), 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
    shifted = layer_norm(c, weights["cell_scale"]) + weights.get("cell_bias", 0.0)
    return sigmoid(o) * np.tanh(shifted), c


def run(weights, sequences):
    """All steps of all sentences: outputs `(b, t, u)` and the last `c`."""
    outputs, last = [], []
    for sequence in sequences:
        h, c, rows = np.zeros(UNITS), np.zeros(UNITS), []
        for inputs in sequence:
            h, c = step(weights, inputs, h, c)
            rows.append(h)
        outputs.append(rows)
        last.append(c)
    return np.array(outputs), np.array(last)


def random_weights(use_bias=True):
    shapes = {
        "kernel": (DEPTH, 4 * UNITS),
        "recurrent_kernel": (UNITS, 4 * UNITS),
        "input_scale": (4 * UNITS,),
        "recurrent_scale": (4 * UNITS,),
        "cell_scale": (UNITS,),
    }
    biases = {"bias": (4 * UNITS,), "cell_bias": (UNITS,)} if use_bias else {}
    shapes = {**shapes, **biases}
    return {name: random(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def rnn_of(weights, dtype, **options):
    cell = LayerNormLSTMCell(
        UNITS,
        epsilon=EPSILON,
        use_bias="bias" in weights,
        dtype=dtype,
        **options,
    )
    layer = keras.layers.RNN(cell, return_sequences=True, return_state=True, dtype=dtype)
    layer.build((None, None, DEPTH))
    set_weights(layer.trainable_variables, weights)
    return layer


@each_dtype
@pytest.mark.parametrize("use_bias", [True, False])
def test_all_steps(use_bias, dtype):
    weights = random_weights(use_bias)
    sequences = random(BATCH, STEPS, DEPTH).astype(dtype)
    outputs, h, c = map(ops.convert_to_numpy, rnn_of(weights, dtype)(sequences))
    expected, last = run(weights, sequences.astype("float64"))
    assert_equal_numbers([outputs, h, c], [expected, expected[:, -1], last], dtype)


@each_dtype
def test_gradients(dtype):
    weights = random_weights()
    layer = rnn_of(weights, dtype)
    sequences, upstream = random(BATCH, 2, DEPTH), random(BATCH, 2, UNITS, seed=9)

    def loss(inputs):
        return ops.sum(layer(inputs)[0] * ops.convert_to_tensor(upstream.astype(dtype)))

    ((of_inputs,), of_weights) = automatic_gradients(
        loss, [sequences.astype(dtype)], layer.trainable_variables
    )
    names = [variable.name for variable in layer.trainable_variables]
    for actual, array in [
        (of_inputs, sequences),
        *((one, weights[name]) for one, name in zip(of_weights, names, strict=True)),
    ]:
        expected = central_differences(
            lambda: float((run(weights, sequences)[0] * upstream).sum()), array
        )
        np.testing.assert_allclose(actual, expected, atol=10 * GRADIENT_TOLERANCE[dtype])


# Two units, no weights but the identity where it counts. x W = (1, -1, 1, -1, 1, -1, 1, -1) has
# mean 0 and variance 1, so with scale 2, epsilon 3 and h = 0 the gates are +-1:
# c = (sigmoid(1) tanh(1), -sigmoid(-1) tanh(1)) = (.55677, -.20482), whose mean is .17597 and
# variance .14500; LN(c) = +-.38079 / sqrt(3.145) = +-.21472, and
# h = (sigmoid(1) tanh(.21472), -sigmoid(-1) tanh(.21472)) = (.15461, -.05688).
def test_example_worked_by_hand():
    cell = LayerNormLSTMCell(2, epsilon=3.0, use_bias=False)
    cell.build((None, 1))
    alternating = np.array([[1.0, -1.0] * 4])
    weights = {
        "kernel": alternating,
        "recurrent_kernel": np.ones((2, 8)),
        "input_scale": np.full(8, 2.0),
        "recurrent_scale": np.ones(8),
        "cell_scale": np.ones(2),
    }
    set_weights(cell.trainable_variables, weights)
    h, (_, c) = cell(np.array([[1.0]], "float32"), [np.zeros((1, 2), "float32")] * 2)
    np.testing.assert_allclose(ops.convert_to_numpy(c), [[0.55677, -0.20482]], atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(h), [[0.15461, -0.05688]], atol=1e-5)


# A mask for every gate, which Keras' cells draw with `recurrent_dropout`, or one for all.
@pytest.mark.parametrize("recurrent", [0.0, 0.5])
def test_dropout_is_one_mask_a_sequence(recurrent):
    weights = random_weights()
    layer = rnn_of(weights, None, dropout=0.5, recurrent_dropout=recurrent, seed=3)
    sequences = random(BATCH, STEPS, DEPTH).astype("float32")
    first, second, quiet = (
        ops.convert_to_numpy(layer(sequences, training=on)[0]) for on in (True, True, False)
    )
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(quiet, run(weights, sequences)[0], atol=1e-5)
    # With the masks that a cell holds a step is the reference's on what they let through.
    cell = layer.cell
    masks = cell.get_dropout_mask(ops.ones((BATCH, DEPTH)))
    h = random(BATCH, UNITS, seed=4).astype("float32")
    output, _ = cell(sequences[:, 0], [h, h], training=True)
    if not recurrent:
        dropped = sequences[:, 0] * ops.convert_to_numpy(masks)
        expected = [step(weights, x, own, own)[0] for x, own in zip(dropped, h, strict=True)]
        np.testing.assert_allclose(ops.convert_to_numpy(output), expected, atol=1e-5)
    else:
        of_states = cell.get_recurrent_dropout_mask(ops.ones((BATCH, UNITS)))
        assert len(masks) == len(of_states) == 4
        np.testing.assert_allclose(
            ops.convert_to_numpy(output),
            with_masks(weights, sequences[:, 0], h, masks, of_states),
            atol=1e-5,
        )


def with_masks(weights, inputs, h, masks, of_states):
    """A step of a batch in which every gate has masks of its own."""
    rows = []
    for b in range(len(inputs)):
        sums = []
        for x, kernel, own in (
            (inputs[b], "kernel", masks),
            (h[b], "recurrent_kernel", of_states),
        ):
            kernels = np.split(weights[kernel], 4, axis=1)
            own = [ops.convert_to_numpy(mask)[b] for mask in own]
            sums.append([np.dot(x * m, k) for m, k in zip(own, kernels, strict=True)])
        gates = layer_norm(np.concatenate(sums[0]), weights["input_scale"])
        gates = gates + layer_norm(np.concatenate(sums[1]), weights["recurrent_scale"])
        i, f, candidate, o = np.split(gates + weights["bias"], 4)
        c = sigmoid(f) * h[b] + sigmoid(i) * np.tanh(candidate)
        shifted = layer_norm(c, weights["cell_scale"]) + weights["cell_bias"]
        rows.append(sigmoid(o) * np.tanh(shifted))
    return rows


ARRAYS = {"sequences": random(BATCH, STEPS, DEPTH).astype("float32")}


def test_config():
    cell = LayerNormLSTMCell(UNITS, epsilon=0.5, dropout=0.2, use_bias=False, seed=4)
    check_config(cell)
    config = cell.get_config()
    assert (config["epsilon"], config["dropout"], config["seed"]) == (0.5, 0.2, 4)


@pytest.mark.skipif(why_not("float32") is not None, reason="float64 alone is tested")
def test_saved_and_loaded(tmp_path):
    check_saved(keras.layers.RNN(LayerNormLSTMCell(UNITS)), ARRAYS, tmp_path)


@pytest.mark.skipif(why_not("float32") is not None, reason="float64 alone is tested")
@pytest.mark.parametrize("policy", POLICIES)
def test_precision(policy):
    check_precision(lambda: keras.layers.RNN(LayerNormLSTMCell(UNITS)), ARRAYS, policy)


# Sums of some thousands square to more than float16 holds; the reference of the same inputs.
@pytest.mark.skipif(why_not("float32") is not None, reason="float64 alone is tested")
def test_variances_beyond_float16():
    weights = random_weights()
    weights["kernel"] = 1000 * weights["kernel"]
    sequences = random(BATCH, 1, DEPTH).astype("float16")
    outputs, *_ = rnn_of(weights, "mixed_float16")(sequences)
    expected, _ = run(weights, sequences.astype("float64"))
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(outputs, "float32")), expected, atol=0.01
    )


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan")])
def test_wrong_epsilon(epsilon):
    with pytest.raises(ValueError, match=f"a finite number above 0. Received: {epsilon}"):
        LayerNormLSTMCell(UNITS, epsilon=epsilon)
