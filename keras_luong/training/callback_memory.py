"""What callbacks have to remember where a training is interrupted and resumed."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras

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
    left = list(memory)
    for callback in callbacks:
        place = _place(left, type(callback).__name__)
        if place is None:
            continue
        attributes = left.pop(place)["attributes"]
        for name in _remembered(callback):
            if name in attributes:  # not one that it has learnt to remember since
                setattr(callback, name, attributes[name])


def _place(memory: list[dict[str, Any]], name: str) -> int | None:
    return next((index for index, one in enumerate(memory) if one["class"] == name), None)


def _remembered(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    known = [name for kind, names in _OF_KERAS if isinstance(callback, kind) for name in names]
    return (*known, *getattr(callback, "remembered_attributes", ()))
