"""From attention logits to attention scores: softmax, hard maximum and sparsemax under a mask.

All three compute in float32 at least, give exactly 0 to masked positions, and zeros to a row
without a kept position, or of length 0.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_luong.functional.tensors import float32_at_least, lowest

Tensor = Any


def masked_softmax(attention_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the last axis, over kept positions only.

    A row with nothing to attend to is all zeros, and so is its gradient.

    Args:
        attention_logits: `(..., s)`, any floating dtype.
        mask: Boolean, broadcastable to the logits, or `None`.

    Returns:
        `(..., s)`, float64 for float64 logits, else float32.

    Example:

    >>> import numpy as np
    >>> print(masked_softmax(np.zeros((1, 2)), np.array([[True, False]])).shape)
    (1, 2)
    """
    logits, mask, peak = _kept(attention_logits, mask)
    # Both sides of the exponential are masked, so that no overflow reaches the gradient.
    weights = ops.where(mask, ops.exp(ops.where(mask, logits - peak, 0.0)), 0.0)
    total = ops.sum(weights, axis=-1, keepdims=True)
    return weights / ops.where(total > 0, total, ops.ones_like(total))


def masked_hardmax(attention_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """1 at the first of the highest kept logits, 0 elsewhere. Its gradient is zero.

    Args:
        attention_logits: `(..., s)`, any floating dtype.
        mask: Boolean, broadcastable to the logits, or `None`.

    Returns:
        `(..., s)`, float64 for float64 logits, else float32.
    """
    logits, mask, peak = _kept(attention_logits, mask)
    length = ops.shape(logits)[-1]
    positions = ops.arange(length, dtype="int32")
    is_highest = ops.logical_and(mask, logits >= peak)
    candidates = ops.where(is_highest, positions, length)
    first = ops.min(candidates, axis=-1, keepdims=True, initial=2**31 - 1)
    return ops.cast(ops.logical_and(is_highest, ops.equal(positions, first)), logits.dtype)


def masked_sparsemax(attention_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """The point of the probability simplex nearest to the kept logits: softmax with true zeros.

    `max(z - tau, 0)`, with `tau` such that the row sums to 1.

    Args:
        attention_logits: `(..., s)`, any floating dtype.
        mask: Boolean, broadcastable to the logits, or `None`.

    Returns:
        `(..., s)`, float64 for float64 logits, else float32.

    Reference:
        [Martins, Astudillo 2016](https://arxiv.org/abs/1602.02068), algorithm 1.
    """
    logits, mask, peak = _kept(attention_logits, mask)
    # tau is at least peak - 1: what lies below has weight 0, however far, and needs no digits.
    z = ops.where(mask, ops.maximum(logits - peak, -1.0), -1.0)
    support = ops.logical_and(mask, z > ops.stop_gradient(_threshold(z)))
    # With the support given, tau is a mean, and its gradient needs no sorting.
    count = ops.sum(ops.cast(support, z.dtype), axis=-1, keepdims=True)
    total = ops.sum(ops.where(support, z, 0.0), axis=-1, keepdims=True)
    tau = (total - 1.0) / ops.maximum(count, 1.0)
    return ops.where(support, z - tau, 0.0)


def _threshold(z: Tensor) -> Tensor:
    """`tau (..., 1)` of rows `z (..., s)` whose highest element is 0."""
    descending = -ops.sort(-z, axis=-1)
    ranks = ops.cast(ops.arange(1, ops.shape(z)[-1] + 1, dtype="int32"), z.dtype)
    sums = ops.cumsum(descending, axis=-1)
    in_support = 1.0 + ranks * descending > sums
    count = ops.sum(ops.cast(in_support, z.dtype), axis=-1, keepdims=True)
    total = ops.sum(ops.where(in_support, descending, 0.0), axis=-1, keepdims=True)
    return (total - 1.0) / ops.maximum(count, 1.0)


def _kept(attention_logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The logits in float32 at least, a mask, and the highest kept logit of each row."""
    logits = float32_at_least(attention_logits)
    if mask is None:
        mask = ops.ones((1,) * len(logits.shape), "bool")
    kept = ops.where(mask, logits, lowest(logits))
    peak = ops.max(kept, axis=-1, keepdims=True, initial=lowest(logits))
    return logits, mask, ops.stop_gradient(peak)


PROBABILITY_FNS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "softmax": masked_softmax,
    "hardmax": masked_hardmax,
    "sparsemax": masked_sparsemax,
}
