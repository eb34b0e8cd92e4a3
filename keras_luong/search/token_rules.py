"""Which tokens may come next, and how repeated ones are weighed: pure functions on logits.

`(b, k, v)` are logits of k hypotheses a sentence; what may not come gets minus infinity.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

Tensor = Any
FORBIDDEN = -float("inf")


def without_ids(
    logits: Tensor, banned_ids: Sequence[int], word_ids: Tensor | None = None
) -> Tensor:
    """Rules out some ids everywhere; `word_ids (v,)` are those of the logits, if not all."""
    vocabulary = ops.arange(logits.shape[-1], dtype="int32") if word_ids is None else word_ids
    is_banned = ops.any(
        ops.equal(vocabulary[:, None], ops.convert_to_tensor(list(banned_ids), "int32")), axis=-1
    )
    return ops.where(is_banned, FORBIDDEN, logits)


def without_early_end(logits: Tensor, step: Any, end_id: int, min_length: int) -> Tensor:
    """Rules out the end while fewer than `min_length` tokens would be generated."""
    is_end = ops.equal(ops.arange(logits.shape[-1], dtype="int32"), end_id)
    return ops.where(ops.logical_and(is_end, step + 1 < min_length), FORBIDDEN, logits)


def with_forced(logits: Tensor, forced: Tensor) -> Tensor:
    """Rules out all but the forced id of each sentence, `(b,)`; below 0 nothing is forced."""
    vocabulary = ops.arange(logits.shape[-1], dtype="int32")
    forced = forced[:, None, None]
    return ops.where(ops.logical_or(forced < 0, ops.equal(vocabulary, forced)), logits, FORBIDDEN)


def without_repeated_ngrams(logits: Tensor, ids: Tensor, step: Any, size: int) -> Tensor:
    """Rules out the tokens that would make an n-gram stand twice in a hypothesis.

    Args:
        logits: `(b, k, v)`.
        ids: int32 `(b, k, t)`; the first `step` are generated.
        step: How many tokens are generated.
        size: n.
    """
    length = ids.shape[-1]
    if length < size:
        return logits
    starts = length - size + 1  # of every n-gram that there could be
    is_repeated = ops.broadcast_to(ops.arange(starts) + size <= step, ops.shape(ids[..., :starts]))
    for place in range(size - 1):
        at = ops.clip(step - (size - 1) + place, 0, length - 1)
        recent = ops.take(ids, at, axis=-1)[..., None]
        is_equal = ops.equal(ids[..., place : place + starts], recent)
        is_repeated = ops.logical_and(is_repeated, is_equal)
    is_banned = marked(ids[..., size - 1 :], is_repeated, logits.shape[-1])
    return ops.where(is_banned, FORBIDDEN, logits)


def with_repetition_penalty(logits: Tensor, ids: Tensor, step: Any, penalty: float) -> Tensor:
    """Divides positive logits of tokens that were generated, multiplies negative ones.

    Reference:
        [Keskar et al. 2019](https://arxiv.org/abs/1909.05858), section 4.1.
    """
    is_generated = ops.broadcast_to(ops.arange(ids.shape[-1]) < step, ops.shape(ids))
    penalized = ops.where(logits > 0, logits / penalty, logits * penalty)
    return ops.where(marked(ids, is_generated, logits.shape[-1]), penalized, logits)


def marked(ids: Tensor, kept: Tensor, size: int) -> Tensor:
    """Boolean `(b, k, size)`: the ids `(b, k, t)` that stand where `kept` says."""
    batch, beams, count = ops.shape(ids)
    rows = ops.repeat(ops.arange(batch * beams, dtype="int32"), count)
    places = ops.stack([rows, ops.reshape(ids, (-1,))], axis=-1)
    marks = ops.scatter_update(
        ops.zeros((batch * beams, size), "int32"),
        places,
        ops.cast(ops.reshape(kept, (-1,)), "int32"),
        reduction="max",
    )
    return ops.reshape(marks, (batch, beams, size)) > 0
