"""A training that ends by the clock, and a learning rate that follows it."""

import math
import statistics
import time
from collections import deque
from typing import Any

import keras

_LEARNING = 50  # steps
_SLOW = 10.0
_WARM_UP = 0.08  # of the time


class Clock:
    """Seconds that a training has trained, without those in which XLA compiles.

    A step that takes more than 10 times the usual one, which is the median of the last 50, counts
    as a usual one: it compiled. (The longest batches take about 5 times the usual.) The first 50
    steps of a process, in which most of it happens, count as their median each.
    """

    def __init__(self) -> None:
        self.start(0.0)

    def start(self, seconds: float) -> None:
        """Goes on from here: the next steps are those of a new process."""
        self.seconds = self._started = seconds
        self._recent: deque[float] = deque(maxlen=_LEARNING)

    def add(self, seconds: float) -> None:
        """Counts a step."""
        is_learning = len(self._recent) < _LEARNING
        self._recent.append(seconds)
        usual = statistics.median(self._recent)
        if is_learning:
            self.seconds = self._started + len(self._recent) * usual
        else:
            self.seconds += seconds if seconds < _SLOW * usual else usual


def rate(share: float) -> float:
    """The learning rate as a share of its peak, once a share of the time is over.

    It rises to the peak in the first 8 % of the time and falls to 0 by a cosine.
    """
    return min(1.0, share / _WARM_UP) * (1 + math.cos(math.pi * min(1.0, share))) / 2


class Timetable(keras.callbacks.Callback):
    """Sets the learning rate before each step, and ends the training when its time is over."""

    def __init__(self, clock: Clock, seconds: float, peak_rate: float) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = seconds
        self.peak_rate = peak_rate
        self._begin = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        share = self.clock.seconds / self.seconds
        self.model.optimizer.learning_rate = self.peak_rate * rate(share)
        self._begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.clock.add(time.perf_counter() - self._begin)
        if self.clock.seconds >= self.seconds:
            self.model.stop_training = True
