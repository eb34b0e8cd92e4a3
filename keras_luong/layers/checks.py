"""Checks of call arguments that the layers share."""

from typing import Any

import keras


def check_rank(layer: keras.layers.Layer, name: str, tensor: Any, ranks: tuple[int, ...]) -> None:
    """Refuses a tensor whose rank is not among `ranks`."""
    shape = _shape(layer, name, tensor)
    if len(shape) not in ranks:
        raise ValueError(
            f"{type(layer).__name__} takes a {name} of rank {' or '.join(map(str, ranks))}. "
            f"Received shape {shape}."
        )


def check_mask(layer: keras.layers.Layer, name: str, mask: Any, shape: Any) -> None:
    """Refuses a mask whose shape is known to differ from `shape` (`None` fits every size)."""
    if mask is not None:
        check_shape(layer, name, mask, shape, ", like its tensor without the last axis")


def check_shape(
    layer: keras.layers.Layer, name: str, tensor: Any, shape: Any, why: str = ""
) -> None:
    """Refuses a tensor whose shape is known to differ from `shape` (`None` fits every size)."""
    expected, received = tuple(shape), _shape(layer, name, tensor)
    fits = len(expected) == len(received) and all(
        None in pair or pair[0] == pair[1] for pair in zip(expected, received, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{type(layer).__name__} takes a {name} of shape {expected}{why}. "
            f"Received shape {received}."
        )


def check_batch(layer: keras.layers.Layer, name: str, tensor: Any, batch_size: int | None) -> None:
    """Refuses a tensor whose number of rows is known to differ from `batch_size`."""
    rows = tensor.shape[0]
    if None not in (rows, batch_size) and rows != batch_size:
        raise ValueError(
            f"{type(layer).__name__} takes as many rows of {name} as of its first argument, "
            f"{batch_size}. Received {rows}."
        )


def _shape(layer: keras.layers.Layer, name: str, tensor: Any) -> tuple[int | None, ...]:
    if not hasattr(tensor, "shape"):
        raise TypeError(
            f"{type(layer).__name__} takes a tensor or array for {name}. Received a "
            f"{type(tensor).__name__}."
        )
    return tuple(tensor.shape)


def refuse_list(layer: keras.layers.Layer, first: Any, call: str) -> None:
    """Refuses the list form `layer([query, value])` of Keras 2 and says how to call instead."""
    if isinstance(first, list | tuple):
        raise TypeError(
            f"{type(layer).__name__} takes its tensors one by one: {call}. Received a "
            f"{type(first).__name__} of {len(first)} as the first argument."
        )


def refuse_mask(layer: keras.layers.Layer, kwargs: dict[str, Any], call: str) -> None:
    """Refuses `mask=`, which would leave open which of several tensors it belongs to."""
    if "mask" in kwargs:
        raise TypeError(
            f"{type(layer).__name__} has a mask for each of its tensors: {call}. Received: mask=..."
        )


def check_one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Refuses a value that is not among the allowed ones."""
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {allowed}. Received: {value!r}")


def check_not_regularized(owner: str, *parts: Any) -> None:
    """Refuses parts with an `activity_regularizer`, whose loss nobody would add."""
    for part in parts:
        regularizer = getattr(part, "activity_regularizer", None)
        if regularizer is not None:
            raise ValueError(
                f"{owner} computes with its parts' weights, where an `activity_regularizer` does "
                f"nothing: give it to the outermost layer. Received: {type(part).__name__} with "
                f"{regularizer!r}"
            )
