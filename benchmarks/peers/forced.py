"""Forced searches of 30 steps: ours beside TensorFlow Addons' and torch's, on the same weights.

    KERAS_BACKEND=tensorflow python benchmarks/peers/forced.py [--rounds 15] [--profile]

Batch 32, source length 30 with padding, vocabulary 8000, embedding 256, bidirectional LSTM encoder
2 x 256, LSTM decoder 512, general score, attention vector 512, input feeding, beam 5 (and greedy).
No search may end before its 30th step: the end has a bias of -1e9 in every peer's output layer.
Ours is `Seq2Seq.generate`; tfa is `BeamSearchDecoder` (greedy: `BasicDecoder`) in a `tf.function`;
torch is eager, its memory tiled for the beams. Each runs in an environment of its own, made by the
first run outside the tree (see `environments.py`), in a process that stays alive. The peers take
over our weights, and the run says how many of their best hypotheses are ours, id for id.

Times are medians of interleaved rounds, source ids in, best ids out, the encoder included; behind a
ratio stand the quartiles of the rounds' ratios. "products" is the floor: 30 times the product of
all beams' vectors with the vocabulary's kernel, alone, in TensorFlow 2.21, in the same rounds. (Our
first step runs with one hypothesis a sentence, the peers' with all beams.)

Run it on a machine that does nothing else: eager torch loses tenfold where threads wait for a core.

Memory is the peak of a fresh process in a search (after a first one that warms up) above what it
holds between searches, weights not included, with allocators that give back what is freed
(`work.EXACT_MEMORY`; oneDNN off in TensorFlow). The encoder runs before the search, and its peak
stands beside it: where it is lower, the peak is the search's. With a vocabulary of 64 the scores of
the candidates weigh next to nothing: what is left is the state of the search.
"""

import argparse
import json
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
PEERS = ("tfa", "torch")
NAMES = ("ours", *PEERS)
SEARCHES = ("beam", "greedy")
SMALL_VOCABULARY = 64
_PAUSE = 0.05  # between two runs: the threads of the last one stop spinning


def start(name: str, weights: str, **environment: str) -> Worker:
    script = str(HERE / f"forced_{name}.py")
    if name == "ours":
        return Worker(sys.executable, script, KERAS_BACKEND="tensorflow", **environment)
    return Worker(environments.interpreter(name), script, weights, **environment)


def start_all(weights: str) -> tuple[dict[str, Worker], dict[str, dict]]:
    """All workers, the peers with our weights, and what each says of itself."""
    workers, described = {}, {}
    for name in NAMES:
        workers[name] = start(name, weights)
        # Ours describes itself first: it writes the weights.
        arguments = {"weights": weights} if name == "ours" else {}
        described[name] = workers[name].ask("describe", **arguments)
    return workers, described


def check_same_work(workers: dict[str, Worker], described: dict[str, dict]) -> None:
    """Refuses peers of another size or length; says whether they find what ours finds."""
    sizes = {name: one["parameters"] for name, one in described.items()}
    if len(set(sizes.values())) > 1:
        raise SystemExit(f"The models are not of one size: {sizes}")
    for search in SEARCHES:
        found = {name: workers[name].ask("results", search=search) for name in NAMES}
        for name in NAMES:
            if {len(row) for row in found[name]["ids"]} != {work.STEPS}:
                raise SystemExit(f"{name}, {search}: not {work.STEPS} steps")
        for name in PEERS:
            pairs = zip(found["ours"]["ids"], found[name]["ids"], strict=True)
            same = sum(one == other for one, other in pairs)
            pairs = zip(found["ours"]["log_probs"], found[name]["log_probs"], strict=True)
            largest = max(abs(one - other) for one, other in pairs)
            print(
                f"{search}: {name} finds {same} of our {work.BATCH} best hypotheses; "
                f"log-probabilities differ by {largest:.0e} at most"
            )


def measure(workers: dict[str, Worker], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of every round, by search (or the encoder) and who ran it."""
    times: dict[tuple[str, str], list[float]] = {}

    def run(row: str, name: str, worker: str, order: str, **arguments: str) -> None:
        time.sleep(_PAUSE)
        times.setdefault((row, name), []).append(workers[worker].ask(order, **arguments))

    for _ in range(rounds):
        for search in SEARCHES:
            for name in NAMES:
                run(search, name, name, "run", search=search)
            run(search, "products", "ours", "run_product", search=search)
        for name in NAMES:
            run("encoder", name, name, "run_encoder")
    return times


def ratio(times: dict[tuple[str, str], list[float]], search: str, peer: str) -> str:
    pairs = zip(times[search, "ours"], times[search, peer], strict=True)
    low, _, high = statistics.quantiles([one / other for one, other in pairs], n=4)
    medians = [statistics.median(times[search, name]) for name in ("ours", peer)]
    return f"{medians[0] / medians[1]:.2f} ({low:.2f}-{high:.2f})"


def print_times(times: dict[tuple[str, str], list[float]]) -> None:
    print("\n| | ours / tfa | ours / torch | ours, ms | tfa, ms | torch, ms | products, ms |")
    print("|---|---|---|---|---|---|---|")
    medians = {key: statistics.median(values) for key, values in times.items()}
    for search in (*SEARCHES, "encoder"):
        ratios = [ratio(times, search, peer) for peer in PEERS]
        absolutes = [f"{medians[search, name]:.0f}" for name in NAMES]
        floor = f"{medians[search, 'products']:.0f}" if search in SEARCHES else ""
        print("| " + " | ".join([search, *ratios, *absolutes, floor]) + " |")
    print("\n| share of the products, and ms above them | ours | tfa | torch | above: ours / tfa |")
    print("|---|---|---|---|---|")
    for search in SEARCHES:
        floor = medians[search, "products"]
        above = {name: medians[search, name] - floor for name in NAMES}
        shares = [f"{floor / medians[search, name]:.2f}, {above[name]:.0f} ms" for name in NAMES]
        print("| " + " | ".join([search, *shares, f"{above['ours'] / above['tfa']:.2f}"]) + " |")


def print_memory(folder: str) -> None:
    print("\n| peak above idle, MB | ours / tfa | ours | tfa | torch |")
    print("|---|---|---|---|---|")
    for vocabulary in (work.VOCABULARY, SMALL_VOCABULARY):
        sizes = json.dumps({"vocabulary": vocabulary})
        environment = {**work.EXACT_MEMORY, "WORK_SIZES": sizes}
        weights = f"{folder}/weights_{vocabulary}.npz"
        with start("ours", weights, **environment) as worker:
            worker.ask("describe", weights=weights)
        for search in (*SEARCHES, "encoder"):
            used = {}
            for name in NAMES:
                with start(name, weights, **environment) as worker:
                    used[name] = worker.ask("memory", search=search)
            cells = [f"{used['ours'] / used['tfa']:.2f}", *(f"{used[name]:.1f}" for name in NAMES)]
            row = [f"{search}, vocabulary {vocabulary}", *cells]
            print("| " + " | ".join(row) + " |", flush=True)


def print_profile(workers: dict[str, Worker]) -> None:
    for search in SEARCHES:
        found = workers["ours"].ask("profile", search=search)
        total = sum(milliseconds for _, milliseconds in found["parts"])
        for title in ("parts", "operations"):
            print(f"\n| profile of ours, {search}: {title} | ms | share |")
            print("|---|---|---|")
            for name, milliseconds in found[title]:
                print(f"| {name} | {milliseconds:.1f} | {milliseconds / total:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="(%(default)s)")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory out")
    parser.add_argument("--profile", action="store_true", help="say where the time of ours goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workers, described = start_all(os.path.join(folder, "weights.npz"))
        for name, one in described.items():
            print(f"{name}: {one['versions']}, {one['parameters']:,} weights")
        check_same_work(workers, described)
        measure(workers, 1)  # warms up
        print_times(measure(workers, max(2, options.rounds)))
        if options.profile:
            print_profile(workers)
        for worker in workers.values():
            worker.close()
        if not options.no_memory:
            print_memory(folder)


if __name__ == "__main__":
    main()
