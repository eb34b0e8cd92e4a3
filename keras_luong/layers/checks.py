"""Checks of call arguments that the layers share."""

from typing import Any

import keras


def check_rank(layer: keras.layers.Layer, name: str, tensor: Any, ranks: tuple[int, ...]) -> None:
    """Refuses a tensor whose rank is not among `ranks`."""
    if len(tensor.shape) not in ranks:
        raise ValueError(
            f"{type(layer).__name__} takes a {name} of rank {' or '.join(map(str, ranks))}. "
            f"Received shape {tuple(tensor.shape)}."
        )


def check_mask(layer: keras.layers.Layer, name: str, mask: Any, shape: Any) -> None:
    """Refuses a mask whose shape is known to differ from `shape` (`None` fits every size)."""
    if mask is None:
        return
    expected, received = tuple(shape), tuple(mask.shape)
    fits = len(expected) == len(received) and all(
        None in pair or pair[0] == pair[1] for pair in zip(expected, received, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{type(layer).__name__} takes a {name} of shape {expected}, like its tensor without "
            f"the last axis. Received shape {received}."
        )


def check_batch(layer: keras.layers.Layer, first: Any, **others: Any) -> None:
    """Refuses tensors of which there are known to be more or fewer rows than in `first`."""
    rows = first.shape[0]
    for name, tensor in others.items():
        if None not in (rows, tensor.shape[0]) and rows != tensor.shape[0]:
            raise ValueError(
                f"{type(layer).__name__} takes as many rows of {name} as of its first argument, "
                f"{rows}. Received {tensor.shape[0]}."
            )


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
