"""Training on ids that no vocabulary has: wherever a step is compiled, it does not go on."""

import functools

import keras
import numpy as np
import pytest

from keras_luong import MaskedCrossentropy
from tests.models.test_seq2seq import SOURCE, SOURCE_IDS, TARGET_IDS, TARGETS, TARGETS_IN, build

# Where XLA or JAX compile, a step cannot raise.
COMPILED = keras.backend.backend() != "torch"


class Batches(keras.utils.PyDataset):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


@functools.cache
def model():
    made = build()
    made.compile("sgd", MaskedCrossentropy(), jit_compile=COMPILED)
    return made


def batch(side=None, value=None):
    arrays = {"source": SOURCE.copy(), "target": TARGETS_IN.copy(), "y": TARGETS.copy()}
    if side is not None:
        arrays[side][1, 1] = value
    return (arrays["source"], arrays["target"]), arrays["y"]


OUTSIDE = [
    ("source", SOURCE_IDS),
    ("source", -1),
    ("target", TARGET_IDS),
    ("y", TARGET_IDS),
    ("y", -5),
]


@pytest.mark.parametrize(("side", "value"), OUTSIDE)
def test_arrays_are_looked_at_before_the_first_step(side, value):
    before = [np.array(one) for one in model().get_weights()]
    x, y = batch(side, value)
    message = rf"`{side}` must hold integers from 0 to \d+.*Received: {value} at \(1, 1\)"
    with pytest.raises(ValueError, match=message):
        model().fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=message):
        model().evaluate({"source": x[0], "target": x[1]}, y, verbose=0)
    for one, other in zip(before, model().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(not COMPILED, reason="torch raises in the step")
@pytest.mark.parametrize(("side", "value"), OUTSIDE)
def test_of_a_dataset_the_epoch_that_held_an_id_outside_raises_and_names_it(side, value):
    message = rf"loss of epoch 1 is NaN.*must hold integers from 0 to \d+.*Received: {value} at"
    with pytest.raises(ValueError, match=message):
        model().fit(Batches(batch(side, value)), verbose=0)
    with pytest.raises(ValueError, match=rf"evaluation is NaN.*Received: {value} at"):
        model().evaluate(Batches(batch(side, value)), verbose=0)


@pytest.mark.skipif(not COMPILED, reason="torch raises in the step")
def test_of_a_generator_the_error_says_how_to_find_the_id():
    message = r"epoch 1 is NaN.*`source` must hold integers from 0 to 8; .*run_eagerly=True"
    with pytest.raises(ValueError, match=message):
        model().fit(iter([batch("source", SOURCE_IDS)]), verbose=0)


def test_nothing_is_saved_of_an_epoch_without_a_number():
    ended = []
    after = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    exploding = build()
    exploding.compile(keras.optimizers.SGD(np.inf), MaskedCrossentropy())
    with pytest.raises(ValueError, match=r"The loss of epoch 2 is NaN.*exploded.*global_clipnorm"):
        exploding.fit(*batch(), epochs=3, callbacks=after, verbose=0)
    assert ended == [0]


def test_a_batch_outside_leaves_the_weights_as_they_are():
    trained = build()
    trained.compile("sgd", MaskedCrossentropy(), jit_compile=COMPILED)
    before = [np.array(one) for one in trained.get_weights()]
    with pytest.raises(Exception, match=r"must hold integers|not in \[0"):
        trained.fit(Batches(batch("source", SOURCE_IDS)), verbose=0)
    for one, other in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_labels_of_another_padding_id_are_inside():
    made = build()
    made.compile("sgd", MaskedCrossentropy(padding_id=-1), jit_compile=COMPILED)
    assert np.isfinite(made.fit(*batch("y", -1), verbose=0).history["loss"]).all()
