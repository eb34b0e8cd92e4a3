"""The loop over time, and the dropout masks that must be drawn before it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

Tensor = Any
Step = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


def recur(
    step: Step, sequences: Tensor, states: list[Tensor], mask: Tensor | None, dtype: Any
) -> tuple[Tensor, list[Tensor]]:
    """Runs `step` over axis 1 of `sequences` with `keras.layers.RNN`.

    That is the one loop of Keras that trains on every backend (`ops.scan` has no XLA gradient on
    TensorFlow, `ops.while_loop` none on JAX). The layer made here has no weights: they belong to
    whoever made `step`, and `step` may close over tensors, such as a memory. At masked steps the
    output is zero and the states stay as they were. The mask rides along as one more input channel,
    because what `RNN` itself does at masked steps differs from backend to backend.

    Args:
        step: `(inputs (b, d), states) -> (output, states)`.
        sequences: `(b, t, d)`.
        states: Tensors that lead with b.
        mask: Boolean `(b, t)`, or `None`.
        dtype: The dtype policy of the computation.

    Returns:
        `(outputs (b, t, ...), last states)`.
    """
    if mask is not None:
        channel = ops.cast(ops.expand_dims(mask, -1), sequences.dtype)
        sequences = ops.concatenate([sequences, channel], axis=-1)
        step = _masked(step)
    cell = _StepCell(step, [state.shape[-1] for state in states], dtype)
    loop = keras.layers.RNN(cell, return_sequences=True, return_state=True, dtype=dtype)
    outputs, *states = loop(sequences, initial_state=states)
    return outputs, states


def _masked(step: Step) -> Step:
    def masked_step(inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        kept = inputs[:, -1:] > 0.5
        output, new_states = step(inputs[:, :-1], states)
        new_states = [
            ops.where(kept, new, old) for new, old in zip(new_states, states, strict=True)
        ]
        return ops.where(kept, output, ops.zeros_like(output)), new_states

    return masked_step


class _StepCell:
    """A step function in the form that `keras.layers.RNN` takes for a cell."""

    def __init__(self, step: Step, state_size: list[int], dtype: Any) -> None:
        self.step = step
        self.state_size = state_size
        self.compute_dtype = keras.dtype_policies.get(dtype).compute_dtype

    def call(self, inputs: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
        return self.step(inputs, list(states))

    __call__ = call


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
    cells = getattr(cell, "cells", [cell])
    try:
        if training:
            for one in cells:
                _draw(one, batch_size, input_depth)
                input_depth = output_depth(one)
        yield
    finally:
        for one in cells:
            _forget(one)


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
