"""A training step of the common work: ours beside TensorFlow Addons', torch's and plain Keras'.

Batch 64, 30 + 30 tokens with padding, vocabulary 8000, embedding 256, bidirectional LSTM encoder 2
x 256, LSTM decoder 512, general score, attention vector 512, input feeding, Adam with clipping,
float32. Peers: tfa's `AttentionWrapper` in a `tf.function`; torch with fused Adam, eager and
through `torch.compile`; a cell as a Keras user writes it inside `keras.layers.RNN`; and the same
model without any attention, in plain Keras. Ours and Keras' run through `train_on_batch`, with XLA
and without. Each runs in a process that stays alive. tfa and torch take over our weights: their
first loss must be ours.
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

LEADER = "ours, XLA"  # whose weights the peers take over
OURS = {
    LEADER: ("ours", "xla", "float32"),
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
PEERS = {"tfa": ("tfa",), "torch": ("torch", "eager"), "torch.compile": ("torch", "compiled")}
_CLOSE = 1e-3  # of two first losses of about 9


def measure(names: list[str], sizes: dict, rounds: int, seconds: float) -> dict[str, Any]:
    """What each says of itself, its first step and its steps, and the rate of products beside them.

    The first of the names must be the one that leads.
    """
    environment = Sizes(**sizes).environment()
    with contextlib.ExitStack() as stack:
        weights = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "weights.npz")
        products = stack.enter_context(start_ours("products.py"))
        workers, rows = _start_all(stack, names, weights, environment)
        for name, worker in workers.items():
            rows[name]["first_s"], rows[name]["loss"] = worker.ask("first_step")
        _check_losses({name: row["loss"] for name, row in rows.items()})
        runs = {name: functools.partial(worker.ask, "step") for name, worker in workers.items()}
        runs[PRODUCTS] = functools.partial(products.ask, "rate")
        interleaved(runs, 2, seconds)  # warms up
        times = interleaved(runs, rounds, seconds)
    rate = times.pop(PRODUCTS)
    return {"rows": {name: {**rows[name], "ms": times[name]} for name in names}, "rate": rate}


def memory(names: list[str], sizes: dict) -> dict[str, Any]:
    """Megabytes of a step in a fresh process, above what it holds between steps, and the latter.

    With allocators that give back what is freed (`work.EXACT_MEMORY`).
    """
    environment = {**Sizes(**sizes).environment(), **work.EXACT_MEMORY}
    with contextlib.ExitStack() as stack:
        weights = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "weights.npz")
        products = stack.enter_context(start_ours("products.py", **work.EXACT_MEMORY))
        workers, _ = _start_all(stack, names, weights, environment)
        found = {name: worker.ask("memory") for name, worker in workers.items()}
        idle = products.ask("idle_megabytes")
    rows = {name: {"peak": peak, "held": held} for name, (peak, held) in found.items()}
    return {"rows": rows, "idle": idle}


def _start_all(
    stack: contextlib.ExitStack, names: list[str], weights: str, environment: dict[str, str]
) -> tuple[dict[str, Worker], dict[str, dict]]:
    return start_all(
        stack,
        names,
        lambda name: _start(name, weights, environment),
        lambda _, worker: worker.ask("describe"),
    )


def _start(name: str, weights: str, environment: dict[str, str]) -> Worker:
    if name in OURS:
        saved = [weights] if name == LEADER else []
        return start_ours("training_ours.py", *OURS[name], *saved, **environment)
    peer, *mode = PEERS[name]
    return start_peer(peer, f"training_{peer}.py", weights, *mode, **environment)


def _check_losses(losses: dict[str, float]) -> None:
    for name in PEERS:
        if name in losses and abs(losses[name] - losses[LEADER]) > _CLOSE:
            raise SystemExit(
                f"{name} begins with a loss of {losses[name]}, ours with {losses[LEADER]}: "
                "they do not train the same model."
            )
