"""A training that goes on by a number of updates whenever it is asked to. Standard library only."""

import queue
import threading
import time
from collections.abc import Callable


class Chunks:
    """Runs `train` in a thread; it must call `before_update` before each of its updates."""

    def __init__(self, train: Callable[["Chunks"], object]) -> None:
        self._orders: queue.Queue[int] = queue.Queue()
        self._answers: queue.Queue[BaseException | None] = queue.Queue()
        self._left = 0
        self._thread = threading.Thread(target=self._run, args=(train,), daemon=True)

    def start(self) -> None:
        """Returns when the first update is next."""
        self._thread.start()
        self._wait()

    def updates(self, count: int) -> float:
        """Seconds that so many more updates take, from the start of one to that of the next."""
        start = time.perf_counter()
        self._orders.put(count)
        self._wait()
        return time.perf_counter() - start

    def before_update(self) -> None:
        if self._left == 0:
            self._answers.put(None)
            self._left = self._orders.get()
        self._left -= 1

    def _wait(self) -> None:
        error = self._answers.get()
        if error is not None:
            raise error

    def _run(self, train: Callable[["Chunks"], object]) -> None:
        try:
            train(self)
            raise RuntimeError("The training ended before its chunks did.")
        except BaseException as error:  # noqa: B902 - whatever it is, whoever waits must hear of it
            self._answers.put(error)
