"""Forced searches of 30 steps: ours beside TensorFlow Addons' and torch's, on the same weights.

Batch 32, source length 30 with padding, vocabulary 8000, embedding 256, bidirectional LSTM encoder
2 x 256, LSTM decoder 512, general score, attention vector 512, input feeding, beam 5 (and greedy).
No search may end before its 30th step: the end has a bias of -1e9 in every peer's output layer.
Ours is `Seq2Seq.generate`; tfa is `BeamSearchDecoder` (greedy: `BasicDecoder`) in a `tf.function`;
torch is eager, or its step goes through `torch.compile`; its memory is tiled for the beams. Each
runs in a process that stays alive. The peers take over our weights, and what they find is compared
with what we find, id for id. Source ids in, best ids out, the encoder included. (Our first step
runs with one hypothesis a sentence, the peers' with all beams.)
"""

import contextlib
import functools
import os
import tempfile
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.floor import Sizes
from benchmarks.peers.rounds import PRODUCTS, interleaved, start_all, start_ours, start_peer
from benchmarks.peers.worker import Worker

OURS = "ours"
PEERS = {"tfa": ("tfa",), "torch": ("torch", "eager"), "torch.compile": ("torch", "compiled")}
SEARCHES = ("beam", "greedy")
ENCODER = "encoder"


def measure(
    names: list[str], searches: list[str], sizes: dict, rounds: int, seconds: float
) -> dict[str, Any]:
    """Milliseconds of each search, and the rate of products beside them.

    The first of the names must be ours.
    """
    with contextlib.ExitStack() as stack:
        products = stack.enter_context(start_ours("products.py"))
        workers, rows = _start_all(stack, names, Sizes(**sizes).environment())
        agreement = {one: _compare(workers, one, Sizes(**sizes).steps) for one in searches}
        runs = {
            f"{name}/{one}": functools.partial(worker.ask, "run", search=one)
            for one in searches
            for name, worker in workers.items()
        }
        runs[PRODUCTS] = functools.partial(products.ask, "rate")
        interleaved(runs, 1, seconds)  # warms up
        times = interleaved(runs, rounds, seconds)
    for name in names:
        rows[name]["ms"] = {one: times[f"{name}/{one}"] for one in searches}
    return {"rows": rows, "rate": times[PRODUCTS], "agreement": agreement}


def memory(names: list[str], works: list[str], sizes: dict) -> dict[str, Any]:
    """Megabytes at the peak of each work, in a fresh process, above what it holds between runs.

    With allocators that give back what is freed (`work.EXACT_MEMORY`). The encoder runs before a
    search: where its peak is lower, the peak is the search's.
    """
    environment = {**Sizes(**sizes).environment(), **work.EXACT_MEMORY}
    rows: dict[str, dict[str, float]] = {name: {} for name in names}
    for one in works:
        with contextlib.ExitStack() as stack:
            workers, _ = _start_all(stack, names, environment)
            for name, worker in workers.items():
                rows[name][one] = worker.ask("memory", search=one)
    return {"rows": rows}


def profile(sizes: dict) -> dict[str, Any]:
    """Where the time of our searches goes."""
    with contextlib.ExitStack() as stack:
        workers, _ = _start_all(stack, [OURS], Sizes(**sizes).environment())
        return {search: workers[OURS].ask("profile", search=search) for search in SEARCHES}


def _start(name: str, weights: str, environment: dict[str, str]) -> Worker:
    if name == OURS:
        return start_ours("forced_ours.py", **environment)
    peer, *mode = PEERS[name]
    return start_peer(peer, f"forced_{peer}.py", weights, *mode, **environment)


def _start_all(
    stack: contextlib.ExitStack, names: list[str], environment: dict[str, str]
) -> tuple[dict[str, Worker], dict[str, dict]]:
    """All workers, the peers with our weights, and what each says of itself."""
    weights = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "weights.npz")
    workers, rows = start_all(
        stack,
        names,
        lambda name: _start(name, weights, environment),
        lambda name, worker: _describe(worker, name, weights),
    )
    sizes = {name: row["parameters"] for name, row in rows.items()}
    if len(set(sizes.values())) > 1:
        raise SystemExit(f"The models are not of one size: {sizes}")
    return workers, rows


def _describe(worker: Worker, name: str, weights: str) -> dict:
    # Ours writes the weights when it describes itself.
    return worker.ask("describe", **({"weights": weights} if name == OURS else {}))


def _compare(workers: dict[str, Worker], search: str, steps: int) -> dict[str, Any]:
    """How many of our best hypotheses each peer finds; refuses a search of another length."""
    found = {name: worker.ask("results", search=search) for name, worker in workers.items()}
    for name, one in found.items():
        if {len(row) for row in one["ids"]} != {steps}:
            raise SystemExit(f"{name}, {search}: not {steps} steps")
    ours = found[OURS]
    return {
        name: {
            "same": sum(a == b for a, b in zip(ours["ids"], one["ids"], strict=True)),
            "of": len(ours["ids"]),
            "log_probs": max(
                abs(a - b) for a, b in zip(ours["log_probs"], one["log_probs"], strict=True)
            ),
        }
        for name, one in found.items()
        if name != OURS
    }
