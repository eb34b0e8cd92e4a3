"""What the package needs to know of Keras cells: their form, states and dropout masks."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

Tensor = Any


def check_cell(cell: Any) -> None:
    """Raises for what is no recurrent cell, and for a stack that holds such."""
    if isinstance(cell, type):
        raise ValueError(
            f"`cell` must be a recurrent cell, not a class: {cell.__name__}(...) makes one. "
            f"Received: {cell!r}"
        )
    if isinstance(cell, keras.layers.RNN):
        raise ValueError(
            "`cell` must be a recurrent cell, which makes one step, not a layer that runs one over "
            f"a sequence: use {_cell_of(cell)}. Received: {cell!r}"
        )
    if not (hasattr(cell, "state_size") and hasattr(cell, "call")):
        raise ValueError(
            "`cell` must be a recurrent cell such as keras.layers.LSTMCell, with a call(inputs, "
            f"states) and a state_size. Received: {cell!r}"
        )
    for one in getattr(cell, "cells", ()):
        check_cell(one)


def _cell_of(layer: keras.layers.RNN) -> str:
    for one in (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN):
        if isinstance(layer, one):
            return f"keras.layers.{one.__name__}Cell({layer.units})"
    return "the cell that it was made with"


def takes_training(cell: Any) -> bool:
    """Whether the cell's `call` has a `training` argument, which a user's own need not have."""
    return "training" in inspect.signature(cell.call).parameters


def build_cell(cell: Any, inputs_shape: Any) -> None:
    """Builds a cell that can be and is not yet."""
    if hasattr(cell, "build") and not getattr(cell, "built", False):
        cell.build(inputs_shape)


def output_depth(cell: Any) -> int:
    """Depth of what a Keras cell puts out."""
    size = getattr(cell, "output_size", None)
    return flat_state_size(cell)[0] if size is None else size


def flat_state_size(cell: Any) -> list[int]:
    """The sizes of a cell's states in one flat list, in the order of `keras.tree.flatten`."""
    return _flatten(cell.state_size)


def _flatten(size: Any) -> list[int]:
    # Keras wraps a layer's lists in tracked ones, which its own tree functions take for leaves.
    if isinstance(size, list | tuple):
        return [one for part in size for one in _flatten(part)]
    return [size]


def pack_states(cell: Any, states: list[Tensor]) -> list[Any]:
    """Gives flat states the structure that the cell's `call` takes."""
    packed = _pack(cell.state_size, iter(states))
    return packed if isinstance(packed, list) else [packed]


def _pack(size: Any, states: Iterator[Tensor]) -> Any:
    if isinstance(size, list | tuple):
        return [_pack(part, states) for part in size]
    return next(states)


@contextlib.contextmanager
def drawn_dropout(cell: Any, batch_size: Any, input_depth: int, training: Any) -> Iterator[None]:
    """Draws a cell's dropout masks for the length of one sequence, and forgets them after it.

    They must exist before the loop: JAX runs the loop in a scope of its own, in which a mask drawn
    would be the same at every call.
    """
    inner = list(innermost(cell, input_depth))
    try:
        if training:
            for one, depth in inner:
                _draw(one, batch_size, depth)
        yield
    finally:
        for one, _ in inner:
            _forget(one)


def innermost(cell: Any, input_depth: int) -> Iterator[tuple[Any, int]]:
    """The cells inside stacks and wrappers, each with the depth of its input."""
    if hasattr(cell, "cells"):
        for one in cell.cells:
            yield from innermost(one, input_depth)
            input_depth = output_depth(one)
    elif hasattr(cell, "cell"):
        yield from innermost(cell.cell, input_depth)
    else:
        yield cell, input_depth


def _draw(cell: Any, batch_size: Any, input_depth: int) -> None:
    if hasattr(cell, "get_dropout_mask"):
        cell.get_dropout_mask(ops.zeros((batch_size, input_depth), cell.compute_dtype))
    if hasattr(cell, "get_recurrent_dropout_mask"):
        state_depth = flat_state_size(cell)[0]
        cell.get_recurrent_dropout_mask(ops.zeros((batch_size, state_depth), cell.compute_dtype))


def _forget(cell: Any) -> None:
    if hasattr(cell, "reset_dropout_mask"):
        cell.reset_dropout_mask()
    if hasattr(cell, "reset_recurrent_dropout_mask"):
        cell.reset_recurrent_dropout_mask()
