"""Time and memory of attention over long sequences: ours beside `keras.layers.Attention`.

    KERAS_BACKEND=tensorflow python benchmarks/long_attention.py [--jit-compile]

Both layers compute a dot score and its context from the same queries, keys and values, forward and
backward, in a `tf.function` of known shapes, as `fit` does. Times are medians of interleaved
rounds in one process. Memory is the peak of a process of its own above what it held before the
inputs were made. Rows that would not fit into the memory of the machine are left out, and say so.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

DEPTH = 512
# (batch, length of target and source)
SHAPES = [(1, 256), (1, 512), (1, 1024), (1, 2048), (4, 2048), (1, 4096), (1, 8192), (1, 16384)]
LAYERS = ("keras", "ours")


def training_step(layer: str, jit_compile: bool):
    """A function (query, value) -> gradients, the sum of the context being the loss."""
    import keras
    import tensorflow as tf

    from keras_luong import LuongAttention

    ours = LuongAttention("dot")
    attention = keras.layers.Attention()

    @tf.function(jit_compile=jit_compile)
    def step(query, key, value):
        with tf.GradientTape() as tape:
            tape.watch([query, key, value])
            context = (
                attention([query, value, key]) if layer == "keras" else ours(query, value, key)
            )
            loss = tf.reduce_sum(tf.square(context))
        return [context, *tape.gradient(loss, [query, key, value])]

    return step


def inputs(batch: int, length: int):
    import tensorflow as tf

    # Logits of a normal size, so that the softmax has something to do.
    shape = (batch, length, DEPTH)
    return [tf.random.stateless_normal(shape, (seed, 7)) * DEPTH**-0.25 for seed in range(3)]


def megabytes(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def memory(layer: str, batch: int, length: int, jit_compile: bool) -> float:
    """Peak memory in MB above the idle process; runs in a process of its own."""
    step = training_step(layer, jit_compile)
    step(*inputs(1, 16))  # what a first call loads is not what is measured
    idle = megabytes("VmRSS")
    tensors = inputs(batch, length)
    # What making the inputs left behind is given back; then the peak counts from here.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        step(*tensors)
    return megabytes("VmHWM") - idle


def in_process(layer: str, batch: int, length: int, jit_compile: bool) -> float:
    command = [sys.executable, __file__, "--memory", layer, str(batch), str(length)]
    command += ["--jit-compile"] if jit_compile else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return float("nan")
    return json.loads(done.stdout.splitlines()[-1])


def times(
    batch: int, length: int, rounds: int, jit_compile: bool
) -> tuple[dict[str, float], float]:
    """Median seconds a step, and the largest difference of context and gradients."""
    import numpy as np

    steps = {layer: training_step(layer, jit_compile) for layer in LAYERS}
    tensors = inputs(batch, length)
    results = {layer: [part.numpy() for part in steps[layer](*tensors)] for layer in LAYERS}
    pairs = zip(results["keras"], results["ours"], strict=True)
    difference = max(float(np.abs(one - other).max() / np.abs(one).max()) for one, other in pairs)
    del results
    seconds: dict[str, list[float]] = {layer: [] for layer in LAYERS}
    for _ in range(rounds):
        for layer in LAYERS:
            start = time.perf_counter()
            steps[layer](*tensors)[-1].numpy()
            seconds[layer].append(time.perf_counter() - start)
    return {layer: statistics.median(seconds[layer]) for layer in LAYERS}, difference


def enough_memory(batch: int, length: int) -> bool:
    """Whether six tensors of weights, what Keras' layer was seen to hold, fit into the memory."""
    free = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    return 6 * 4 * batch * length**2 < free


def row(batch: int, length: int, rounds: int, jit_compile: bool) -> str:
    if not enough_memory(batch, length):
        ours = in_process("ours", batch, length, jit_compile)
        return (
            f"| {batch} x {length} | - | {ours:.0f} | - | not enough memory for Keras | | - | - |"
        )
    seconds, difference = times(batch, length, rounds if length <= 4096 else 3, jit_compile)
    used = {layer: in_process(layer, batch, length, jit_compile) for layer in LAYERS}
    return (
        f"| {batch} x {length} | {used['keras']:.0f} | {used['ours']:.0f} "
        f"| {used['ours'] / used['keras']:.2f} | {1000 * seconds['keras']:.1f} "
        f"| {1000 * seconds['ours']:.1f} | {seconds['ours'] / seconds['keras']:.2f} "
        f"| {difference:.0e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--jit-compile", action="store_true", help="under XLA")
    options = parser.parse_args()
    if options.memory:
        layer, batch, length = options.memory
        print(json.dumps(memory(layer, int(batch), int(length), options.jit_compile)))
        return
    print(
        "| batch x length | keras, MB | ours, MB | ratio | keras, ms | ours, ms | ratio | differ |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for batch, length in SHAPES:
        print(row(batch, length, options.rounds, options.jit_compile), flush=True)


if __name__ == "__main__":
    main()
