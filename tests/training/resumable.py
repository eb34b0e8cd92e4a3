"""A small training that can be stopped and resumed at any step; run as a script, one that dies."""

import os
import signal
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_luong.training import TrainingCheckpoint

STEPS, EPOCHS = 5, 3


@keras.saving.register_keras_serializable(package="tests")
class Diary(keras.layers.Layer):
    """Takes the batch's number off its first column and writes it down."""

    def build(self, input_shape):
        self.seen = self.add_weight(
            shape=(STEPS * EPOCHS,),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            name="seen",
        )
        self.count = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="count"
        )

    def call(self, x, training=False):
        if training:
            here = ops.arange(STEPS * EPOCHS, dtype="int32") == self.count.value
            self.seen.assign(ops.where(here, ops.cast(x[0, 0], "int32"), self.seen.value))
            self.count.assign_add(1)
        return x[:, 1:]


class At(keras.callbacks.Callback):
    """Does something at the end of one batch of the whole training."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action = step, action

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch * STEPS + batch + 1 == self.step:
            self.action()


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def batches(start_step):
    """An endless stream that is the same from any start."""

    def batch(step):
        x = tf.random.stateless_normal((4, 3), tf.stack([step, 7]))
        number = tf.fill((4, 1), tf.cast(step, "float32"))
        return tf.concat([number, x], 1), tf.reduce_sum(x, 1, keepdims=True)

    return tf.data.Dataset.range(start_step, tf.int64.max).map(batch).prefetch(2)


def build(seed=1, units=6, optimizer=None, **compile_args):
    keras.utils.set_random_seed(seed)
    hidden = keras.layers.Dense(units, "tanh")(Diary()(inputs := keras.Input((4,))))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.5)(hidden)))
    optimizer = optimizer or keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.8)
    model.compile(optimizer, "mse", **{"jit_compile": False, **compile_args})
    return model


def train(model, directory, *, before=(), after=(), history=None, epochs=EPOCHS, **arguments):
    """One call of `fit`, from wherever the directory says."""
    checkpoint = TrainingCheckpoint(directory, steps_per_epoch=STEPS, **arguments)
    position = checkpoint.restore(model)
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (
            None if history is None else history.append((epoch, logs["val_loss"]))
        )
    )
    validation = np.ones((2, 4), "float32"), np.ones((2, 1), "float32")
    model.fit(
        batches(position.global_step),
        steps_per_epoch=STEPS,
        initial_epoch=position.epoch,
        epochs=position.epoch if position.stopped else epochs,
        validation_data=validation,
        callbacks=[*before, note, checkpoint, *after],
        verbose=0,
    )
    return position


def state(model):
    """All numbers of a training."""
    if hasattr(model, "jax_state_sync"):  # JAX keeps them elsewhere within an epoch
        model.jax_state_sync()
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(ops.convert_to_numpy(variable.value)) for variable in variables]


def main(directory):
    """Is interrupted after 7 batches, resumed, and dies while it writes its next checkpoint."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        train(build(), directory, before=[At(7, interrupt)], save_freq=3)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    os.fsync = lambda descriptor: os._exit(9)
    train(build(seed=2), directory, save_freq=3)


if __name__ == "__main__":
    main(sys.argv[1])
