"""Greedy search: the most probable token at every step."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_luong.functional import float32_at_least
from keras_luong.search.result import SearchResult

Tensor = Any
Step = Callable[[Tensor, Any, Any], tuple]


def greedy(
    step: Step, state: Any, shared: Any, *, start_ids: Tensor, end_id: int, max_length: int
) -> SearchResult:
    """Takes the most probable token at every step, until the end token or `max_length`.

    Equally probable tokens: the lower id. The loop ends when every sentence has; what one sentence
    gets does not depend on the others. Nothing is banned: padding, start and unknown ids may come.

    Args:
        step: `(ids (b, 1), state, shared) -> (logits (b, 1, v), state)`, or with attention scores
            `(b, 1, s)` as a third. It knows no search, and search knows no model.
        state: Any structure of tensors that lead with `(b, 1)`, such as a decoder's states.
        shared: What `step` needs of the sentence and does not change, such as the memory.
        start_ids: int32 `(b, 1)`: what stands before the first generated token.
        end_id: The id that ends a hypothesis.
        max_length: The most tokens to generate, the end token included.

    Returns:
        A `SearchResult` with one hypothesis a sentence. `scores` are the `log_probs`.

    Raises:
        ValueError: If `max_length` is less than 1.

    Example:

    >>> import numpy as np
    >>> def step(ids, state, shared):  # always prefers the next higher id, up to 3
    ...     return ops.one_hot(ops.minimum(ids + 1, 3), 4) * 9.0, state
    >>> result = greedy(
    ...     step, (), None, start_ids=ops.zeros((1, 1), "int32"), end_id=3, max_length=5
    ... )
    >>> print(ops.convert_to_numpy(result.ids).tolist(), int(result.lengths[0, 0]))
    [[[1, 2, 3, 3, 3]]] 3
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1. Received: {max_length}")

    def advance(ids: Tensor, state: Any) -> tuple[Tensor, Tensor, Any, Tensor | None]:
        logits, state, *scores = step(ids, state, shared)
        log_probs = ops.log_softmax(float32_at_least(logits), axis=-1)
        best = ops.cast(ops.argmax(log_probs, axis=-1), "int32")
        return best, ops.max(log_probs, axis=-1), state, scores[0] if scores else None

    # The first step runs before the loop, so that the loop knows the shapes it carries.
    ids, log_probs, state, scores = advance(ops.cast(start_ids, "int32"), state)
    steps = ops.arange(max_length)
    first = ops.equal(steps, 0)
    all_ids = ops.where(first, ids[:, :, None], end_id)
    all_scores = None if scores is None else _write(first, scores, 0.0)
    lengths = ops.ones_like(ids)
    flat_state = keras.tree.flatten(state)

    def unfinished(t: Tensor, ids: Tensor, *_: Any) -> Tensor:
        return ops.logical_and(ops.any(ops.not_equal(ids, end_id)), t < max_length)

    def body(
        t: Tensor,
        ids: Tensor,
        lengths: Tensor,
        log_probs: Tensor,
        all_ids: Tensor,
        all_scores: Any,
        flat_state: Any,
    ) -> tuple:
        running = ops.not_equal(ids, end_id)
        packed = keras.tree.pack_sequence_as(state, list(flat_state))
        best, gained, new_state, scores = advance(ids, packed)
        ids = ops.where(running, best, end_id)
        at_t = ops.equal(steps, t)
        all_ids = ops.where(at_t, ids[:, :, None], all_ids)
        if scores is not None:
            scores = ops.where(running[..., None], scores, ops.zeros_like(scores))
            all_scores = _write(at_t, scores, all_scores)
        return (
            t + 1,
            ids,
            lengths + ops.cast(running, "int32"),
            log_probs + ops.where(running, gained, ops.zeros_like(gained)),
            all_ids,
            all_scores,
            tuple(keras.tree.flatten(new_state)),
        )

    carried = (1, ids, lengths, log_probs, all_ids, () if scores is None else all_scores)
    _, _, lengths, log_probs, all_ids, all_scores, _ = ops.while_loop(
        unfinished, body, (*carried, tuple(flat_state)), maximum_iterations=max_length - 1
    )
    scores = None if scores is None else all_scores
    return SearchResult(all_ids, lengths, log_probs, log_probs, scores)


def _write(at_t: Tensor, scores: Tensor, buffer: Any) -> Tensor:
    """Puts `(b, 1, s)` into step t of `(b, 1, t, s)`.

    With `where`, not `slice_update`: on TensorFlow that is an XLA op, which TF Serving refuses.
    """
    return ops.where(at_t[:, None], scores[:, :, None, :], buffer)
