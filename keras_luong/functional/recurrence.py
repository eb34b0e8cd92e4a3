"""The loop over time."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any
Step = Callable[..., tuple[Tensor, list[Tensor]]]


def recur(
    step: Step,
    sequences: Tensor,
    states: list[Tensor],
    mask: Tensor | None = None,
    channels: Sequence[Tensor] = (),
    dtype: Any = None,
) -> tuple[Tensor, list[Tensor]]:
    """Runs `step` over axis 1 of `sequences` with `keras.layers.RNN`.

    That is the one loop of Keras that trains on every backend (`ops.scan` has no XLA gradient on
    TensorFlow, `ops.while_loop` none on JAX). The layer made here has no weights: they belong to
    whoever made `step`, and `step` may close over tensors, such as a memory. At masked steps the
    output is zero and the states stay as they were. `RNN` hands a step one tensor, so whatever else
    belongs to a step rides along as more input channels: the mask too, because what `RNN` itself
    does at masked steps differs from backend to backend.

    Args:
        step: `(inputs (b, d), states, *channels) -> (output, states)`.
        sequences: `(b, t, d)`.
        states: Tensors that lead with b.
        mask: Boolean `(b, t)`, or `None`.
        channels: More tensors `(b, t, ...)` of rank 3; `step` gets their part of the step. Sizes
            unknown while tracing come last.
        dtype: dtype of inputs and states inside the loop.

    Returns:
        `(outputs (b, t, ...), last states)`.
    """
    dtype = keras.backend.standardize_dtype(dtype)
    if mask is not None:
        channels = [ops.expand_dims(mask, -1), *channels]
    parts = [sequences, *channels]
    sizes = [ops.shape(part)[-1] for part in parts]
    joined = [ops.cast(part, dtype) for part in parts]
    sequences = joined[0] if len(joined) == 1 else ops.concatenate(joined, axis=-1)

    def split_step(inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        inputs, *own = _split(inputs, sizes)
        output, new_states = (
            step(inputs, states, *own) if mask is None else _masked(step, inputs, states, *own)
        )
        return ops.cast(output, dtype), [ops.cast(state, dtype) for state in new_states]

    cell = _StepCell(split_step, [state.shape[-1] for state in states], dtype)
    loop = keras.layers.RNN(cell, return_sequences=True, return_state=True, dtype=dtype)
    outputs, *states = loop(sequences, initial_state=states)
    return outputs, states


def _split(inputs: Tensor, sizes: list[Any]) -> list[Tensor]:
    parts, start = [], 0
    for size in sizes:
        parts.append(inputs[:, start : start + size])
        start = start + size
    return parts


def _masked(
    step: Step, inputs: Tensor, states: list[Tensor], mask: Tensor, *channels: Tensor
) -> tuple[Tensor, list[Tensor]]:
    kept = mask > 0.5
    output, new_states = step(inputs, states, *channels)
    new_states = [
        ops.where(kept, ops.cast(new, old.dtype), old)
        for new, old in zip(new_states, states, strict=True)
    ]
    return ops.where(kept, output, ops.zeros_like(output)), new_states


class _StepCell:
    """A step function in the form that `keras.layers.RNN` takes for a cell."""

    def __init__(self, step: Step, state_size: list[int], dtype: str) -> None:
        self.step = step
        self.state_size = state_size
        self.compute_dtype = dtype

    def call(self, inputs: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
        return self.step(inputs, list(states))

    __call__ = call
