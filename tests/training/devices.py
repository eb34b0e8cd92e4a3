"""Trainings of a small translator on one device and on two; what they differ by, as JSON."""

import contextlib
import json
import os
import sys

# Before anything asks for devices.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras
import numpy as np

from keras_luong import MaskedCrossentropy, TokenAccuracy, Translator, luong_seq2seq
from keras_luong.training import GuidedAlignment
from tests.training.mortal import pairs, tokenizer

BATCH_SIZE = 6


def build(dropout, optimizer):
    keras.utils.set_random_seed(1)
    model = luong_seq2seq(14, 14, units=8, dropout=dropout, word_dropout=dropout)
    model.compile(optimizer(), loss=MaskedCrossentropy(), metrics=[TokenAccuracy()])
    subwords = tokenizer()
    return Translator(model, subwords, subwords, max_length=12)


def fit(translator, directory=None, epochs=2, **arguments):
    history = translator.fit(
        pairs(),
        pairs()[:BATCH_SIZE],
        epochs=epochs,
        batch_size=BATCH_SIZE,
        buckets=1,  # each has a graph of its own
        checkpoint_dir=directory,
        checkpoint_freq=3,
        verbose=0,
        **arguments,
    )
    return translator.model.get_weights(), history.history


def adam(**options):
    return lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8, **options)


def difference(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def compared(one, two):
    losses = {name: difference(one[1][name], two[1][name]) for name in one[1]}
    return {"weights": difference(one[0], two[0]), **losses}


def mirrored(directory):
    """TensorFlow's `MirroredStrategy`."""
    import tensorflow as tf

    two_devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], two_devices
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def trained(scope, dropout=0.0, make=None, **arguments):
        with scope:
            translator = build(dropout, make or adam())
        return fit(translator, **arguments)

    nothing = contextlib.nullcontext
    found = {"without dropout": compared(trained(nothing()), trained(strategy.scope()))}
    whole = trained(strategy.scope(), 0.3)
    trained(strategy.scope(), 0.3, directory=directory, epochs=1)
    resumed = trained(strategy.scope(), 0.3, directory=directory)
    found["resumed"] = difference(whole[0], resumed[0])
    clip = adam(global_clipnorm=0.01)
    found["clipped"] = difference(
        trained(nothing(), 0.0, clip)[0], trained(strategy.scope(), 0.0, clip)[0]
    )
    found["guided alignment"] = guided_alignment(strategy)
    found["divergence"] = divergence(strategy)
    with strategy.scope():
        layer = keras.layers.Dropout(0.5, seed=1)
    masks = strategy.run(lambda: layer(np.ones((1, 50), "float32"), training=True))
    found["masks"] = difference(*strategy.experimental_local_results(masks))
    return found


def divergence(strategy):
    # log(3) / 2 between (3/4, 1/4) and its reverse, 0 between equals; the last token is padding.
    first = np.log([[[0.75, 0.25], [0.75, 0.25]], [[0.25, 0.75], [0.5, 0.5]]])
    other = np.log([[[0.25, 0.75], [0.75, 0.25]], [[0.75, 0.25], [0.1, 0.9]]])
    ids, logits = np.array([[1, 1], [1, 0]], "int32"), (first.astype("f"), other.astype("f"))
    whole = 2 / 3 * np.log(3) / 2
    return beside_whole(strategy, MaskedCrossentropy().divergence, (ids, *logits), whole)


def guided_alignment(strategy):
    scores = np.array([[[0.5, 0.5], [0.9, 0.1]], [[0.2, 0.8], [0.6, 0.4]]], "float32")
    alignments = np.array([[[1, 0], [0, 1]], [[0, 3], [0, 0]]], "float32")
    whole = -(np.log(0.5) + np.log(0.1) + np.log(0.8)) / 3
    return beside_whole(strategy, GuidedAlignment(), (alignments, scores), whole)


def beside_whole(strategy, loss, arrays, whole):
    """How far the sum of the replicas' losses, of a row each, is from that of the whole batch."""
    rows = strategy.experimental_distribute_values_from_function(
        lambda context: context.replica_id_in_sync_group
    )
    losses = strategy.run(
        lambda row: loss(*(keras.ops.take(one, [row], 0) for one in arrays)), args=(rows,)
    )
    return abs(float(strategy.reduce("SUM", losses, axis=None)) - whole)


def data_parallel():
    return keras.distribution.DataParallel(devices=keras.distribution.list_devices("cpu"))


def sharded(directory):
    """JAX under `keras.distribution`, in one process, which writes a log."""
    one = fit(build(0.3, adam(global_clipnorm=0.5)))
    keras.distribution.set_distribution(data_parallel())
    translator = build(0.3, adam(global_clipnorm=0.5))
    texts = [source for source, _ in pairs()[:2]]
    log = {"log_dir": directory, "alignment_texts": texts, "sample_pairs": pairs()[:2]}
    weights, history = fit(translator, **log)
    history.pop("words_per_second")
    return {"with dropout": compared(one, (weights, history))}


def alone(result):
    """One device, for those of `worker` to be compared with."""
    np.savez(result, *fit(build(0.3, adam()))[0])


def worker(number, port, directory, result):
    """One of two processes of JAX."""
    os.environ["XLA_FLAGS"] = ""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    keras.distribution.initialize(f"127.0.0.1:{port}", 2, int(number))
    keras.distribution.set_distribution(data_parallel())
    said = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: print("step", flush=True)
    )
    weights, _ = fit(build(0.3, adam()), directory, callbacks=[said])
    np.savez(result, *weights)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    ways = {"mirrored": mirrored, "sharded": sharded, "worker": worker, "alone": alone}
    found = ways[what](*arguments)
    print(json.dumps(found))
