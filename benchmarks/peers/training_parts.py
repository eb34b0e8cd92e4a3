"""Where the time of our training step goes: its parts alone, forward and backward, under XLA.

    KERAS_BACKEND=tensorflow python benchmarks/peers/training_parts.py

Each part is a program of its own on the sizes of the common work, so what they share in the whole
step (one thread pool, one memory) is not seen, and their sum is not quite the step.
"""

import statistics
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import work
from training_ours import model_of

from keras_luong import MaskedCrossentropy, Seq2Seq

Tensor = Any
_WARM_UP, _ROUNDS = 3, 11


def compiled(outputs: Callable[[], Any], inputs: list) -> Callable[[], Any]:
    """A program for the gradients of a sum of outputs with fixed weights."""

    @tf.function(jit_compile=True)
    def gradients() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            results = tf.nest.flatten(outputs())
            total = sum(tf.reduce_sum(one * tf.stop_gradient(one)) for one in results)
        return tape.gradient(total, inputs)

    return gradients


def parts(model: Seq2Seq) -> dict[str, Callable[[], Any]]:
    source, target_in, target_out = (tf.constant(ids, tf.int32) for ids in work.pairs())
    memory, *states = map(tf.identity, model.encoder(source))
    words = tf.identity(model.target_embedding(target_in))
    masks = {"sequences_mask": target_in != 0, "memory_mask": source != 0}

    def decoder() -> Tensor:
        return model.decoder(words, memory, initial_state=states, training=True, **masks)

    vectors = tf.identity(decoder())
    logits = tf.identity(model.head(vectors))
    flat = tf.reshape(vectors, (-1, work.UNITS)), tf.reshape(logits, (-1, work.VOCABULARY))
    loss = MaskedCrossentropy()

    @tf.function(jit_compile=True)
    def products() -> Any:
        kernel = model.head.kernel.value
        return (
            tf.matmul(flat[0], kernel),
            tf.matmul(*flat, transpose_a=True),
            tf.matmul(flat[1], kernel, transpose_b=True),
        )

    def values(part: Any) -> list:
        return [variable.value for variable in part.trainable_variables]

    encoder_inputs, decoder_inputs = values(model.encoder), values(model.decoder)
    return {
        "encoder": compiled(lambda: model.encoder(source, training=True), encoder_inputs),
        "decoder": compiled(decoder, [*decoder_inputs, words, memory, *states]),
        "head": compiled(lambda: model.head(vectors), [*values(model.head), vectors]),
        "of it the three products": products,
        "loss": compiled(lambda: loss(target_out, logits), [logits]),
        "optimizer": update(model.trainable_variables),
        "the whole step": whole_step(model),
    }


def update(variables: list) -> Callable[[], Any]:
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=5.0)
    optimizer.build(variables)
    gradients = [tf.ones(variable.shape) for variable in variables]

    @tf.function(jit_compile=True)
    def step() -> Tensor:
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return optimizer.iterations.value

    return step


def whole_step(model: Seq2Seq) -> Callable[[], Any]:
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=5.0)
    model.compile(optimizer, MaskedCrossentropy(), jit_compile=True)
    source, target_in, target_out = (np.array(ids, "int32") for ids in work.pairs())
    return lambda: model.train_on_batch((source, target_in), target_out)


def milliseconds(run: Callable[[], Any]) -> float:
    def read() -> None:
        last = tf.nest.flatten(run())[-1]
        np.asarray(last.values if isinstance(last, tf.IndexedSlices) else last)

    return work.milliseconds(read)


def main() -> None:
    programs = parts(model_of("ours"))
    rounds = [
        {name: milliseconds(run) for name, run in programs.items()}
        for _ in range(_WARM_UP + _ROUNDS)
    ]
    print("| part | ms |\n|---|---|")
    for name in programs:
        print(f"| {name} | {statistics.median(one[name] for one in rounds[_WARM_UP:]):.0f} |")


if __name__ == "__main__":
    main()
