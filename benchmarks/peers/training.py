"""A training step of the common work: ours beside TensorFlow Addons', torch's and plain Keras'.

    KERAS_BACKEND=tensorflow python benchmarks/peers/training.py [--rounds 15] [--only NAME ...] \
        [--memory]

Batch 64, 30 + 30 tokens with padding, vocabulary 8000, embedding 256, bidirectional LSTM encoder
2 x 256, LSTM decoder 512, general score, attention vector 512, input feeding, Adam with clipping,
float32. Peers: tfa's `AttentionWrapper` in a `tf.function`; eager torch with fused Adam; a cell as
a Keras user writes it inside `keras.layers.RNN`; and the same model without any attention, in plain
Keras. Ours and Keras' run through `train_on_batch`, with XLA and without. Each runs in a process
that stays alive. tfa and torch take over our weights: their first loss must be ours. Ratios are
medians of those of interleaved rounds, their quartiles behind them.

`--memory` adds the peak memory of a step in a fresh process above what it holds between steps,
weights and the optimizer's state not included, with allocators that give back what is freed.

Run it on a machine that does nothing else.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import environments
import work
from worker import Worker

HERE = Path(__file__).parent
OURS = {
    "ours, XLA": ("ours", "xla", "float32"),
    "ours": ("ours", "plain", "float32"),
    "ours, general loop, XLA": ("ours_general", "xla", "float32"),
    "ours, general loop": ("ours_general", "plain", "float32"),
    "ours, bfloat16, XLA": ("ours", "xla", "mixed_bfloat16"),
    "ours, bfloat16": ("ours", "plain", "mixed_bfloat16"),
    "naive cell, XLA": ("naive", "xla", "float32"),
    "naive cell": ("naive", "plain", "float32"),
    "no attention, XLA": ("no_attention", "xla", "float32"),
    "no attention": ("no_attention", "plain", "float32"),
}
PEERS = ("tfa", "torch")
_PAUSE = 0.05  # between two runs: the threads of the last one stop spinning


def start(name: str, weights: str, **environment: str) -> Worker:
    if name in PEERS:
        script = str(HERE / f"training_{name}.py")
        return Worker(environments.interpreter(name), script, weights, **environment)
    script = str(HERE / "training_ours.py")
    environment["KERAS_BACKEND"] = "tensorflow"
    return Worker(sys.executable, script, *OURS[name], **environment)


def save_weights(path: str) -> None:
    """The weights that ours starts with, which the peers take over."""
    script = str(HERE / "training_ours.py")
    with Worker(sys.executable, script, *OURS["ours"], path, KERAS_BACKEND="tensorflow") as worker:
        worker.ask("describe")


def measure(workers: dict[str, Worker], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every round."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            time.sleep(_PAUSE)
            times[name].append(worker.ask("step"))
    return times


def ratio(times: dict[str, list[float]], name: str, peer: str) -> str:
    if peer not in times:
        return ""
    pairs = zip(times[name], times[peer], strict=True)
    low, middle, high = statistics.quantiles([one / other for one, other in pairs], n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def print_memory(names: list[str], weights: str) -> None:
    print("\n| | peak above idle, MB |")
    print("|---|---|")
    for name in names:
        with start(name, weights, **work.EXACT_MEMORY) as worker:
            print(f"| {name} | {worker.ask('memory'):.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="(%(default)s)")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--memory", action="store_true", help="measure the memory of a step too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.npz")
        if set(PEERS) & set(options.only):
            save_weights(weights)
        workers = {name: start(name, weights) for name in options.only}
        first = {}
        for name, worker in workers.items():
            described = worker.ask("describe")
            print(f"{name}: {described['versions']}, {described['parameters']:,} weights")
            first[name], loss = worker.ask("first_step")
            print(f"{name}: the first loss is {loss:.5f}")
        measure(workers, 2)  # warms up
        times = measure(workers, max(2, options.rounds))
        print("\n| | / tfa | / torch | ms | first step, s |")
        print("|---|---|---|---|---|")
        for name in workers:
            cells = [ratio(times, name, "tfa"), ratio(times, name, "torch")]
            cells += [f"{statistics.median(times[name]):.0f}", f"{first[name]:.1f}"]
            print("| " + " | ".join([name, *cells]) + " |")
        for worker in workers.values():
            worker.close()
        if options.memory:
            print_memory(options.only, weights)


if __name__ == "__main__":
    main()
