"""The loop of a recurrent layer, with a gradient of its own.

As in `decoder_loop`: the backward loop holds what must be sequential, and the gradient of the
weights is one product over all steps.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_luong.functional.loop_tools import is_there, scan, shifted, where_kept
from keras_luong.functional.recurrent_cells import Kind, States, no_gates

Tensor = Any


class _Step(NamedTuple):
    """What a step forward leaves, or, as gradients, one backward."""

    states: States
    gates: Tensor


def recurrent_loop(
    extra: Tensor, weights: Any, states: States, kept: Any, kind: Kind
) -> tuple[Tensor, ...]:
    """The states after every step, each `(t, b, u)`; the first is the output.

    At steps that are not kept the states stay as they are. It can be differentiated once.

    Args:
        extra: The inputs' projections, `(t, b, ...)`.
        weights: Those of `kind`, for no input from below.
        states: Before the first step, each `(b, u)`.
        kept: `(t, b, 1)`, above 0.5 where a step is no padding, or `()`.
        kind: `LSTM` or `GRU`.
    """
    structure = (extra, weights, states, kept)

    @ops.custom_gradient
    def run(*flat: Tensor) -> Any:
        extra, weights, states, kept = keras.tree.pack_sequence_as(structure, list(flat))
        steps = _forward(extra, weights, states, kept, kind)

        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> tuple:
            upstream = arguments[0] if upstream is None else upstream
            gradients = _backward(weights, states, kept, kind, steps, upstream)
            nothing = [ops.zeros_like(kept)] if is_there(kept) else []
            return (*keras.tree.flatten(gradients), *nothing)

        # One tensor, since on torch a gradient of one's own goes with one output.
        return ops.concatenate(steps.states, axis=-1), gradient

    return tuple(ops.split(run(*keras.tree.flatten(structure)), kind.count, axis=-1))


def _forward(extra: Tensor, weights: Any, states: States, kept: Any, kind: Kind) -> _Step:
    def body(before: _Step, own: tuple) -> tuple:
        extra, kept = own
        states, gates = kind.advance(weights, extra, None, before.states)
        states = where_kept(kept, states, before.states) if is_there(kept) else states
        return _Step(states, gates), _Step(states, gates)

    return scan(body, _Step(states, no_gates(states)), (extra, kept))[1]


def _backward(
    weights: Any, states: States, kept: Any, kind: Kind, steps: _Step, upstream: Tensor
) -> tuple:
    """Gradients for what is projected before the loop, the weights and the first states."""
    before = keras.tree.map_structure(shifted, states, steps.states)
    turned: Any = kind.turned(weights)
    zeros = keras.tree.map_structure(ops.zeros_like, states)
    upstream = tuple(ops.split(upstream, kind.count, axis=-1))

    def body(after: _Step, own: tuple) -> tuple:
        upstream, step, before, kept = own
        reaching = keras.tree.map_structure(ops.add, after.states, upstream)
        of_step = where_kept(kept, reaching, zeros) if is_there(kept) else reaching
        gates, _, handed_on = kind.retreat(turned, step.gates, before, step.states, of_step)
        if is_there(kept):
            # A step that is not kept hands on what reaches it.
            handed_on = keras.tree.map_structure(
                ops.add, handed_on, where_kept(kept, zeros, reaching)
            )
        return _Step(handed_on, gates), _Step(handed_on, gates)

    start = _Step(zeros, no_gates(states))
    last, gradients = scan(body, start, (upstream, steps, before, kept), reverse=True)
    d_weights, d_extra = kind.weight_gradients(weights, None, before, gradients.gates)
    return d_extra, d_weights, last.states
