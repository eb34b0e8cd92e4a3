"""`Seq2Seq` with `consistency`: against NumPy on the same two passes, which the same seeds make."""

import contextlib
import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import MaskedCrossentropy, ScheduledSampling, luong_seq2seq
from tests.functional.test_divergence import by_loops
from tests.layers.layer_checks import to_numpy
from tests.models.test_seq2seq import JAX, SOURCE, TARGETS, TARGETS_IN, build, randomize

INPUTS = [SOURCE, TARGETS_IN]
KEPT = TARGETS != 0
TORCH = keras.backend.backend() == "torch"


def compiled(consistency, dropout, learning_rate=0.0, jit_compile=JAX, **options):
    """The same weights every time."""
    model = build(consistency=consistency, dropout=dropout, **options)
    randomize(model)
    optimizer = keras.optimizers.SGD(learning_rate)
    model.compile(optimizer, MaskedCrossentropy(label_smoothing=0.1), jit_compile=jit_compile)
    return model


@contextlib.contextmanager
def first_draws(model):
    """Within it a new model's dropout draws as it does the first time, however often."""
    # For torch, whose dropout does not draw from the layers' seeds.
    keras.utils.set_random_seed(0)
    seeds = model.non_trainable_variables
    start = [ops.convert_to_numpy(one) for one in seeds]
    yield
    for variable, value in zip(seeds, start, strict=True):
        variable.assign(value)


def step(model, **options):
    """The loss of a training step, and the weights after it."""
    with first_draws(model):
        loss = float(model.train_on_batch(INPUTS, TARGETS, **options))
    return loss, [ops.convert_to_numpy(one) for one in model.trainable_variables]


def two_passes(model):
    """What a step of training predicts in each of them, `(b, t, v)`."""
    with first_draws(model):
        return [to_numpy(model(INPUTS, training=True))[0].astype("float64") for _ in range(2)]


def crossentropy(logits):
    """Of every token, `(b, t)`, with the labels smoothed by 0.1."""
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_p, TARGETS[..., None], axis=-1)[..., 0]
    return -0.9 * picked - 0.1 * log_p.mean(axis=-1)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_that_of_two_passes_and_what_lies_between(weighted):
    model = compiled(consistency=0.75, dropout=0.4)
    first, second = two_passes(model)
    assert np.abs(first - second).max() > 0.1
    costs = (crossentropy(first) + crossentropy(second)) / 2 + 0.75 * by_loops(first, second)
    weights = np.array([1.0, 0.0, 2.0, 0.5]) if weighted else np.ones(len(TARGETS))
    loss, _ = step(model, sample_weight=weights.astype("float32") if weighted else None)
    np.testing.assert_allclose(loss, np.average(costs, weights=KEPT * weights[:, None]), rtol=1e-5)


def test_the_gradient_is_that_of_both_passes():
    """Along the gradient the loss rises as fast as the gradient is long."""
    model = compiled(consistency=0.75, dropout=0.4, learning_rate=1.0)
    start = [ops.convert_to_numpy(one) for one in model.trainable_variables]
    _, after = step(model)
    gradient = [one - other for one, other in zip(start, after, strict=True)]
    length = np.sqrt(sum(np.sum(np.square(one)) for one in gradient))

    def loss_at(distance):
        for variable, value, slope in zip(model.trainable_variables, start, gradient, strict=True):
            variable.assign(value + distance * slope / length)
        return step(model)[0]

    np.testing.assert_allclose((loss_at(0.003) - loss_at(-0.003)) / 0.006, length, rtol=0.01)


# torch takes minutes to compile it.
@pytest.mark.traced
@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=[pytest.mark.long] if TORCH else [])]
)
def test_without_dropout_a_step_is_that_of_one_pass(jit_compile):
    results = [
        step(compiled(consistency, 0.0, learning_rate=1.0, jit_compile=jit_compile or JAX))
        for consistency in (0.0, 1.0)
    ]
    (loss, weights), (other_loss, other_weights) = results
    np.testing.assert_allclose(loss, other_loss, rtol=1e-5)
    for one, other in zip(weights, other_weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_only_training_makes_two_passes():
    losses = [
        compiled(consistency, 0.4).evaluate(INPUTS, TARGETS, verbose=0) for consistency in (0, 1)
    ]
    assert losses[0] == losses[1]


def test_it_is_kept(tmp_path):
    model = luong_seq2seq(9, 11, units=4, dropout=0.1, consistency=0.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.consistency == 0.5
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())


@pytest.mark.parametrize("consistency", [-1.0, float("nan"), float("inf")])
def test_bad_weights(consistency):
    with pytest.raises(ValueError, match=f"at least 0. Received: {consistency}"):
        build(consistency=consistency)


def test_scheduled_sampling_would_count_twice():
    with pytest.raises(ValueError, match="must be left out. Received: consistency=0.5 and <Sched"):
        build(consistency=0.5, scheduled_sampling=ScheduledSampling(0.5))


def test_a_loss_that_compares_nothing():
    model = compiled(0.5, 0.1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=loss, jit_compile=JAX)
    with pytest.raises(ValueError, match="Received: loss=<.*sparse_categorical"):
        model.train_on_batch(INPUTS, TARGETS)
