"""Coverage: what has been attended to so far, and the loss for attending to it again.

Reference:
    See, Liu, Manning 2017, [arXiv:1704.04368](https://arxiv.org/abs/1704.04368), section 2.3.
"""

from typing import Any

from keras import ops

from keras_luong.functional.tensors import float32_at_least

Tensor = Any


def coverage_loss(attention_scores: Tensor) -> Tensor:
    """`covloss_t = sum_s min(a_t(s), c_t(s))` with `c_t = sum of a_t' over earlier steps t' < t`.

    Args:
        attention_scores: `(b, t, s)`; rows of masked steps are zeros, and so is their loss.

    Returns:
        `(b, t)`, in float32 at least.
    """
    scores = float32_at_least(attention_scores)
    coverage = ops.cumsum(scores, axis=1) - scores
    return ops.sum(ops.minimum(scores, coverage), axis=-1)
