"""How fast a model trains, in words."""

import time
from typing import Any

import keras

from keras_luong.checked_numbers import count_of


class TrainingSpeed(keras.callbacks.Callback):
    """Adds `words_per_second` to the logs of an epoch: source and target words, without padding.

    The clock runs from the first batch of the epoch to its last, so validation and whatever other
    callbacks do after an epoch are left out. In the first epoch the time to compile is in it. It
    goes before `keras.callbacks.TensorBoard`, whose graph is then `epoch_words_per_second`.

    Args:
        words_per_epoch: Source and target words of all batches of an epoch.

    Raises:
        ValueError: If `words_per_epoch` is below 1.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> speed = TrainingSpeed(words_per_epoch=6)
    >>> history = model.fit(np.ones((2, 3)), np.ones((2, 1)), callbacks=[speed], verbose=0)
    >>> history.history["words_per_second"][0] > 0
    True
    """

    def __init__(self, words_per_epoch: int) -> None:
        super().__init__()
        self.words_per_epoch = count_of("words_per_epoch", words_per_epoch)
        self._start = self._end = 0.0
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._batches = 0
        self._start = self._end = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the clock."""
        self._batches = batch + 1
        self._end = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the speed to the logs."""
        seconds = self._end - self._start
        if logs is not None and seconds > 0:
            # An epoch that was interrupted, or is stopped early, has its share of the words.
            share = self._batches / ((self.params or {}).get("steps") or self._batches)
            logs["words_per_second"] = share * self.words_per_epoch / seconds
