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


def build(seed):
    keras.utils.set_random_seed(seed)
    model = Seq2Seq(
        keras.layers.Embedding(9, 4),
        keras.layers.ReversibleEmbedding(11, 4),
        AttentionDecoder(AttentionDecoderCell(keras.layers.GRUCell(4), LuongAttention(), 4)),
        scheduled_sampling=ScheduledSampling(InverseSigmoidDecay(1.5), draws=True),
    )
    model.compile(keras.optimizers.SGD(0.5), MaskedCrossentropy(), jit_compile=False)
    return model


def fit(model, epoch, *callbacks):
    """One epoch, of three batches."""
    model.fit(
        batches(3 * epoch),
        steps_per_epoch=3,
        initial_epoch=epoch,
        epochs=epoch + 1,
        callbacks=callbacks,
        verbose=0,
    )


def test_the_schedule_and_the_dice_go_on_where_they_stopped(tmp_path):
    model, resumed = build(seed=1), build(seed=2)
    fit(model, 0, TrainingCheckpoint(tmp_path, steps_per_epoch=3))
    fit(model, 1)
    assert TrainingCheckpoint(tmp_path, steps_per_epoch=3).restore(resumed).global_step == 3
    assert int(resumed.scheduled_sampling.step) == 3
    fit(resumed, 1)
    assert int(resumed.scheduled_sampling.step) == 6
    for one, other in zip(resumed.variables, model.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
