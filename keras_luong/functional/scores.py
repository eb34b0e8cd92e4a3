"""The maths of attention as pure functions on `keras.ops`.

Letters in shapes: b batch, t target step, s source position, d depth, u units.
Masks are boolean, `True` keeps. `attention_logits` stand before the softmax, `attention_scores`
after it.

Reference:
    Luong, Pham, Manning 2015, "Effective Approaches to Attention-based Neural Machine Translation",
    [arXiv:1508.04025](https://arxiv.org/abs/1508.04025), section 3.
"""

from typing import Any

import keras
from keras import ops

Tensor = Any


def zero_masked(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """Replaces what stands at masked positions with zeros, whatever it is.

    A weight of 0 does not silence a NaN (0 x NaN = NaN, in the gradient too), so padding is emptied
    before it meets a product.

    Args:
        tensor: `(..., d)`.
        mask: Boolean, `(...)`, or `None` to keep everything.
    """
    if mask is None:
        return tensor
    return ops.where(ops.expand_dims(mask, -1), tensor, ops.zeros((), tensor.dtype))


def tanh(tensor: Tensor) -> Tensor:
    """`ops.tanh`, which on JAX rounds float64 to float32, in the precision of its argument."""
    if keras.backend.standardize_dtype(tensor.dtype) != "float64":
        return ops.tanh(tensor)
    return 2.0 * ops.sigmoid(2.0 * tensor) - 1.0


def project(tensor: Tensor, kernel: Tensor) -> Tensor:
    """`tensor (..., d)` times `kernel (d, u)`, as one product of two matrices.

    `ops.matmul` of a tensor by a matrix becomes a `tensordot` on TensorFlow when sizes are unknown,
    and that has no XLA gradient inside a loop.
    """
    rows = ops.matmul(ops.reshape(tensor, (-1, tensor.shape[-1])), kernel)
    return ops.reshape(rows, (*ops.shape(tensor)[:-1], kernel.shape[-1]))


def dot_logits(query: Tensor, key: Tensor) -> Tensor:
    """`h_t . h_s`: query `(b, t, d)`, key `(b, s, d)`, returns `(b, t, s)`."""
    return ops.matmul(query, ops.swapaxes(key, -1, -2))


def concat_logits(
    projected_query: Tensor, projected_key: Tensor, v: Tensor, bias: Tensor | None = None
) -> Tensor:
    """`v . tanh(W [h_t; h_s] + b)`, the product taken as the sum of two projections.

    Args:
        projected_query: `h_t W_query`, `(b, t, u)`.
        projected_key: `h_s W_key`, `(b, s, u)`.
        v: `(u,)`.
        bias: `(u,)` or `None`.

    Returns:
        `(b, t, s)`.
    """
    if bias is not None:
        projected_query = projected_query + bias
    hidden = tanh(ops.expand_dims(projected_query, 2) + ops.expand_dims(projected_key, 1))
    return ops.squeeze(project(hidden, ops.expand_dims(v, -1)), -1)


def location_logits(
    query: Tensor, kernel: Tensor, source_length: Any, bias: Tensor | None = None
) -> Tensor:
    """`h_t W`, cut to the source at hand.

    Args:
        query: `(b, t, d)`.
        kernel: `(d, max_source_length)`.
        source_length: Length `s` of the source axis, at most `max_source_length`.
        bias: `(max_source_length,)` or `None`.

    Returns:
        `(b, t, s)`.
    """
    logits = project(query, kernel)
    logits = logits if bias is None else logits + bias
    return logits[..., :source_length]


def masked_softmax(attention_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the last axis, over kept positions only, in float32 at least.

    Masked positions get exactly 0. A row with nothing to attend to is all zeros, and so is its
    gradient; an axis of length 0 stays one.

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
    is_double = keras.backend.standardize_dtype(attention_logits.dtype) == "float64"
    logits = ops.cast(attention_logits, "float64" if is_double else "float32")
    if mask is None:
        mask = ops.ones((1,) * len(logits.shape), "bool")
    # A finite number, not -inf: inf - inf is NaN in a row without a kept position.
    lowest = -1.7e308 if is_double else -3.4e38
    kept = ops.where(mask, logits, lowest)
    peak = ops.stop_gradient(ops.max(kept, axis=-1, keepdims=True, initial=lowest))
    # Both sides of the exponential are masked, so that no overflow reaches the gradient.
    weights = ops.where(mask, ops.exp(ops.where(mask, logits - peak, 0.0)), 0.0)
    total = ops.sum(weights, axis=-1, keepdims=True)
    return weights / ops.where(total > 0, total, ops.ones_like(total))


def weighted_sum(attention_scores: Tensor, value: Tensor) -> Tensor:
    """`c_t = sum_s a_t(s) h_s`: scores `(b, t, s)`, value `(b, s, d)`, returns `(b, t, d)`."""
    return ops.matmul(attention_scores, value)
