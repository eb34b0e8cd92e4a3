"""Ctrl-C and SIGTERM while a model is fitted: noted, and obeyed when the training can bear it."""

import signal
import threading
from types import FrameType
from typing import Any

import keras

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Takes Ctrl-C and SIGTERM for the time of a `fit` and notes that one came.

    A second one is obeyed at once; one that comes after `fit` died of an error goes to whom it went
    before.

    Attributes:
        wanted: The exception to raise, if one came.
    """

    def __init__(self) -> None:
        self.wanted: BaseException | None = None
        self._model: Any = None
        self._previous: dict[int, Any] = {}

    def listen(self, model: keras.Model) -> None:
        """Begins to take the signals while this model is fitted, if they can be taken."""
        self.stop_listening()
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets only the main thread set signal handlers
        self._model = model
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            if previous is not None:  # set by a C library: it could not be given back
                self._previous[number] = previous
                signal.signal(number, self._on_signal)

    def stop_listening(self) -> None:
        """Gives them back, and forgets that one came."""
        self.wanted = self._model = None
        for number, previous in self._previous.items():
            # Someone may have taken the signal over since; theirs stays.
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, previous)
        self._previous = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not _is_fitting(self._model, frame):
            # `fit` died of an error, and Keras did not call `on_train_end`.
            self.stop_listening()
            signal.raise_signal(number)
        elif self.wanted:
            self.stop_listening()
            raise _exception_of(number)
        else:
            self.wanted = _exception_of(number)


def _exception_of(number: int) -> BaseException:
    """The exception that ends the program; for SIGTERM with exit status 143, as in a shell."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _is_fitting(model: Any, frame: FrameType | None) -> bool:
    """Whether `model.fit` is among the calls that lead to `frame`."""
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model:
            return True
        frame = frame.f_back
    return False
