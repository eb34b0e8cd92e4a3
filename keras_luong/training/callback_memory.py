"""What callbacks have to remember where a training is interrupted and resumed."""

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np

# The learning rate that `ReduceLROnPlateau` sets is a variable of the optimizer.
_OF_KERAS = (
    (
        keras.callbacks.EarlyStopping,
        ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    ),
    (keras.callbacks.ReduceLROnPlateau, ("wait", "cooldown_counter", "best")),
    (keras.callbacks.ModelCheckpoint, ("best",)),
)


def memory_of(callbacks: Iterable[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """What those callbacks remember that remember anything: their class and their attributes."""
    return [
        {
            "class": type(callback).__name__,
            "attributes": {name: getattr(callback, name) for name in names},
        }
        for callback in callbacks
        if (names := _remembered(callback))
    ]


def remind(callbacks: Iterable[keras.callbacks.Callback], memory: Sequence[dict[str, Any]]) -> None:
    """Gives callbacks what `memory_of` returned.

    They are told apart by class, and by order within one. Whoever is not found begins anew.
    """
    for callback, name, value in _remembered_values(callbacks, memory):
        setattr(callback, name, value)


def check_memory(
    callbacks: Iterable[keras.callbacks.Callback], memory: Sequence[dict[str, Any]], place: str
) -> None:
    """Checks that what `remind` gives Keras' own callbacks is what they can remember.

    Raises:
        ValueError: With the place, the class and the attribute.
    """
    for callback, name, value in _remembered_values(callbacks, memory):
        if name in _names_of_keras(callback) and not _IS_ALLOWED[name](value):
            raise ValueError(
                f"{place!r} cannot be read: `{name}` of {type(callback).__name__} must be what it "
                f"remembers there. Received: {reprlib.repr(value)}"
            )


def _remembered_values(
    callbacks: Iterable[keras.callbacks.Callback], memory: Sequence[dict[str, Any]]
) -> Iterator[tuple[keras.callbacks.Callback, str, Any]]:
    left = list(memory)
    for callback in callbacks:
        place = _place(left, type(callback).__name__)
        if place is None:
            continue
        attributes = left.pop(place)["attributes"]
        for name in _remembered(callback):
            if name in attributes:  # not one that it has learnt to remember since
                yield callback, name, attributes[name]


def _place(memory: list[dict[str, Any]], name: str) -> int | None:
    return next((index for index, one in enumerate(memory) if one["class"] == name), None)


def _remembered(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return (*_names_of_keras(callback), *getattr(callback, "remembered_attributes", ()))


def _names_of_keras(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return tuple(name for kind, names in _OF_KERAS if isinstance(callback, kind) for name in names)


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def _is_best(value: Any) -> bool:
    return value is None or isinstance(value, Real) and not isinstance(value, bool)


def _are_weights(value: Any) -> bool:
    is_list = isinstance(value, list)
    return (
        value is None or is_list and all(isinstance(one, np.ndarray | np.generic) for one in value)
    )


_IS_ALLOWED = {
    **dict.fromkeys(("wait", "stopped_epoch", "best_epoch", "cooldown_counter"), _is_count),
    "best": _is_best,
    "best_weights": _are_weights,
}
