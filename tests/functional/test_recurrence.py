"""The loop over time."""

import numpy as np
from keras import ops

from keras_luong.functional import recur
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
    outputs, states = recur(counting_step, sequences, states, mask, dtype="float32")
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


def test_recur_hands_channels_to_their_steps():
    channels = [np.array([[[1.0], [10.0]]], "float32"), np.ones((1, 2, 3), "float32")]

    def step(inputs, states, factor, vector):
        return inputs * factor + vector[:, 2:], [states[0] + vector[:, :1]]

    outputs, states = recur(
        step,
        ops.convert_to_tensor([[[2.0], [3.0]]]),
        [ops.zeros((1, 1))],
        ops.convert_to_tensor([[True, False]]),
        channels,
    )
    assert to_numpy(outputs)[0].tolist() == [[[3.0], [0.0]]]
    assert to_numpy(states)[0].tolist() == [[1.0]]


def test_recur_in_a_wider_dtype_than_its_step():
    # 16 bits stop counting at 256; the state that the loop carries does not.
    def step(inputs, states):
        return ops.cast(inputs, "bfloat16"), [states[0] + 1.0]

    sequences = ops.zeros((1, 300, 1), "bfloat16")
    outputs, states = recur(step, sequences, [ops.zeros((1, 1))], dtype="float32")
    assert to_numpy(states)[0].tolist() == [[300.0]]
