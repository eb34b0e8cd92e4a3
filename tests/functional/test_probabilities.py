"""From attention logits to attention scores: by hand, by brute force, and at the edges."""

import itertools

import numpy as np
import pytest
from keras import ops

from keras_luong.functional import PROBABILITY_FNS
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
from tests.reference import GARBAGE, central_differences, why_not

every_fn = pytest.mark.parametrize("name", PROBABILITY_FNS)


def scores_of(name, logits, mask=None):
    (scores,) = to_numpy(PROBABILITY_FNS[name](ops.convert_to_tensor(logits), mask))
    return scores


def softmax_row(logits):
    weights = np.exp(logits - max(logits))
    return weights / sum(weights)


def hardmax_row(logits):
    scores = np.zeros(len(logits))
    scores[list(logits).index(max(logits))] = 1.0
    return scores


def sparsemax_row(logits):
    """Tries every support: right is the one whose tau parts it from the rest."""
    found = []
    for size in range(1, len(logits) + 1):
        for support in itertools.combinations(range(len(logits)), size):
            tau = (sum(logits[i] for i in support) - 1.0) / size
            above = [i for i in range(len(logits)) if logits[i] > tau]
            if above == list(support):
                found.append(np.maximum(logits - tau, 0.0))
    assert len(found) == 1
    return found[0]


ROWS = {"softmax": softmax_row, "hardmax": hardmax_row, "sparsemax": sparsemax_row}


def by_rows(name, logits, mask):
    """Row by row in float64; masked logits are left out, never multiplied."""
    scores = np.zeros(logits.shape)
    mask = np.broadcast_to(mask, logits.shape)
    for row in np.ndindex(logits.shape[:-1]):
        if mask[row].any():
            kept = logits[row][mask[row]].astype("float64")
            scores[row][mask[row]] = ROWS[name](kept)
    return scores


# A whole row, holes, padding on either side, one kept, none kept.
MASK = np.array(
    [[c == "x" for c in row] for row in ("xxxxx", "x.x.x", "xxx..", "..xxx", "...x.", ".....")]
)


@every_fn
def test_against_rows(name):
    logits = random(3, len(MASK), 5).astype(DTYPE)
    expected = by_rows(name, logits, MASK)
    np.testing.assert_allclose(scores_of(name, logits, MASK), expected, atol=TOLERANCE)
    # Without a mask, and with one for all queries of a sentence.
    expected = by_rows(name, logits, True)
    np.testing.assert_allclose(scores_of(name, logits), expected, atol=TOLERANCE)
    mask = MASK[:3, None]
    expected = by_rows(name, logits, mask)
    np.testing.assert_allclose(scores_of(name, logits, mask), expected, atol=TOLERANCE)


@every_fn
def test_garbage_at_masked_positions_changes_nothing(name):
    logits = random(len(MASK), 5).astype("float32")
    dirty = np.where(MASK, logits, np.resize(np.array(GARBAGE, "float32"), logits.shape))
    assert np.isnan(dirty).any() and np.isinf(dirty).any()
    np.testing.assert_array_equal(scores_of(name, dirty, MASK), scores_of(name, logits, MASK))
    assert not scores_of(name, dirty, MASK)[~MASK].any()


@every_fn
def test_gradient(name):
    logits, upstream = random(len(MASK), 5).astype(DTYPE), random(len(MASK), 5, seed=1)
    dirty = np.where(MASK, logits, np.resize(np.array(GARBAGE, DTYPE), logits.shape))

    def loss(logits):
        return weighted(PROBABILITY_FNS[name](logits, MASK), upstream)

    (gradient,) = gradients_of(loss, [dirty])
    double = logits.astype("float64")
    expected = central_differences(lambda: np.sum(upstream * by_rows(name, double, MASK)), double)
    np.testing.assert_allclose(gradient, expected, atol=GRADIENT_TOLERANCE)
    assert not gradient[~MASK].any()  # nothing kept: exactly no gradient
    assert expected.any() == (name != "hardmax")


@every_fn
@pytest.mark.parametrize("logit", [0.0, np.nan, np.inf, -np.inf, 3e38])
def test_nothing_to_attend_to_is_zero_and_so_is_its_gradient(name, logit):
    logits = np.array([[logit] * 3, [0.1, 0.2, 0.3]], "float32")
    mask = np.array([[False] * 3, [True] * 3])
    scores = scores_of(name, logits, mask)
    assert not scores[0].any() and scores[1].sum() == pytest.approx(1.0)

    def loss(logits):
        return weighted(PROBABILITY_FNS[name](logits, mask), np.array([1.0, 2.0, 4.0]))

    (gradient,) = gradients_of(loss, [logits])
    assert not gradient[0].any()
    assert np.isfinite(gradient[1]).all() and gradient[1].any() == (name != "hardmax")


@every_fn
@pytest.mark.parametrize("mask", [None, np.zeros((2, 3, 0), bool)], ids=["unmasked", "masked"])
def test_an_axis_of_length_zero(name, mask):
    assert scores_of(name, np.zeros((2, 3, 0), "float32"), mask).shape == (2, 3, 0)


@every_fn
@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        # Two equal ones share what a far lower one does not get; a hard choice takes the first.
        ([3e38, 3e38, -3e38], [0.5, 0.5, 0]),
        ([-3e38, 1e30, 1e30], [0, 0.5, 0.5]),
        ([-np.inf, 0.0, 0.0], [0, 0.5, 0.5]),
        ([-3e38, -3e38, -3e38], [1 / 3] * 3),
        ([1e30, 0.0, -1e30], [1, 0, 0]),
        ([-1e4, 1e4, 9e3], [0, 1, 0]),
    ],
    ids=str,
)
def test_huge_logits(name, logits, expected):
    if name == "hardmax":
        expected = np.eye(3)[np.argmax(expected)]
    logits = np.array([logits], "float32")
    kept = np.ones((1, 3), bool)
    for mask in (None, kept):
        np.testing.assert_allclose(scores_of(name, logits, mask), [expected], atol=1e-6)

    def loss(logits):
        return weighted(PROBABILITY_FNS[name](logits, kept), np.array([1.0, 2.0, 4.0]))

    (gradient,) = gradients_of(loss, [logits])
    assert np.isfinite(gradient).all()


@every_fn
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_becomes_float32(name, dtype):
    # 2,048 equal weights sum to 1 in float32; neither half precision counts so far.
    scores = PROBABILITY_FNS[name](ops.zeros((1, 2048), dtype), ops.ones((1, 2048), "bool"))
    assert dtype_of(scores) == "float32"
    expected = np.eye(1, 2048) if name == "hardmax" else np.full((1, 2048), 1 / 2048)
    np.testing.assert_allclose(to_numpy(scores)[0], expected, rtol=1e-6)
    largest = {"float16": 65504.0, "bfloat16": 3e38}[dtype]
    logits = tensor([[largest, -largest]], dtype)
    np.testing.assert_array_equal(to_numpy(PROBABILITY_FNS[name](logits))[0], [[1, 0]])


@every_fn
def test_float64_stays_float64(name):
    if why_not("float64"):
        pytest.skip(why_not("float64"))
    logits = tensor(random(2, 5), "float64")
    for mask in (np.ones((2, 5), bool), np.array([[True] * 5, [False] * 5])):
        scores = PROBABILITY_FNS[name](logits, mask)
        assert dtype_of(scores) == "float64"
        np.testing.assert_allclose(
            to_numpy(scores)[0], by_rows(name, random(2, 5), mask), rtol=1e-14, atol=1e-15
        )


# ---------------------------------------------------------------------------------------------
# Each by hand
# ---------------------------------------------------------------------------------------------


def test_softmax_worked_by_hand():
    # e^0 : e^ln 3 = 1 : 3, whatever the masked one holds.
    logits = np.array([[0.0, np.log(3.0), 50.0], [np.nan, 7.0, np.inf]], "float32")
    mask = np.array([[True, True, False], [False, True, False]])
    expected = [[0.25, 0.75, 0], [0, 1, 0]]
    np.testing.assert_allclose(scores_of("softmax", logits, mask), expected, atol=1e-6)
    logits = np.array([[1e4, 1e4 + 1, -1e4]], "float32")  # 1 : e
    expected = [[0.2689414, 0.7310586, 0]]
    np.testing.assert_allclose(scores_of("softmax", logits), expected, atol=1e-6)


def test_hardmax_takes_the_first_of_equals():
    logits = np.array([[1, 3, 3, 2], [5, 5, 5, 5], [-1, -2, -1, -1], [9, 3, 3, 9]], "float32")
    np.testing.assert_array_equal(scores_of("hardmax", logits), np.eye(4)[[1, 0, 0, 0]])
    # The first of the kept ones.
    mask = np.array([[True, False, True, True]] * 3 + [[False, True, True, False]])
    np.testing.assert_array_equal(scores_of("hardmax", logits, mask), np.eye(4)[[2, 0, 0, 1]])


def test_sparsemax_worked_by_hand():
    # (1, 0.5, -1): with the first two, tau = (1.5 - 1) / 2 = 0.25, which the third is below.
    # (0.25, 0, -0.25): all three, tau = -1/3. (3, 1, 0): alone, tau = 2. Masked: (0.5, 0.25) left.
    logits = np.array([[1, 0.5, -1], [0.25, 0, -0.25], [3, 1, 0], [0.5, 9, 0.25]], "float32")
    mask = np.array([[True] * 3] * 3 + [[True, False, True]])
    expected = [[0.75, 0.25, 0], [7 / 12, 1 / 3, 1 / 12], [1, 0, 0], [0.625, 0, 0.375]]
    np.testing.assert_allclose(scores_of("sparsemax", logits, mask), expected, atol=1e-6)


def test_sparsemax_is_a_distribution_also_at_the_edge_of_its_support():
    # Fractions, among which one often equals tau: rounding must not make a weight negative.
    generator = np.random.default_rng(0)
    logits = generator.integers(-6, 1, (500, 12)) / generator.integers(1, 12, (500, 1))
    scores = scores_of("sparsemax", logits.astype("float32"))
    assert scores.min() >= 0
    np.testing.assert_allclose(scores.sum(axis=-1), 1.0, atol=1e-6)
    # Nearest to the logits: (logits - scores) . (any other point of the simplex - scores) <= 0,
    # and what holds for the corners holds for all.
    slope = logits - scores
    assert (slope.max(axis=-1) - (slope * scores).sum(axis=-1)).max() < 1e-5
