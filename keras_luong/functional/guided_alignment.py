"""Guided alignment: how far attention is from alignments that are given.

Reference:
    Chen, Matusov, Khadivi, Peter 2016, [arXiv:1607.01628](https://arxiv.org/abs/1607.01628).
"""

from typing import Any

from keras import ops

from keras_luong.functional.tensors import finite_log, float32_at_least

Tensor = Any


def alignment_crossentropy(attention_scores: Tensor, alignments: Tensor) -> Tensor:
    """`- sum over t and s of A_ts log a_t(s)`, divided by the number of aligned target steps.

    A row of alignments is divided by its sum. Steps whose row is zeros are not aligned: they cost
    nothing and do not count. A score below the smallest normal number of its dtype counts as that,
    and has no gradient.

    Args:
        attention_scores: `(b, t, s)`.
        alignments: `(b, t, s)`, at least 0.

    Returns:
        A scalar, in float32 at least; 0 where nothing is aligned.
    """
    scores = float32_at_least(attention_scores)
    alignments = ops.cast(alignments, scores.dtype)
    totals = ops.sum(alignments, axis=-1, keepdims=True)
    is_aligned = totals > 0
    shares = alignments / ops.where(is_aligned, totals, ops.ones_like(totals))
    costs = -ops.sum(shares * finite_log(scores))
    return costs / ops.maximum(ops.sum(ops.cast(is_aligned, scores.dtype)), 1.0)
