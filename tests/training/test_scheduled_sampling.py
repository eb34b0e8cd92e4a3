"""`ScheduledSampling` in a training that is stopped and resumed."""

import itertools

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    InverseSigmoidDecay,
    LuongAttention,
    MaskedCrossentropy,
    ScheduledSampling,
    Seq2Seq,
)
from keras_luong.training import TrainingCheckpoint


def batches(start):
    for step in itertools.count(start):
        rng = np.random.default_rng(step)
        target = rng.integers(4, 11, (3, 4)).astype("int32")
        source = rng.integers(4, 9, (3, 5)).astype("int32")
        yield (source, np.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=2)), target


def trained(epochs, directory=None, seed=1):
    keras.utils.set_random_seed(seed)
    sampling = ScheduledSampling(InverseSigmoidDecay(1.5), draws=True)
    model = Seq2Seq(
        keras.layers.Embedding(9, 4),
        keras.layers.ReversibleEmbedding(11, 4),
        AttentionDecoder(AttentionDecoderCell(keras.layers.GRUCell(4), LuongAttention(), 4)),
        scheduled_sampling=sampling,
    )
    model.compile(keras.optimizers.SGD(0.5), MaskedCrossentropy(), jit_compile=True)
    callbacks, first, start = [], 0, 0
    if directory is not None:
        callbacks.append(TrainingCheckpoint(directory, steps_per_epoch=3))
        first, _, start = callbacks[0].restore(model)
    model.fit(
        batches(start),
        steps_per_epoch=3,
        initial_epoch=first,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return model


def test_the_schedule_and_the_dice_go_on_where_they_stopped(tmp_path):
    undisturbed = trained(2)
    trained(1, tmp_path)
    resumed = trained(2, tmp_path, seed=2)
    assert int(resumed.scheduled_sampling.step) == 6
    for one, other in zip(resumed.variables, undisturbed.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
