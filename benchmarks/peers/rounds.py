"""Rounds in which everything that is compared runs once: solo times on a machine vary threefold."""

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import environments
from benchmarks.peers.worker import Worker

HERE = Path(__file__).parent
PRODUCTS = "products"  # the row of the machine's own rate
_PAUSE = 0.05  # seconds between two runs: the threads of the last one stop spinning
_LEAST = 3


def start_ours(script: str, *arguments: str, **environment: str) -> Worker:
    """A worker in this environment."""
    environment["KERAS_BACKEND"] = "tensorflow"
    return Worker(sys.executable, str(HERE / script), *arguments, **environment)


def start_peer(peer: str, script: str, *arguments: str, **environment: str) -> Worker:
    """A worker in a peer's environment."""
    return Worker(environments.interpreter(peer), str(HERE / script), *arguments, **environment)


def start_all(
    stack: contextlib.ExitStack,
    names: list[str],
    start: Callable[[str], Worker],
    describe: Callable[[str, Worker], dict],
) -> tuple[dict[str, Worker], dict[str, dict]]:
    """All workers, and what each says of itself: the first one alone, since it writes the weights.

    The others start side by side; all of them are there before anything is timed.
    """
    workers, rows = {}, {}
    for some in (names[:1], names[1:]):
        for name in some:
            workers[name] = stack.enter_context(start(name))
        for name in some:
            rows[name] = describe(name, workers[name])
    return workers, rows


def interleaved(
    runs: dict[str, Callable[[], float]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """What each run answered, round by round; no round but the first three begins too late."""
    answers: dict[str, list[float]] = {name: [] for name in runs}
    end = time.monotonic() + seconds
    for done in range(rounds):
        if done >= _LEAST and time.monotonic() > end:
            break
        for name, run in runs.items():
            time.sleep(_PAUSE)
            answers[name].append(run())
    return answers
