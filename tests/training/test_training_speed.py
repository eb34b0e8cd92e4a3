import keras
import numpy as np
import pytest

from keras_luong.training import TrainingSpeed, training_speed


class Clock(keras.callbacks.Callback):
    """Stands still but for two seconds in every batch, and a hundred after an epoch."""

    seconds = 0.0

    def perf_counter(self):
        return self.seconds

    def on_train_batch_begin(self, batch, logs=None):
        self.seconds += 2.0

    def on_epoch_end(self, epoch, logs=None):
        self.seconds += 100.0


def test_words_over_the_time_of_the_batches(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(training_speed, "time", clock)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    arrays = np.ones((4, 3)), np.ones((4, 1))
    callbacks = [clock, TrainingSpeed(words_per_epoch=1000)]
    history = model.fit(*arrays, batch_size=1, epochs=2, callbacks=callbacks, verbose=0).history
    assert history["words_per_second"] == [1000 / 8, 1000 / 8]


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch == 2


def test_an_epoch_that_is_cut_has_its_share_of_the_words(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(training_speed, "time", clock)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    arrays = np.ones((4, 3)), np.ones((4, 1))
    callbacks = [clock, TrainingSpeed(words_per_epoch=1000), Stop()]
    history = model.fit(*arrays, batch_size=1, callbacks=callbacks, verbose=0).history
    assert history["words_per_second"] == [750 / 6]


def test_no_words():
    with pytest.raises(ValueError, match="Received: 0"):
        TrainingSpeed(0)
