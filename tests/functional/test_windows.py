"""Where the window of local attention stands, what it keeps and how it weighs."""

import numpy as np
import pytest
from keras import ops

from keras_luong import functional
from tests.functional.tools import (
    DTYPE,
    GRADIENT_TOLERANCE,
    TOLERANCE,
    gradients_of,
    random,
    tensor,
    weighted,
)
from tests.layers.layer_checks import dtype_of, to_numpy
from tests.reference import central_differences, sigmoid


def kept_positions(centres, window_size, length):
    """The positions inside the windows, a list a row."""
    inside = functional.in_window(tensor(centres), window_size, length)
    assert dtype_of(inside) == "bool"
    (inside,) = to_numpy(inside)
    return [np.flatnonzero(row).tolist() for row in inside.reshape(-1, length)]


# ---------------------------------------------------------------------------------------------
# sentence_lengths
# ---------------------------------------------------------------------------------------------


def test_sentence_lengths():
    # Padding behind, a hole, padding in front, everything, nothing.
    rows = ("xx...", "x..x.", "..xx.", "xxxxx", ".....")
    mask = np.array([[c == "x" for c in row] for row in rows])
    lengths = functional.sentence_lengths(tensor(mask, "bool"), ops.zeros((5, 5, 2)))
    assert dtype_of(lengths) == "int32"
    assert to_numpy(lengths)[0].tolist() == [2, 4, 4, 5, 0]


def test_sentence_lengths_without_a_mask():
    lengths = functional.sentence_lengths(None, ops.zeros((3, 5, 2)))
    assert dtype_of(lengths) == "int32"
    assert to_numpy(lengths)[0].tolist() == [5, 5, 5]


@pytest.mark.parametrize("mask", [None, np.zeros((2, 0), bool)], ids=["unmasked", "masked"])
def test_sentence_lengths_of_empty_sentences(mask):
    lengths = functional.sentence_lengths(mask, ops.zeros((2, 0, 3)))
    assert to_numpy(lengths)[0].tolist() == [0, 0]


# ---------------------------------------------------------------------------------------------
# in_window
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("centre", "window_size", "expected"),
    [
        (3.0, 2, [1, 2, 3, 4, 5]),  # both ends included
        (3.0, 1.5, [2, 3, 4]),
        (3.0, 0.5, [3]),
        (2.5, 2, [1, 2, 3, 4]),  # the centre is not rounded: neither to 2 nor to 3
        (2.5, 1.5, [1, 2, 3, 4]),
        (2.5, 0.25, []),
        (0.0, 2, [0, 1, 2]),
        (6.75, 2, [5, 6]),
        (9.0, 3, [6]),
        (9.5, 2, []),  # a target longer than its source
        (-1.0, 1, [0]),
    ],
)
def test_in_window(centre, window_size, expected):
    assert kept_positions([centre], window_size, 7) == [expected]


def test_in_window_of_every_query():
    assert kept_positions([[0.0, 1.0], [2.5, 9.0]], 1, 4) == [[0, 1], [0, 1, 2], [2, 3], []]
    assert tuple(functional.in_window(ops.zeros((2, 3)), 1, 4).shape) == (2, 3, 4)


def test_in_window_takes_whole_positions_of_any_dtype():
    # In bfloat16 257 would be 256, and the window one to the left.
    centres = ops.arange(257, 259, dtype="int32")
    (inside,) = to_numpy(functional.in_window(centres, 1, 300))
    assert [np.flatnonzero(row).tolist() for row in inside] == [[256, 257, 258], [257, 258, 259]]


def test_windows_over_a_source_of_length_zero():
    centres = ops.zeros((2, 3))
    assert tuple(functional.in_window(centres, 1, 0).shape) == (2, 3, 0)
    assert tuple(functional.gaussian(centres, 1, 0).shape) == (2, 3, 0)


# ---------------------------------------------------------------------------------------------
# gaussian, predicted_centres
# ---------------------------------------------------------------------------------------------


def test_gaussian_worked_by_hand():
    # D = 4, so sigma = 2 and the exponent is -(s - p)^2 / 8.
    (factors,) = to_numpy(functional.gaussian(tensor([[1.0, 0.5]]), 4, 4))
    exponents = [[1, 0, 1, 4], [0.25, 0.25, 2.25, 6.25]]
    np.testing.assert_allclose(factors, [np.exp(-np.array(exponents) / 8)], atol=1e-6)


def test_gaussian_at_the_ends_of_the_window():
    # D away from the centre is two sigmas: e^-2, whatever D is.
    for window_size in (1, 2.5, 10):
        centre = [[float(window_size)]]
        (factors,) = to_numpy(functional.gaussian(tensor(centre), window_size, 1))
        np.testing.assert_allclose(factors, [[[np.exp(-2.0)]]], atol=1e-6)


def centres_by_loops(query, kernel, v, lengths):
    centres = np.zeros(query.shape[:2])
    for b, t in np.ndindex(*centres.shape):
        centres[b, t] = lengths[b] * sigmoid(np.dot(v, np.tanh(np.dot(query[b, t], kernel))))
    return centres


def test_predicted_centres_worked_by_hand():
    # v . tanh(0) = 0, so half of the sentence; tanh(+-100) = +-1 and v = ln 3: 3/4 and 1/4 of it.
    query = tensor([[[0.0], [100.0], [-100.0]], [[0.0], [100.0], [-100.0]]])
    lengths = tensor([8, 0], "int32")
    centres = functional.predicted_centres(query, tensor([[1.0]]), tensor([np.log(3.0)]), lengths)
    np.testing.assert_allclose(to_numpy(centres)[0], [[4, 6, 2], [0, 0, 0]], atol=1e-5)


def test_predicted_centres_and_their_gradients():
    shapes = ((2, 3, 4), (4, 5), (5,))
    arrays = [random(*shape).astype(DTYPE) for shape in shapes]
    lengths, upstream = np.array([7, 3], "int32"), random(2, 3, seed=1)
    centres = functional.predicted_centres(*(tensor(one, DTYPE) for one in arrays), lengths)
    assert dtype_of(centres) == DTYPE
    expected = centres_by_loops(*arrays, lengths)
    np.testing.assert_allclose(to_numpy(centres)[0], expected, atol=TOLERANCE)

    def loss(*arrays):
        return weighted(functional.predicted_centres(*arrays, lengths), upstream)

    gradients = gradients_of(loss, arrays)
    doubles = [one.astype("float64") for one in arrays]
    for gradient, double in zip(gradients, doubles, strict=True):
        expected = central_differences(
            lambda: np.sum(upstream * centres_by_loops(*doubles, lengths)), double
        )
        np.testing.assert_allclose(gradient, expected, atol=GRADIENT_TOLERANCE)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_centres_of_half_precision_tell_neighbours_apart(dtype):
    # Half of 1,001 is 500.5, which bfloat16 would round to 500.
    arrays = (ops.zeros((1, 1, 2), dtype), ops.ones((2, 2), dtype), ops.ones((2,), dtype))
    centres = functional.predicted_centres(*arrays, tensor([1001], "int32"))
    assert dtype_of(centres) == "float32"
    assert to_numpy(centres)[0].tolist() == [[500.5]]
