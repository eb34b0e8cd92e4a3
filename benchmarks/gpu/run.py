"""Training steps on a GPU: keras_luong on JAX beside torch, eager and compiled.

    python benchmarks/gpu/run.py

Needs JAX and torch for the GPU, and keras, in one python; no TensorFlow. Prints tables in Markdown.
What has to compile compiles side by side, before; then the workers, which stay alive, run turn by
turn. The rate is what a large square product reaches on the card at the same precision.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "peers"))

import sizes  # noqa: E402 - it stands in the folder named above
from worker import Worker  # noqa: E402

PRECISIONS = ("float32", "tf32", "bfloat16")
MODES = ("eager", "compiled", "graphs")
# JAX would take most of the card's memory for itself, and the peers run beside it.
_ENVIRONMENT = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Runner(NamedTuple):
    """One worker and one batch size.

    Attributes:
        run: Given a number of steps, trains them; returns milliseconds a step.
        first: Seconds and loss of the first step, once it is done.
        worker: For more orders.
    """

    run: Callable[[int], float]
    first: Future
    worker: Worker

    def is_ready(self, until: float) -> bool:
        """Whether the first step is done by then, in the time of `time.monotonic`."""
        try:
            self.first.result(timeout=max(0.0, until - time.monotonic()))
        except TimeoutError:
            self.worker.process.kill()
            return False
        return True


def ours(precision: str) -> Worker:
    return Worker(sys.executable, str(HERE / "ours.py"), precision, **_ENVIRONMENT)


def runner(pool: ThreadPoolExecutor, worker: Worker, **order: object) -> Runner:
    return Runner(
        lambda steps: worker.ask("run", steps=steps, **order),
        pool.submit(worker.ask, "first", **order),
        worker,
    )


def interleaved(runners: dict[str, Runner], steps: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds a step of every round but the first, which warms up."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds + 1):
        for name, one in runners.items():
            times[name].append(one.run(steps))
    return {name: several[1:] for name, several in times.items()}


def common_work(options: argparse.Namespace, pool: ThreadPoolExecutor) -> None:
    """Prints the table of the common work."""
    heads = ["", "batch", *(f"{mode} / ours" for mode in options.modes), "ours, ms"]
    heads += ["target tokens a second", "of the rate", "rate, TFLOP/s", "first step, s", "loss"]
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.npz")
        with ours("float32") as first:
            first.ask("weights", path=weights)
            print(first.ask("versions"))
        print(f"First steps and losses: {' / '.join(['ours', *options.modes])}.\n")
        print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
        for precision in options.precisions:
            # Not all at once: a compiler of torch's takes several cores and gigabytes.
            cases = {
                batch: start(precision, batch, weights, options, pool) for batch in options.batches
            }
            measure(precision, cases, options)


def start(
    precision: str,
    batch: int,
    weights: str,
    options: argparse.Namespace,
    pool: ThreadPoolExecutor,
) -> dict[str, Runner]:
    workers = {"ours": ours(precision)}
    for mode in options.modes:
        command = (str(HERE / "torch_peer.py"), precision, mode, weights)
        workers[mode] = Worker(sys.executable, *command)
    return {name: runner(pool, one, batch=batch) for name, one in workers.items()}


def measure(
    precision: str, cases: dict[int, dict[str, Runner]], options: argparse.Namespace
) -> None:
    """Measures batch size by batch size, and prints a row for each."""
    names = ["ours", *options.modes]
    until = time.monotonic() + options.patience
    ready = {
        batch: {name: one for name, one in runners.items() if one.is_ready(until)}
        for batch, runners in cases.items()
    }
    for batch, runners in ready.items():
        if "ours" not in runners:
            raise SystemExit(f"Ours is not ready after {options.patience:.0f} s; see --patience.")
        rate = runners["ours"].worker.ask("rate", size=options.size)
        times = interleaved(runners, options.steps, options.rounds)
        own = statistics.median(times["ours"])
        cells = [precision, str(batch)]
        cells += [ratio(times, mode) for mode in options.modes]
        share = sizes.product_flops(batch) / own / 1e9 / rate
        tokens = 1000 * sizes.words("common", batch)[1] / own
        cells += [f"{own:.2f}", f"{tokens:,.0f}", f"{share:.2f}", f"{rate:.0f}"]
        firsts = [runners[name].first.result() if name in runners else None for name in names]
        cells += [" / ".join(f"{one[0]:.0f}" if one else "-" for one in firsts)]
        cells += [" / ".join(f"{one[1]:.4f}" if one else "-" for one in firsts)]
        print(f"| {' | '.join(cells)} |", flush=True)
        for one in runners.values():
            one.worker.close()


def ratio(times: dict[str, list[float]], mode: str) -> str:
    if mode not in times:
        return "-"
    pairs = zip(times[mode], times["ours"], strict=True)
    return f"{statistics.median(one / own for one, own in pairs):.1f}"


def english_vietnamese(options: argparse.Namespace, pool: ThreadPoolExecutor) -> None:
    """Prints the table of tensorflow/nmt's sizes."""
    task = "english_vietnamese"
    cases = {
        (precision, batch): runner(pool, ours(precision), task=task, batch=batch)
        for precision in options.precisions
        for batch in options.nmt_batches
    }
    print("\n| English-Vietnamese sizes | batch | ms a step | source + target words a second |")
    print("|---|---|---|---|")
    for one in cases.values():
        one.first.result()
    for (precision, batch), one in cases.items():
        times = interleaved({"ours": one}, options.steps, options.rounds)["ours"]
        words = 1000 * sum(sizes.words(task, batch)) / statistics.median(times)
        print(
            f"| {precision} | {batch} | {statistics.median(times):.2f} | {words:,.0f} |", flush=True
        )
        one.worker.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES, help="of torch")
    parser.add_argument("--batches", nargs="*", type=int, default=[64, 512])
    parser.add_argument("--nmt-batches", nargs="*", type=int, default=[128, 1024, 4096])
    parser.add_argument("--steps", type=int, default=30, help="a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--size", type=int, default=8192, help="of the product (%(default)s)")
    parser.add_argument("--patience", type=float, default=300.0, help="s for torch to compile")
    options = parser.parse_args()
    with ThreadPoolExecutor(64) as pool:
        common_work(options, pool)
        english_vietnamese(options, pool)


if __name__ == "__main__":
    main()
