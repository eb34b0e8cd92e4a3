"""A small translator's training that may be killed at any moment and is started again and again.

It says each step that it has done, writes slowly so that one can be killed there, and leaves all
its numbers in a file.
"""

import os
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from keras_luong import MaskedCrossentropy, SubwordTokenizer, Translator, luong_seq2seq
from keras_luong.training import InverseSquareRoot
from tests.training.resumable import state

EPOCHS, SAVE_FREQ, SECONDS_A_FLUSH = 4, 3, 0.05


def pairs(count=30):
    """Rows of letters, and the same backwards."""
    rng = np.random.default_rng(0)
    rows = [rng.choice(list("abcdefgh"), rng.integers(1, 7)) for _ in range(count)]
    return [(" ".join(row), " ".join(row[::-1])) for row in rows]


def tokenizer():
    return SubwordTokenizer.train([text for pair in pairs() for text in pair], 14)


def slowly(flush):
    def flush_slowly(descriptor):
        time.sleep(SECONDS_A_FLUSH)
        flush(descriptor)

    return flush_slowly


def main(directory, result):
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(7)
    os.fsync = slowly(os.fsync)
    model = luong_seq2seq(14, 14, units=8, cell="gru", dropout=0.3, word_dropout=0.2)
    optimizer = keras.optimizers.Adam(
        InverseSquareRoot(0.02, warmup=5), global_clipnorm=1.0, use_ema=True, ema_momentum=0.8
    )
    model.compile(optimizer, loss=MaskedCrossentropy(label_smoothing=0.1))
    subwords = tokenizer()
    callbacks = [
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
        keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: print("step", flush=True)
        ),
    ]
    Translator(model, subwords, subwords, max_length=12).fit(
        pairs(),
        pairs()[:8],
        epochs=EPOCHS,
        batch_size=6,
        checkpoint_dir=directory,
        checkpoint_freq=SAVE_FREQ,
        callbacks=callbacks,
        verbose=0,
    )
    np.savez(result, *state(model))
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
