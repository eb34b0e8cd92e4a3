"""The reader that never goes back, against the recursion in loops and against every way to stop."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.functional import MONOTONIC_MODES, monotonic_scores
from tests.functional.tools import (
    BACKEND,
    DTYPE,
    GRADIENT_TOLERANCE,
    TOLERANCE,
    compiled,
    gradients_of,
    gradients_under_xla,
    random,
    tensor,
    weighted,
)
from tests.layers.layer_checks import dtype_of, to_numpy
from tests.reference import GARBAGE, central_differences

SOFT = ("parallel", "recursive")
every_mode = pytest.mark.parametrize("mode", MONOTONIC_MODES)
soft_modes = pytest.mark.parametrize("mode", SOFT)

# Everything kept, padding behind, padding in front, holes, nothing kept.
MASK = np.array(
    [[c == "x" for c in row] for row in ("xxxxxx", "xxx...", "..xxxx", "x..x.x", "......")]
)


def scores_of(mode, logits, earlier, mask=None, dtype=DTYPE):
    mask = None if mask is None else tensor(mask, "bool")
    (scores,) = to_numpy(
        monotonic_scores(tensor(logits, dtype), tensor(earlier, dtype), mask, mode)
    )
    return scores


def stops(mode, logit, kept):
    """The probabilities to stop and to go on at a position, each computed for itself."""
    if not kept:
        return 0.0, 1.0
    if mode == "hard":
        return float(logit > 0), float(logit <= 0)
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-logit)), 1.0 / (1.0 + np.exp(logit))


def by_loops(mode, logits, earlier, mask=True):
    """`q_j = (1 - p_(j-1)) q_(j-1) + earlier_j`, `a_j = p_j q_j`, position by position."""
    scores = np.zeros(logits.shape)
    mask = np.broadcast_to(mask, logits.shape)
    for b, t in np.ndindex(*logits.shape[:2]):
        arriving = 0.0
        for j in range(logits.shape[2]):
            stop, go_on = stops(mode, logits[b, t, j], mask[b, t, j])
            q = arriving + earlier[b, t, j]
            scores[b, t, j] = stop * q
            arriving = go_on * q
    return scores


def by_brute_force(mode, logits, earlier, mask):
    """One row: every place to start from, and every outcome of the choices at all positions."""
    length = len(logits)
    probabilities = [stops(mode, logits[j], mask[j])[0] for j in range(length)]
    scores = np.zeros(length)
    for outcome in itertools.product((False, True), repeat=length):
        likely = np.prod([p if o else 1.0 - p for p, o in zip(probabilities, outcome, strict=True)])
        for start in range(length):
            stopped = [j for j in range(start, length) if outcome[j]]
            if stopped:
                scores[stopped[0]] += likely * earlier[start]
    return scores


def some_earlier(batch, target, source):
    """Scores of a step before; their rows sum to less than 1."""
    weights = np.exp(random(batch, target, source, seed=3))
    return 0.9 * weights / weights.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------


@soft_modes
def test_worked_by_hand(mode):
    # p = (1/2, 3/4, 1/2) and the reader at position 0: 1/2, then 1/2 x 3/4, then 1/8 x 1/2; with
    # 1/16 it runs past the end. From (1/2, 1/2, 0): q = (1/2, 3/4, 3/16).
    logits = [[[0.0, np.log(3.0), 0.0]] * 2]
    earlier = [[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]]
    expected = [[[1 / 2, 3 / 8, 1 / 16], [1 / 4, 9 / 16, 3 / 32]]]
    np.testing.assert_allclose(scores_of(mode, logits, earlier), expected, atol=1e-6)


@soft_modes
def test_mask_worked_by_hand(mode):
    # Where p is 1/2: a masked position is passed, and what stood there goes on from there.
    earlier = [[[1.0, 0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0, 0.0]]]
    mask = np.array([[True, False, True, True], [False, False, True, True], [False] * 4])
    expected = [[[1 / 2, 0, 1 / 4, 1 / 8]], [[0, 0, 1 / 2, 1 / 4]], [[0, 0, 0, 0]]]
    scores = scores_of(mode, np.zeros((3, 1, 4)), earlier, mask[:, None])
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_hard_worked_by_hand():
    # It stops where the logit is above 0 (not at 0), and stays where it stands if that is there.
    logits = np.array([[[-1.0, 2.0, 0.0, 3.0, -5.0]] * 5])
    earlier = np.eye(5)[None]
    expected = np.array([[1, 1, 3, 3, None]])
    scores = scores_of("hard", logits, earlier)
    for row, place in enumerate(expected[0]):
        one_hot = np.zeros(5) if place is None else np.eye(5)[place]
        np.testing.assert_array_equal(scores[0, row], one_hot)
    # From soft scores it collects: 0.1 + 0.2 at position 1, 0.3 + 0.4 at position 3.
    scores = scores_of("hard", logits[:, :1], [[[0.1, 0.2, 0.3, 0.3, 0.1]]])
    np.testing.assert_allclose(scores, [[[0, 0.3, 0, 0.6, 0]]], atol=1e-6)
    # Position 1 masked: it goes on to 3.
    mask = np.array([[[True, False, True, True, True]]])
    scores = scores_of("hard", logits[:, :1], earlier[:, :1], mask)
    np.testing.assert_array_equal(scores, [[[0, 0, 0, 1, 0]]])


@every_mode
def test_against_loops_and_brute_force(mode):
    batch, target, source = len(MASK), 2, MASK.shape[1]
    logits, earlier = 2.0 * random(batch, target, source), some_earlier(batch, target, source)
    earlier[:, 0] = np.eye(source)[0]
    mask = np.broadcast_to(MASK[:, None], logits.shape)
    scores = scores_of(mode, logits, earlier, MASK[:, None])
    np.testing.assert_allclose(
        scores, by_loops(mode, logits, earlier, MASK[:, None]), atol=TOLERANCE
    )
    for row in np.ndindex(batch, target):
        expected = by_brute_force(mode, logits[row], earlier[row], mask[row])
        np.testing.assert_allclose(scores[row], expected, atol=TOLERANCE)
    assert not scores[~mask].any()
    np.testing.assert_allclose(
        scores_of(mode, logits, earlier), by_loops(mode, logits, earlier), atol=TOLERANCE
    )


@every_mode
@pytest.mark.parametrize("scale", [1.0, 30.0, 100.0])
def test_long_sources_where_products_underflow(mode, scale):
    # In float32 a product of 300 factors below 1/2 is 0, and a quotient by it is not a number.
    logits = (scale * np.random.default_rng(0).uniform(-1, 1, (2, 2, 300))).astype("float32")
    logits[1, 0] = -scale  # the reader goes on, nearly without end
    logits[1, 1] = scale
    earlier = some_earlier(2, 2, 300).astype("float32")
    earlier[0, 1] = np.eye(300)[0]
    expected = by_loops(mode, logits.astype("float64"), earlier.astype("float64"))
    scores = scores_of(mode, logits, earlier, dtype="float32")
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert (scores.sum(axis=-1) <= 1 + 1e-5).all()


@soft_modes
def test_where_p_is_exactly_1_or_0(mode):
    # Sigmoids of +-200 are 1 and 0 in float32: nobody passes the one, nobody stops at the other.
    logits = np.array([[[-200.0, 200.0, 0.0, -200.0, 200.0]] * 2], "float32")
    earlier = np.array([[[1.0, 0, 0, 0, 0], [0.5, 0.25, 0.125, 0.125, 0]]], "float32")
    expected = [[[0, 1, 0, 0, 0], [0, 0.75, 0.0625, 0, 0.1875]]]
    scores = scores_of(mode, logits, earlier, dtype="float32")
    np.testing.assert_allclose(scores, expected, atol=1e-7)

    def loss(logits, earlier):
        return weighted(monotonic_scores(logits, earlier, None, mode), random(1, 2, 5))

    gradients = gradients_of(loss, [logits, earlier])
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    # What starts at 1, where the reader surely stops, counts there alone.
    np.testing.assert_allclose(gradients[1][:, :, 1], random(1, 2, 5)[:, :, 1], atol=1e-5)


@soft_modes
def test_many_steps_keep_what_the_reader_is_worth(mode):
    # A whole walk: no step may add to the mass, or lose more than what ran past the end.
    logits, earlier = random(1, 8, 20), np.eye(20)[:1, None]
    expected = earlier
    for step in range(8):
        earlier = scores_of(mode, logits[:, step : step + 1], earlier)
        expected = by_loops(mode, logits[:, step : step + 1], expected)
        np.testing.assert_allclose(earlier, expected, atol=TOLERANCE)


# ---------------------------------------------------------------------------------------------
# Sizes, precisions, garbage
# ---------------------------------------------------------------------------------------------


@every_mode
def test_a_source_of_length_zero_or_one(mode):
    assert scores_of(mode, np.zeros((2, 3, 0)), np.zeros((2, 3, 0))).shape == (2, 3, 0)
    mask = np.ones((2, 1, 0), bool)
    assert scores_of(mode, np.zeros((2, 3, 0)), np.zeros((2, 3, 0)), mask).shape == (2, 3, 0)
    # Where there is one place: p times who was there.
    logits, earlier = np.full((1, 1, 1), np.log(3.0)), np.full((1, 1, 1), 0.5)
    expected = 0.5 if mode == "hard" else 0.375
    np.testing.assert_allclose(scores_of(mode, logits, earlier), [[[expected]]], atol=1e-6)


@every_mode
def test_half_precision_becomes_float32(mode):
    scores = monotonic_scores(ops.ones((1, 1, 4), "bfloat16"), ops.ones((1, 1, 4)), None, mode)
    assert dtype_of(scores) == "float32"
    scores = monotonic_scores(tensor(np.ones((1, 1, 4)), DTYPE), ops.ones((1, 1, 4)), None, mode)
    assert dtype_of(scores) == DTYPE


@every_mode
def test_garbage_at_masked_positions_changes_nothing(mode):
    logits, earlier = random(len(MASK), 2, 6), some_earlier(len(MASK), 2, 6)
    mask = np.broadcast_to(MASK[:, None], logits.shape)
    dirty = np.where(mask, logits, np.resize(GARBAGE, logits.shape)).astype("float32")
    expected = by_loops(mode, logits, earlier, MASK[:, None])
    scores = scores_of(mode, dirty, earlier, MASK[:, None], dtype="float32")
    np.testing.assert_allclose(scores, expected, atol=1e-5)

    def loss(logits):
        scores = monotonic_scores(logits, tensor(earlier), tensor(MASK[:, None], "bool"), mode)
        return weighted(scores, random(*logits.shape))

    (gradient,) = gradients_of(loss, [dirty])
    assert np.isfinite(gradient).all() and not gradient[~mask].any()


# ---------------------------------------------------------------------------------------------
# Gradients, graphs and compilers
# ---------------------------------------------------------------------------------------------


def check_gradients(mode, differentiate):
    shape = (len(MASK), 2, MASK.shape[1])
    logits, earlier, upstream = random(*shape), some_earlier(*shape), random(*shape, seed=5)

    def loss(logits, earlier):
        scores = monotonic_scores(logits, earlier, tensor(MASK[:, None], "bool"), mode)
        return weighted(scores, upstream)

    gradients = differentiate(loss, [logits.astype(DTYPE), earlier.astype(DTYPE)])
    for gradient, array in zip(gradients, (logits, earlier), strict=True):
        expected = central_differences(
            lambda: np.sum(upstream * by_loops(mode, logits, earlier, MASK[:, None])), array
        )
        np.testing.assert_allclose(gradient, expected, atol=GRADIENT_TOLERANCE)
        assert expected.any() or mode == "hard"


@every_mode
def test_gradients(mode):
    check_gradients(mode, gradients_of)


@soft_modes
@pytest.mark.skipif(BACKEND != "tensorflow", reason="on JAX every gradient here is compiled")
def test_gradients_under_xla(mode):
    check_gradients(mode, gradients_under_xla)


def test_compiled():
    logits, earlier = random(2, 2, 5), some_earlier(2, 2, 5)
    run = compiled(lambda logits, earlier: monotonic_scores(logits, earlier))
    (scores,) = to_numpy(run(tensor(logits), tensor(earlier)))
    np.testing.assert_allclose(scores, by_loops("parallel", logits, earlier), atol=1e-6)


@every_mode
@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others know sizes when they trace")
def test_unknown_sizes(mode):
    import tensorflow as tf

    spec = tf.TensorSpec((None, None, None))
    mask_spec = tf.TensorSpec((None, None, None), tf.bool)

    @tf.function(input_signature=(spec, spec, mask_spec))
    def run(logits, earlier, mask):
        with tf.GradientTape() as tape:
            tape.watch(earlier)
            scores = monotonic_scores(logits, earlier, mask, mode)
        return scores, tape.gradient(scores, earlier)

    for batch, target, source in ((2, 3, 6), (1, 1, 1), (3, 2, 70)):
        logits, earlier = random(batch, target, source), some_earlier(batch, target, source)
        mask = random(batch, 1, source, seed=1) > -1
        scores, gradient = run(tensor(logits), tensor(earlier), tf.constant(mask))
        expected = by_loops(mode, logits, earlier, mask)
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        # The mass that arrives from one place is the scores of a reader that stands there.
        first = by_loops(mode, logits, np.broadcast_to(np.eye(source)[0], logits.shape), mask)
        np.testing.assert_allclose(gradient[:, :, 0], first.sum(axis=-1), atol=1e-5)
    if mode != "recursive":
        empty = run(*(tf.zeros((2, 3, 0)),) * 2, tf.zeros((2, 1, 0), tf.bool))
        assert empty[0].shape == (2, 3, 0)


def test_in_a_model_of_unknown_sizes():
    class Reader(keras.layers.Layer):
        def call(self, logits, earlier):
            return monotonic_scores(logits, earlier)

    inputs = [keras.Input((None, 7)), keras.Input((None, 7))]
    model = keras.Model(inputs, Reader()(*inputs))
    logits, earlier = random(2, 3, 7).astype("float32"), some_earlier(2, 3, 7).astype("float32")
    scores = model.predict([logits, earlier], verbose=0)
    np.testing.assert_allclose(scores, by_loops("parallel", logits, earlier), atol=1e-6)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"`mode` must be one of .*'hrad'"):
        monotonic_scores(np.zeros((1, 1, 2)), np.zeros((1, 1, 2)), mode="hrad")
