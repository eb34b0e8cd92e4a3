"""`Seq2Seq` with `ScheduledSampling`: against training on words that a loop made beforehand."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    CopyMechanism,
    InverseSigmoidDecay,
    LuongAttention,
    MaskedCrossentropy,
    ScheduledSampling,
    Seq2Seq,
    rnn_encoder,
)
from tests.models.test_seq2seq import (
    JAX,
    SOURCE,
    TARGET_IDS,
    TARGETS,
    TARGETS_IN,
    build,
    forward,
    randomize,
)

STEPS = TARGETS.shape[1]


def compiled(scheduled_sampling=None):
    """The same weights every time. For TensorFlow under XLA see `tests/training`."""
    model = build(scheduled_sampling=scheduled_sampling, copy_mechanism=CopyMechanism(TARGET_IDS))
    randomize(model)
    model.compile(keras.optimizers.SGD(1.0), MaskedCrossentropy(), jit_compile=JAX)
    return model


@functools.cache
def plain():
    return compiled()


def trained(model, words):
    """What one step on some words to read makes of the weights; the model stays as it was."""
    start = model.get_weights()
    loss = model.train_on_batch({"source": SOURCE, "target": words}, TARGETS)
    weights = [ops.convert_to_numpy(one) for one in model.trainable_variables]
    model.set_weights(start)
    return float(loss), weights


def written_after_true_words(model):
    """Each word read is the most probable one after the true words before it."""
    best = forward(model, [SOURCE, TARGETS_IN]).argmax(axis=-1)
    words = np.where(TARGETS_IN == 0, 0, np.pad(best[:, :-1], ((0, 0), (1, 0))))
    words[:, 0] = TARGETS_IN[:, 0]
    return words.astype("int32")


def written_one_by_one(model):
    """What the model writes if it reads what it has written, as long as the true target is."""
    words = TARGETS_IN.copy()
    for step in range(1, STEPS):
        best = forward(model, [SOURCE, words])[:, step - 1].argmax(axis=-1)
        words[:, step] = np.where(TARGETS_IN[:, step] == 0, 0, best)
    return words


@pytest.mark.parametrize(
    ("rate", "passes", "words_of"),
    [
        (1.0, 1, lambda model: TARGETS_IN),
        (0.0, 1, written_after_true_words),
        (0.0, STEPS - 1, written_one_by_one),
    ],
    ids=["true_words", "one_pass", "as_in_the_paper"],
)
def test_a_step_is_that_on_the_mixed_words(rate, passes, words_of):
    model = plain()
    words = words_of(model)
    assert (words != TARGETS_IN).any() == (rate < 1)
    expected_loss, expected = trained(model, words)
    sampling = ScheduledSampling(rate, passes=passes)
    loss, weights = trained(compiled(sampling), TARGETS_IN)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    # So there is no gradient but that of the words as they are.
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.traced
def test_nothing_but_training_is_changed_and_steps_are_kept(tmp_path):
    sampling = ScheduledSampling(InverseSigmoidDecay(1.0), seed=1)
    model = compiled(sampling)
    inputs = [SOURCE, TARGETS_IN]
    np.testing.assert_array_equal(forward(model, inputs), forward(plain(), inputs))
    assert int(sampling.step) == 0
    for _ in range(2):
        model.train_on_batch(inputs, TARGETS)
    model.evaluate(inputs, TARGETS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # As text: what was read from a file has lists where there were tuples.
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    loaded.train_on_batch(inputs, TARGETS)
    assert (int(sampling.step), int(loaded.scheduled_sampling.step)) == (2, 3)
    assert loaded.scheduled_sampling.teacher_forcing.k == 1.0


def test_a_coverage_loss_would_be_added_twice():
    cell = AttentionDecoderCell(keras.layers.GRUCell(4), LuongAttention(), 4)
    with pytest.raises(ValueError, match=r"coverage_loss=0\. Received: 0\.5"):
        Seq2Seq(
            rnn_encoder(9, 4, 4),
            keras.layers.ReversibleEmbedding(11, 4),
            AttentionDecoder(cell, coverage_loss=0.5),
            scheduled_sampling=ScheduledSampling(0.5),
        )
