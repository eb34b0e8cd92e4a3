"""The loop of a decoder with input feeding, with a gradient of its own.

What automatic differentiation makes of such a loop adds up the gradient of every weight step by
step. Here the backward loop holds only what must be sequential, and the gradients of the weights,
keys and values are one product each over all steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_luong.functional.loop_tools import (
    is_there,
    outer,
    scan,
    shifted,
    total,
    where_kept,
)
from keras_luong.functional.probabilities import masked_softmax
from keras_luong.functional.recurrent_cells import Kind, States, no_gates
from keras_luong.functional.tensors import activate, float32_at_least, zero_masked

Tensor = Any

# An activation's derivative as a function of its value.
DERIVATIVES: dict[Callable, Callable[[Tensor], Any]] = {
    keras.activations.tanh: lambda value: 1.0 - value * value,
    keras.activations.linear: ops.ones_like,
    keras.activations.sigmoid: lambda value: value * (1.0 - value),
}


class Trained(NamedTuple):
    """What the loop gives gradients for.

    Attributes:
        extra: For each cell what is added to its gates: `(t, b, ...)` for the lowest, whose inputs
            are projected before the loop, `(...,)` for the others.
        weights: For each cell, `LSTMWeights` or `GRUWeights`.
        keys: `(b, s, d)`, compared with the output of the highest cell, d deep.
        values: `(b, s, a)`, the memory times the context's rows of the attention vector's kernel.
        query_kernel: `(d, a)`, the query's rows of it.
        bias: `(a,)`, or `()`.
        vector: `(b, a)`, the attention vector before the first step.
        states: For each cell its states before the first step.
    """

    extra: tuple[Tensor, ...]
    weights: tuple[Any, ...]
    keys: Tensor
    values: Tensor
    query_kernel: Tensor
    bias: Any
    vector: Tensor
    states: tuple[States, ...]


class Given(NamedTuple):
    """What it gives none for; floats, and `()` for what is not there.

    Attributes:
        kept: `(t, b, 1)`, above 0.5 where a step is no padding.
        memory_kept: `(b, s)`, the same for source positions.
        below_factors: For each cell `(b, ...)`, its dropout of what comes from below.
        score_factors: `(b, s)`, dropout of the scores.
    """

    kept: Any
    memory_kept: Any
    below_factors: tuple[Any, ...]
    score_factors: Any


class _Kept(NamedTuple):
    """What the forward loop leaves to the backward one, of every step or of all."""

    vector: Tensor
    states: tuple[States, ...]
    gates: tuple[Tensor, ...]
    scores: Tensor


class _Gradients(NamedTuple):
    """What the backward loop carries, and of every step leaves."""

    vector: Tensor
    states: tuple[States, ...]
    gates: tuple[Tensor, ...]
    sums: Tensor
    logits: Tensor


def decoder_loop(
    trained: Trained, given: Given, kinds: tuple[Kind, ...], activation: Callable
) -> Tensor:
    """Attention vectors `(t, b, a)` of a decoder with input feeding and a global softmax.

    With `h_t` the output of the cells on top of each other, the lowest of which gets `extra_t` and
    the attention vector before: `h~_t = activation(softmax(h_t keys^T) values + h_t W + bias)`. At
    steps that are not kept the output is zero, and the states stay. It can be differentiated once.

    Args:
        trained: A `Trained`.
        given: A `Given`.
        kinds: `LSTM` or `GRU`, for each cell.
        activation: A key of `DERIVATIVES`.
    """
    structure = (trained, given)

    @ops.custom_gradient
    def run(*flat: Tensor) -> Any:
        trained, given = keras.tree.pack_sequence_as(structure, list(flat))
        loop = _Loop(trained, given, kinds, activation)
        kept = loop.forward()

        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> tuple:
            upstream = arguments[0] if upstream is None else upstream
            gradients = keras.tree.flatten(loop.backward(kept, upstream))
            nothing = [ops.zeros_like(one) for one in keras.tree.flatten(given)]
            return (*gradients, *nothing)

        return loop.masked(kept.vector), gradient

    return run(*keras.tree.flatten(structure))


class _Loop(NamedTuple):
    trained: Trained
    given: Given
    kinds: tuple[Kind, ...]
    activation: Callable

    # -- forward --------------------------------------------------------------------------------

    def forward(self) -> _Kept:
        """What every step leaves, each `(t, b, ...)`."""
        trained = self.trained
        start = _Kept(trained.vector, trained.states, self._no_gates(), self._no_scores())

        def body(before: _Kept, own: tuple) -> tuple:
            extra, kept = own
            after = self._advance(before, extra)
            if is_there(kept):
                vector, states = where_kept(
                    kept, (after.vector, after.states), (before.vector, before.states)
                )
                after = after._replace(vector=vector, states=states)
            return after, after

        _, kept = scan(body, start, (trained.extra[0], self.given.kept))
        return kept

    def _advance(self, before: _Kept, extra: Tensor) -> _Kept:
        trained, below = self.trained, before.vector
        states: list[States] = []
        gates: list[Tensor] = []
        for index, kind in enumerate(self.kinds):
            own_extra = trained.extra[index] if index else extra
            below = _times(below, self.given.below_factors[index])
            after, own_gates = kind.advance(
                trained.weights[index], own_extra, below, before.states[index]
            )
            below = after[0]
            states.append(after)
            gates.append(own_gates)
        mask = self.given.memory_kept
        mask = mask > 0.5 if is_there(mask) else None
        scores = masked_softmax(_compared(below, trained.keys), mask)
        weights = ops.cast(_times(scores, self.given.score_factors), below.dtype)
        context = _summed(weights, trained.values)
        sums = context + ops.matmul(below, trained.query_kernel)
        sums = sums + trained.bias if is_there(trained.bias) else sums
        vector = activate(self.activation, sums)
        return _Kept(vector, tuple(states), tuple(gates), scores)

    def masked(self, vectors: Tensor) -> Tensor:
        """Vectors `(t, b, a)`, zeros where a step is not kept."""
        kept = self.given.kept
        return zero_masked(vectors, kept[..., 0] > 0.5 if is_there(kept) else None)

    def _no_gates(self) -> tuple[Tensor, ...]:
        return tuple(map(no_gates, self.trained.states))

    def _no_scores(self) -> Tensor:
        return float32_at_least(ops.zeros_like(self.trained.keys[:, :, 0]))

    # -- backward -------------------------------------------------------------------------------

    def backward(self, kept: _Kept, upstream: Tensor) -> Trained:
        """Gradients in the form of what they are for."""
        trained = self.trained
        before = keras.tree.map_structure(shifted, trained.states, kept.states)
        vector, states = keras.tree.map_structure(ops.zeros_like, (trained.vector, trained.states))
        start = _Gradients(vector, states, self._no_gates(), vector, self._no_scores())
        xs = (upstream, kept, before, self.given.kept)
        pairs = zip(self.kinds, trained.weights, strict=True)
        turned = tuple(kind.turned(weights) for kind, weights in pairs)
        query_kernel = ops.transpose(trained.query_kernel)

        def body(after: _Gradients, own: tuple) -> tuple[_Gradients, _Gradients]:
            gradients = self._retreat(after, own, turned, query_kernel)
            return gradients, gradients

        last, steps = scan(body, start, xs, reverse=True)
        return self._gathered(kept, before, last, steps)

    def _retreat(
        self, after: _Gradients, own: tuple, turned: tuple, query_kernel: Tensor
    ) -> _Gradients:
        upstream, step, before, kept = own
        trained, factors = self.trained, self.given.below_factors
        of_step = (upstream + after.vector, after.states)
        if is_there(kept):
            # A step that is not kept hands on what reaches it.
            zeros = keras.tree.map_structure(ops.zeros_like, of_step)
            staying = where_kept(kept, zeros, (after.vector, after.states))
            of_step = where_kept(kept, of_step, zeros)
        d_vector, d_states = of_step
        sums = DERIVATIVES[self.activation](step.vector) * d_vector
        for_weights = _compared(sums, trained.values)
        for_scores = _times(ops.cast(for_weights, step.scores.dtype), self.given.score_factors)
        logits = step.scores * (
            for_scores - ops.sum(step.scores * for_scores, axis=-1, keepdims=True)
        )
        below = ops.matmul(sums, query_kernel)
        below = below + _summed(ops.cast(logits, below.dtype), trained.keys)
        states: list[States] = []
        gates: list[Tensor] = []
        for index in reversed(range(len(self.kinds))):
            h, *rest = d_states[index]
            own_gates, below, own_states = self.kinds[index].retreat(
                turned[index],
                step.gates[index],
                before[index],
                step.states[index],
                (h + below, *rest),
            )
            below = _times(below, factors[index])
            states.insert(0, own_states)
            gates.insert(0, own_gates)
        handed_on = (below, tuple(states))
        if is_there(kept):
            handed_on = keras.tree.map_structure(ops.add, staying, handed_on)
        return _Gradients(*handed_on, tuple(gates), sums, logits)

    def _gathered(
        self, kept: _Kept, before: tuple[States, ...], last: _Gradients, steps: _Gradients
    ) -> Trained:
        trained, given = self.trained, self.given
        below = shifted(trained.vector, kept.vector)
        extra, weights = [], []
        for index, kind in enumerate(self.kinds):
            own, own_extra = kind.weight_gradients(
                trained.weights[index],
                _times(below, given.below_factors[index]),
                before[index],
                steps.gates[index],
            )
            weights.append(own)
            extra.append(total(own_extra) if index else own_extra)
            below = kept.states[index][0]
        query, dtype = below, trained.vector.dtype
        logits = ops.cast(steps.logits, dtype)
        used = ops.cast(_times(kept.scores, given.score_factors), dtype)
        return Trained(
            tuple(extra),
            tuple(weights),
            _outer(logits, query),
            _outer(used, steps.sums),
            outer(query, steps.sums),
            total(steps.sums) if is_there(trained.bias) else (),
            last.vector,
            last.states,
        )


def _compared(vector: Tensor, source: Tensor) -> Tensor:
    """`(b, d)` with each of `(b, s, d)`: `(b, s)`."""
    return ops.squeeze(ops.matmul(source, vector[:, :, None]), -1)


def _summed(weights: Tensor, source: Tensor) -> Tensor:
    """`(b, s, d)` weighed by `(b, s)`: `(b, d)`."""
    return ops.squeeze(ops.matmul(weights[:, None], source), 1)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """`sum_t left_t right_t^T` of `(t, b, s)` and `(t, b, d)`: `(b, s, d)`."""
    return ops.matmul(ops.transpose(left, (1, 2, 0)), ops.transpose(right, (1, 0, 2)))


def _times(tensor: Tensor, factors: Any) -> Tensor:
    return tensor * ops.cast(factors, tensor.dtype) if is_there(factors) else tensor
