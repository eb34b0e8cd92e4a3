"""How far two predictions are from each other.

Reference:
    Wu, Li, Wang and others 2021, "R-Drop: Regularized Dropout for Neural Networks",
    [arXiv:2106.14448](https://arxiv.org/abs/2106.14448), equation 2.
"""

from typing import Any

from keras import ops

from keras_luong.functional.tensors import float32_at_least, smallest_normal

Tensor = Any


def symmetric_divergence(logits: Tensor, other: Tensor) -> Tensor:
    """`(KL(p || q) + KL(q || p)) / 2` of two softmaxes: `sum_v (p - q) (log p - log q) / 2`.

    A probability below the smallest normal number of the dtype counts as that, and has no gradient:
    what minus infinity rules out in both counts for nothing.

    Args:
        logits: `(..., v)`, any floating dtype.
        other: `(..., v)`.

    Returns:
        `(...)`, in nats, at least 0; in float32 at least.

    Example:

    >>> import numpy as np
    >>> apart = symmetric_divergence(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]]))
    >>> print(f"{float(apart[0]):.4f}")  # 0.25 log(0.75 / 0.25) / 2
    0.1373
    """
    log_p, log_q = _log_softmax(logits), _log_softmax(other)
    return 0.5 * ops.sum((ops.exp(log_p) - ops.exp(log_q)) * (log_p - log_q), axis=-1)


def _log_softmax(logits: Tensor) -> Tensor:
    log_probs = ops.log_softmax(float32_at_least(logits), axis=-1)
    least = ops.log(smallest_normal(log_probs))
    return ops.where(log_probs < least, least, log_probs)
