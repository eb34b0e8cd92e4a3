"""The mean of checkpoints, by arithmetic."""

import keras
import numpy as np
import pytest
from keras import ops

pytest.importorskip("tensorflow")

from keras_luong.training import TrainingCheckpoint, average_checkpoints


@keras.saving.register_keras_serializable(package="tests")
class Counter(keras.layers.Layer):
    """A whole number and a float that are not trained, the first beyond what float32 can count."""

    def build(self, input_shape):
        self.count = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="count"
        )
        self.mean = self.add_weight(shape=(), initializer="zeros", trainable=False, name="mean")

    def call(self, x):
        return x


def build(optimizer="adam", units=1):
    counter, dropout = Counter(), keras.layers.Dropout(0.5)
    dense = keras.layers.Dense(units, use_bias=False)
    model = keras.Sequential([keras.Input((2,)), counter, dropout, dense])
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


KERNELS = [[100.0, 0.0], [1.0, -2.0], [2.0, 0.5], [6.0, 3.0]]
COUNTS = [7, 2**24 + 1, 2**24 + 4, 2**24 + 9]


class Write(keras.callbacks.Callback):
    """Writes known numbers after every epoch."""

    def on_epoch_end(self, epoch, logs=None):
        counter, _, dense = self.model.layers
        dense.kernel.assign(np.array(KERNELS[epoch])[:, None])
        counter.count.assign(COUNTS[epoch])
        counter.mean.assign(10.0 * epoch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of four epochs, of which three are kept, and the state of the training."""
    folder, model = tmp_path_factory.mktemp("averages"), build()
    checkpoint = TrainingCheckpoint(folder, steps_per_epoch=1, keep=3)
    inputs = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    model.fit(*inputs, epochs=4, steps_per_epoch=1, callbacks=[Write(), checkpoint], verbose=0)
    return folder, model


# The kernels' means: of the last two (2 + 6) / 2 and (.5 + 3) / 2, of three (1 + 2 + 6) / 3 and
# (-2 + .5 + 3) / 3.
@pytest.mark.parametrize(
    ("count", "kernel", "mean"),
    [(1, [6.0, 3.0], 30.0), (2, [4.0, 1.75], 25.0), (3, [3.0, 0.5], 20.0)],
)
def test_means_of_floats_and_the_newest_of_all_else(trained, count, kernel, mean):
    folder, before = trained
    model = build()
    average_checkpoints(model, folder, count)
    counter, dropout, dense = model.layers
    np.testing.assert_allclose(ops.convert_to_numpy(dense.kernel)[:, 0], kernel, rtol=1e-6)
    np.testing.assert_allclose(float(counter.mean), mean, rtol=1e-6)
    assert int(counter.count) == COUNTS[-1]
    seeds = [one.layers[1].seed_generator.state for one in (model, before)]
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, seeds))
    optimizers = [one.optimizer.variables for one in (model, before)]
    for here, there in zip(*optimizers, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (here, there)))
    assert int(model.optimizer.iterations) == 4


@pytest.mark.parametrize(
    ("make", "count", "message"),
    [
        (build, 4, "at least 4 checkpoints .* keep=4. Received: 3 checkpoints"),
        (build, 0, "`count` must be an integer, at least 1. Received: 0"),
        (lambda: build("sgd"), 2, "another model or optimizer"),
        (lambda: build(units=2), 2, "another model or optimizer"),
    ],
)
def test_what_is_refused(trained, make, count, message):
    with pytest.raises(ValueError, match=message):
        average_checkpoints(make(), trained[0], count)


def test_a_folder_without_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="Received: 0 checkpoints"):
        average_checkpoints(build(), tmp_path / "none")
