"""`ScheduledSampling`: the words that it mixes, against predictions that are known."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import InverseSigmoidDecay, ScheduledSampling

VOCABULARY = 12
TARGET = np.array([[2, 5, 6, 7, 8], [2, 9, 4, 0, 0]], "int32")


def count_on(ids):
    """Logits of a model that says the next higher id."""
    return ops.one_hot(ids + 1, VOCABULARY) * 9.0


def mixed(layer, target=TARGET, predict=count_on):
    return ops.convert_to_numpy(layer(target, predict=predict))


def test_true_words_alone():
    np.testing.assert_array_equal(mixed(ScheduledSampling(1.0, passes=2)), TARGET)


@pytest.mark.parametrize(
    ("passes", "expected"),
    [
        # What follows 2 is 3, what follows 5 is 6; then what follows those.
        (1, [[2, 3, 6, 7, 8], [2, 3, 10, 0, 0]]),
        (2, [[2, 3, 4, 7, 8], [2, 3, 4, 0, 0]]),
        (4, [[2, 3, 4, 5, 6], [2, 3, 4, 0, 0]]),
        (5, [[2, 3, 4, 5, 6], [2, 3, 4, 0, 0]]),
    ],
)
def test_words_of_its_own_alone(passes, expected):
    np.testing.assert_array_equal(mixed(ScheduledSampling(0.0, passes=passes)), expected)


def test_a_fraction_of_the_words_is_its_own():
    target = np.full((60, 50), 5, "int32")
    layer = ScheduledSampling(0.3, seed=1)
    words, others = mixed(layer, target), mixed(layer, target)
    assert set(words.ravel()) == {5, 6} and (words[:, 0] == 5).all()
    # 2,940 words: four standard deviations are 0.034.
    assert abs((words[:, 1:] == 6).mean() - 0.7) < 0.034
    assert (words != others).any()


def test_drawn_by_probability():
    shares = np.array([0.5, 0.2, 0.2, 0.1])
    logits = np.broadcast_to(np.log(shares) + 3.0, (80, 50, 4)).astype("float32")
    layer = ScheduledSampling(0.0, draws=True, seed=2)
    words = mixed(layer, np.full((80, 50), 2, "int32"), lambda ids: ops.convert_to_tensor(logits))
    counts = np.bincount(words[:, 1:].ravel(), minlength=4) / words[:, 1:].size
    # 3,920 words: four standard deviations are at most 0.032.
    np.testing.assert_allclose(counts, shares, atol=0.032)


def test_it_counts_steps_for_its_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.0])
    layer = ScheduledSampling(schedule)
    changed = [(mixed(layer) != TARGET).any() for _ in range(4)]
    # The first two steps, 0 and 1, have the true words.
    assert changed == [False, False, True, True] and int(layer.step) == 4


@pytest.mark.parametrize("rate", [0.25, InverseSigmoidDecay(30.0)], ids=["number", "schedule"])
def test_config(rate):
    layer = ScheduledSampling(rate, passes=3, draws=True, seed=4)
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(again) == config
    assert (again.passes, again.draws, again.seed) == (3, True, 4)
    if rate != 0.25:
        assert again.teacher_forcing.k == 30.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScheduledSampling(1.1), "from 0 to 1. Received: 1.1"),
        (lambda: ScheduledSampling(float("nan")), "Received: nan"),
        (
            lambda: ScheduledSampling(0.5, passes=0),
            "`passes` must be an integer of at least 1. Received: 0",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
