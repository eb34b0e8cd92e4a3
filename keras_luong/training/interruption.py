"""Ctrl-C while a model is fitted: noted, and obeyed when the training can bear it."""

import signal
import threading
from types import FrameType
from typing import Any

import keras


class Interruption:
    """Takes Ctrl-C for the time of a `fit` and notes that it came.

    A second Ctrl-C raises `KeyboardInterrupt` at once; one that comes after `fit` died of an error
    goes to whom it went before.

    Attributes:
        wanted: Whether it came.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._model: Any = None
        self._previous: Any = None

    def listen(self, model: keras.Model) -> None:
        """Begins to take Ctrl-C while this model is fitted, if it can be taken."""
        self.stop_listening()
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets only the main thread set signal handlers
        previous = signal.getsignal(signal.SIGINT)
        if previous is None:
            return  # set by a C library: it could not be given back
        self._model, self._previous = model, previous
        signal.signal(signal.SIGINT, self._on_signal)

    def stop_listening(self) -> None:
        """Gives it back, and forgets that it came."""
        self.wanted = False
        if self._previous is not None:
            # Someone may have taken the signal over since; theirs stays.
            if signal.getsignal(signal.SIGINT) == self._on_signal:
                signal.signal(signal.SIGINT, self._previous)
            self._model = self._previous = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not _is_fitting(self._model, frame):
            # `fit` died of an error, and Keras did not call `on_train_end`.
            self.stop_listening()
            signal.raise_signal(number)
        elif self.wanted:
            self.stop_listening()
            raise KeyboardInterrupt
        else:
            self.wanted = True


def _is_fitting(model: Any, frame: FrameType | None) -> bool:
    """Whether `model.fit` is among the calls that lead to `frame`."""
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model:
            return True
        frame = frame.f_back
    return False
