"""Training on ids that no vocabulary has: wherever a step is compiled, it does not go on."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import MaskedCrossentropy
from keras_luong.functional import IdRange
from keras_luong.models.checked_training import CheckedTraining
from tests.models.test_seq2seq import SOURCE, TARGETS, TARGETS_IN, build

pytestmark = pytest.mark.traced

# Where XLA or JAX compile, a step cannot raise.
COMPILED = keras.backend.backend() != "torch"


class Tiny(CheckedTraining, keras.Model):
    """Two embeddings and a product, which compile in no time."""

    vocabulary_size = 6
    id_ranges = IdRange("source", 5), IdRange("target", 6)

    def call(self, inputs, training=None, mask=None):
        self.check_ids(inputs)
        return super().call(inputs, training=training, mask=mask)


class Batches(keras.utils.PyDataset):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


def tiny(optimizer="sgd", loss=None, **options):
    source, target = (keras.Input((3,), dtype="int32", name=name) for name in ("source", "target"))
    words = keras.layers.Embedding(5, 4)(source) + keras.layers.Embedding(6, 4)(target)
    model = Tiny([source, target], keras.layers.Dense(6)(words))
    model.compile(optimizer, loss or MaskedCrossentropy(**options), jit_compile=COMPILED)
    return model


@functools.cache
def compiled():
    model = tiny()
    return model, model.get_weights()


def made():
    """What was compiled for one test serves the others."""
    model, first = compiled()
    model.set_weights(first)
    return model


def batch(side=None, value=None):
    arrays = {name: np.array([[1, 2, 3], [4, 1, 0]]) for name in ("source", "target", "y")}
    if side is not None:
        arrays[side][1, 1] = value
    return (arrays["source"], arrays["target"]), arrays["y"]


def weights(model):
    return np.concatenate([np.ravel(one) for one in model.get_weights()])


OUTSIDE = [("source", 5), ("source", -1), ("target", 6), ("y", 6), ("y", -5)]


@pytest.mark.parametrize(("side", "value"), OUTSIDE)
def test_arrays_are_looked_at_before_the_first_step(side, value):
    model, (x, y) = made(), batch(side, value)
    before = weights(model)
    message = rf"`{side}` must hold integers from 0 to [45].*Received: {value} at \(1, 1\)"
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.evaluate({"source": x[0], "target": x[1]}, y, verbose=0)
    if side != "y":
        with pytest.raises(ValueError, match=message):
            model.predict(list(x), verbose=0)
    np.testing.assert_array_equal(weights(model), before)


@pytest.mark.parametrize(("side", "value"), OUTSIDE)
def test_one_batch_is_looked_at_as_a_whole_set_is(side, value):
    model, (x, y) = made(), batch(side, value)
    before = weights(model)
    message = rf"`{side}` must hold integers from 0 to [45].*Received: {value} at \(1, 1\)"
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(x, y)
    with pytest.raises(ValueError, match=message):
        model.test_on_batch(list(x), y, return_dict=True)
    if side != "y":
        with pytest.raises(ValueError, match=message):
            model.predict_on_batch(x)
    np.testing.assert_array_equal(weights(model), before)


def test_one_batch_without_a_number_raises():
    exploding = tiny(keras.optimizers.SGD(np.inf))
    assert np.isfinite(exploding.train_on_batch(*batch()))
    for step in (exploding.train_on_batch, exploding.test_on_batch):
        with pytest.raises(ValueError, match=r"loss of the batch is NaN.*exploded"):
            step(*batch())


def test_arrays_of_a_validation_are_looked_at_before_the_first_step():
    model = made()
    with pytest.raises(ValueError, match="`target` must hold .*Received: 6 at"):
        model.fit(*batch(), validation_data=batch("target", 6), verbose=0)
    np.testing.assert_array_equal(
        weights(model), np.concatenate(list(map(np.ravel, compiled()[1])))
    )


def keras_loss(**options):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def test_the_labels_of_a_loss_of_keras_are_looked_at_too():
    model = tiny(loss=keras_loss())
    for step in (functools.partial(model.fit, verbose=0), model.train_on_batch):
        with pytest.raises(ValueError, match=r"`y` must hold integers from 0 to 5\. Received: 6"):
            step(*batch("y", 6))
    if COMPILED:  # torch raises in the step
        with pytest.raises(ValueError, match=r"loss of epoch 1 is NaN.*`y` must.*Received: 6 at"):
            model.fit(Batches(batch("y", 6)), verbose=0)


def test_the_class_that_a_loss_of_keras_ignores_is_no_label_outside():
    model = tiny(loss=keras_loss(ignore_class=-1))
    assert np.isfinite(model.train_on_batch(*batch("y", -1)))
    with pytest.raises(ValueError, match=r"from 0 to 5 \(or -1\)\. Received: -2"):
        model.train_on_batch(*batch("y", -2))


def test_a_loss_of_probabilities_raises_at_the_first_step():
    model = tiny(loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"returns logits.*`from_logits=True`.*loss='sparse_"):
        model.train_on_batch(*batch())


@pytest.mark.parametrize("wrap", [lambda name, one: [one], lambda name, one: {name: one}])
def test_losses_and_labels_by_output(wrap):
    model = tiny()
    (name,) = model.output_names
    model.compile("sgd", wrap(name, keras_loss()), jit_compile=False)
    x, y = batch("y", 6)
    with pytest.raises(ValueError, match=r"`y` must hold integers from 0 to 5\. Received: 6"):
        model.fit(x, wrap(name, y), verbose=0)


@pytest.mark.skipif(not COMPILED, reason="torch raises in the step")
@pytest.mark.parametrize(("side", "value"), [("source", 5), ("target", -1), ("y", 6)])
def test_of_a_dataset_the_epoch_that_held_an_id_outside_raises_and_names_it(side, value):
    data = Batches(batch(side, value))
    message = rf"loss of epoch 1 is NaN.*must hold integers from 0 to [45].*Received: {value} at"
    with pytest.raises(ValueError, match=message):
        made().fit(data, verbose=0)
    with pytest.raises(ValueError, match=rf"evaluation is NaN.*Received: {value} at"):
        made().evaluate(data, verbose=0)


@pytest.mark.skipif(not COMPILED, reason="torch raises in the step")
def test_of_a_generator_the_error_says_how_to_find_the_id():
    message = r"epoch 1 is NaN.*`source` must hold integers from 0 to 4; .*run_eagerly=True"
    with pytest.raises(ValueError, match=message):
        made().fit((one for one in [batch("source", 5)]), verbose=0)


def test_nothing_is_saved_of_an_epoch_without_a_number():
    ended = []
    after = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    exploding = tiny(keras.optimizers.SGD(np.inf))
    with pytest.raises(ValueError, match=r"The loss of epoch 2 is NaN.*exploded.*global_clipnorm"):
        exploding.fit(*batch(), epochs=3, callbacks=after, verbose=0)
    assert ended == [0]


def test_the_padding_id_of_the_loss_is_no_label_outside():
    model = tiny(padding_id=-1)
    assert np.isfinite(model.fit(*batch("y", -1), verbose=0).history["loss"]).all()


def test_a_seq2seq_marks_the_loss_of_a_batch_outside():
    model = build()
    model.compile("sgd", MaskedCrossentropy())
    logits = ops.zeros((*TARGETS.shape, model.vocabulary_size))
    for x, is_outside in (((SOURCE, TARGETS_IN), False), ((SOURCE + 1, TARGETS_IN), True)):
        loss = model.compute_loss(tuple(map(ops.convert_to_tensor, x)), TARGETS, logits)
        assert np.isnan(float(loss)) == is_outside
