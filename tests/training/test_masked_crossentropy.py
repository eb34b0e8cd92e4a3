import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_luong.training import MaskedCrossentropy, Perplexity, TokenAccuracy


def looped(y_true, logits, smoothing=0.0, weights=None, padding_id=0):
    """The token-averaged loss, one token at a time, in float64."""
    total = norm = 0.0
    for b, t in np.ndindex(y_true.shape):
        if y_true[b, t] == padding_id:
            continue
        row = np.asarray(logits[b, t], "float64")
        log_p = row - row.max() - math.log(sum(math.exp(x - row.max()) for x in row))
        cost = -(1 - smoothing) * log_p[y_true[b, t]] - smoothing * sum(log_p) / len(log_p)
        weight = 1.0 if weights is None else float(np.broadcast_to(weights.T, y_true.T.shape)[t, b])
        total, norm = total + weight * cost, norm + weight
    return total / norm if norm else 0.0


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    y_true = np.array([[5, 7, 3, 1], [4, 6, 0, 0], [2, 0, 0, 0]], "int32")
    return y_true, 3 * rng.standard_normal((3, 4, 8)).astype("float32")


def gradient(function, logits):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x).numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(logits))
    import torch

    x = torch.tensor(logits, requires_grad=True)
    function(x).backward()
    return x.grad.numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, "sentences", "tokens"])
def test_equals_a_loop_over_tokens(batch, smoothing, weights):
    y_true, logits = batch
    weights = {
        None: None,
        "sentences": np.array([1.0, 0.0, 2.5], "float32"),
        "tokens": np.linspace(0, 2, 12, dtype="float32").reshape(3, 4),
    }[weights]
    loss = MaskedCrossentropy(label_smoothing=smoothing)(y_true, logits, weights)
    assert loss.shape == ()
    np.testing.assert_allclose(float(loss), looped(y_true, logits, smoothing, weights), rtol=1e-6)


def test_by_hand():
    # p(right) is 1/2 for the only token: logits log 2, 0, 0.
    loss = MaskedCrossentropy(0.3)(np.array([[0], [3]]), np.log([[[1.0] * 4], [[1, 1, 2, 4]]]))
    expected = 0.7 * math.log(2) + 0.3 * (math.log(8) - math.log(1 * 1 * 2 * 4) / 4)
    np.testing.assert_allclose(float(loss), expected, rtol=1e-6)


def test_float64_stays_float64(batch):
    y_true, logits = batch
    logits = ops.convert_to_tensor(logits.astype("float64"))
    if keras.backend.standardize_dtype(logits.dtype) != "float64":
        pytest.skip("this backend runs without float64")
    loss = MaskedCrossentropy(0.1)(y_true, logits)
    assert keras.backend.standardize_dtype(loss.dtype) == "float64"
    np.testing.assert_allclose(float(loss), looped(y_true, batch[1], 0.1), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_logits_are_summed_in_float32(dtype):
    y_true = np.ones((64, 64), "int32")  # 4096 equal costs: a half-precision sum would be far off
    logits = ops.cast(ops.ones((64, 64, 11)), dtype)
    loss = MaskedCrossentropy()(y_true, logits)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    np.testing.assert_allclose(float(loss), math.log(11), rtol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_what_stands_at_padding_never_matters(batch, garbage):
    y_true, logits = batch
    loss = MaskedCrossentropy(0.1)
    dirty = np.where((y_true == 0)[..., None], np.float32(garbage), logits)
    np.testing.assert_array_equal(float(loss(y_true, dirty)), float(loss(y_true, logits)))
    grad = gradient(lambda x: loss(y_true, x), dirty)
    np.testing.assert_array_equal(grad[y_true == 0], 0)
    np.testing.assert_array_equal(grad, gradient(lambda x: loss(y_true, x), logits))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient(batch, smoothing):
    y_true, logits = batch
    grad = gradient(lambda x: MaskedCrossentropy(smoothing)(y_true, x), logits)
    rng = np.random.default_rng(1)
    for _ in range(3):
        step = rng.standard_normal(logits.shape)
        ends = [looped(y_true, logits + h * step, smoothing) for h in (1e-6, -1e-6)]
        np.testing.assert_allclose(np.sum(grad * step), (ends[0] - ends[1]) / 2e-6, rtol=1e-4)


def test_a_batch_without_tokens_costs_nothing(batch):
    _, logits = batch
    y_true, loss = np.zeros((3, 4), "int32"), MaskedCrossentropy(0.1)
    assert float(loss(y_true, logits)) == 0
    np.testing.assert_array_equal(gradient(lambda x: loss(y_true, x), logits), 0)
    assert float(loss(np.ones((3, 4), "int32"), logits, np.zeros(3))) == 0
    assert float(loss(np.ones((0, 4), "int32"), logits[:0])) == 0


def test_a_mask_on_the_logits_does_not_count_twice(batch):
    y_true, logits = batch
    plain = float(MaskedCrossentropy()(y_true, logits))
    tensor = ops.convert_to_tensor(logits)
    # Keeps less than `y_true` does: were it used at all, the number would change.
    masked = keras.layers.Masking()(tensor)
    masked._keras_mask = ops.convert_to_tensor(y_true > 3)
    assert float(MaskedCrossentropy()(y_true, masked)) == plain


def test_fit_reports_the_same_number_with_and_without_an_implicit_mask():
    source = np.array([[3, 4, 5, 0, 0, 0], [6, 0, 0, 0, 0, 0]], "int32")
    losses = []
    for mask_zero in (True, False):
        keras.utils.set_random_seed(1)
        ids = keras.Input((None,), dtype="int32")
        hidden = keras.layers.Embedding(8, 4, mask_zero=mask_zero)(ids)
        model = keras.Model(ids, keras.layers.Dense(8)(hidden))
        model.compile("sgd", MaskedCrossentropy())
        losses.append(model.evaluate(source, source, verbose=0))
        logits = ops.convert_to_numpy(model(source))
    np.testing.assert_allclose(losses, looped(source, logits), rtol=1e-6)


@pytest.mark.parametrize("padding_id", [-1, 3])
def test_another_padding_id(batch, padding_id):
    y_true, logits = batch
    y_true = np.where(y_true == 6, padding_id, y_true)
    loss = MaskedCrossentropy(padding_id=padding_id)(y_true, logits)
    np.testing.assert_allclose(
        float(loss), looped(y_true, logits, padding_id=padding_id), rtol=1e-6
    )


@pytest.mark.parametrize("bad_id", [8, -2])
def test_an_id_outside_the_vocabulary_raises_and_is_nan_under_xla(batch, bad_id):
    y_true, logits = batch
    y_true, loss = y_true.copy(), MaskedCrossentropy()
    y_true[0, 1] = bad_id
    of_metrics = TokenAccuracy().update_state, Perplexity().update_state
    for call in (loss, *of_metrics):
        message = rf"`y_true` must hold integers from 0 to 7\. Received: {bad_id} at \(0, 1\)"
        with pytest.raises(ValueError, match=message):
            call(y_true, logits)
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"from 0 to 7.*{bad_id}"):
            tf.function(call)(tf.constant(y_true), tf.constant(logits))
    compiled = tf.function(loss, jit_compile=True)
    assert math.isnan(float(compiled(tf.constant(y_true), tf.constant(logits))))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_other_lengths_than_those_of_the_logits_raise_in_a_graph_too(batch, steps):
    y_true, logits = np.ones((3, steps), "int32"), batch[1]
    with pytest.raises(ValueError, match=rf"of the same batch and steps.*\(3, {steps}\)"):
        MaskedCrossentropy()(y_true, logits)
    signature = [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None, 8))]
    for jit_compile in (False, True):
        run = tf.function(MaskedCrossentropy(), signature, jit_compile=jit_compile)
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(y_true, logits)


@pytest.mark.parametrize("shape", [(1,), (4,), (1, 4), (3, 3), (3, 4, 1)])
def test_weights_of_another_shape_are_not_broadcast(batch, shape):
    y_true, logits = batch
    for call in (MaskedCrossentropy(), TokenAccuracy().update_state):
        with pytest.raises(ValueError, match=rf"sample_weight\.shape={re.escape(str(shape))}"):
            call(y_true, logits, np.ones(shape, "float32"))
    one = MaskedCrossentropy()(y_true, logits, np.float32([[1], [0], [2]]))
    assert float(one) == float(MaskedCrossentropy()(y_true, logits, np.float32([1, 0, 2])))


def test_config_and_reload():
    loss = MaskedCrossentropy(0.2, padding_id=7, name="ce")
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(copy) is MaskedCrossentropy
    assert (copy.label_smoothing, copy.padding_id, copy.name) == (0.2, 7, "ce")


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match="`label_smoothing` must be a number from 0 to below 1"):
        MaskedCrossentropy(smoothing)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2,), (2, 8), None), r"y_true\.shape=\(2,\), y_pred\.shape=\(2, 8\)"),
        (((2, 3, 1), (2, 3, 8), None), r"y_true\.shape=\(2, 3, 1\)"),
        (((2, 3), (2, 3, 8), (2, 3, 1)), r"sample_weight\.shape=\(2, 3, 1\)"),
    ],
)
def test_wrong_ranks(shapes, message):
    y_true, y_pred, weight = (None if s is None else np.ones(s, "int32") for s in shapes)
    with pytest.raises(ValueError, match=message):
        MaskedCrossentropy()(y_true, y_pred.astype("float32"), weight)


@pytest.mark.parametrize("other", [(2, 3, 1), (2, 1, 8), (3, 8)])
def test_only_logits_of_one_shape_are_compared(other):
    logits = np.ones((2, 3, 8), "float32")
    message = re.escape(f"y_pred.shape=(2, 3, 8), other.shape={other}")
    with pytest.raises(ValueError, match=message):
        MaskedCrossentropy().divergence(np.ones((2, 3), "int32"), logits, np.ones(other, "float32"))
