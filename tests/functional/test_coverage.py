"""The loss for attending again to what has been attended to."""

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
from tests.reference import central_differences


def by_loops(scores):
    losses = np.zeros(scores.shape[:2])
    for b in range(scores.shape[0]):
        coverage = np.zeros(scores.shape[2])
        for t in range(scores.shape[1]):
            for s in range(scores.shape[2]):
                losses[b, t] += min(scores[b, t, s], coverage[s])
                coverage[s] += scores[b, t, s]
    return losses


def random_scores():
    weights = np.exp(2.0 * random(2, 5, 4))
    scores = weights / weights.sum(axis=-1, keepdims=True)
    scores[1, 2] = 0.0  # a masked step
    return scores.astype(DTYPE)


def test_worked_by_hand():
    # Coverage before each step: (0, 0), (0.75, 0.25), (1, 1), (1, 1): step 2 was a masked one.
    scores = [[[0.75, 0.25], [0.25, 0.75], [0.0, 0.0], [0.5, 0.5]]]
    (losses,) = to_numpy(functional.coverage_loss(tensor(scores)))
    np.testing.assert_allclose(losses, [[0.0, 0.5, 0.0, 1.0]], atol=1e-6)


def test_against_loops():
    (losses,) = to_numpy(functional.coverage_loss(tensor(random_scores(), DTYPE)))
    np.testing.assert_allclose(losses, by_loops(random_scores()), atol=TOLERANCE)


def test_gradient():
    scores, upstream = random_scores(), random(2, 5)
    # Away from the kinks, which are where a score is what was attended to before.
    scores[1, 2] = [0.1, 0.2, 0.3, 0.4]
    scores[:, 0] += 0.05

    def loss(scores):
        return weighted(functional.coverage_loss(scores), upstream)

    (gradient,) = gradients_of(loss, [scores])
    double = scores.astype("float64")
    expected = central_differences(lambda: np.sum(upstream * by_loops(double)), double)
    np.testing.assert_allclose(gradient, expected, atol=GRADIENT_TOLERANCE)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_adds_up_in_float32(dtype):
    # 2,000 steps at 1/4: bfloat16 stops counting at 64, where another 1/4 is a rounding.
    losses = functional.coverage_loss(ops.full((1, 2000, 1), 0.25, dtype))
    assert dtype_of(losses) == "float32"
    np.testing.assert_array_equal(to_numpy(losses)[0], [[0.0] + [0.25] * 1999])


@pytest.mark.parametrize("shape", [(2, 3, 0), (2, 0, 3), (0, 2, 3)], ids=str)
def test_nothing_to_cover(shape):
    (losses,) = to_numpy(functional.coverage_loss(ops.zeros(shape)))
    np.testing.assert_array_equal(losses, np.zeros(shape[:2]))
