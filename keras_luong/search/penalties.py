"""What ranks hypotheses besides the sum of their log-probabilities.

Reference:
    [Wu et al. 2016](https://arxiv.org/abs/1609.08144), section 7, equation 14.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_luong.functional import finite_log

Tensor = Any


def _none(lengths: Tensor, alpha: float) -> Tensor:
    return ops.ones_like(lengths)


def _average(lengths: Tensor, alpha: float) -> Tensor:
    return lengths


def _gnmt(lengths: Tensor, alpha: float) -> Tensor:
    return ((5.0 + lengths) / 6.0) ** alpha


LENGTH_PENALTIES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "none": _none,
    "average": _average,
    "gnmt": _gnmt,
}


def length_penalty(name: str, lengths: Tensor, alpha: float, dtype: Any) -> Tensor:
    """What log-probabilities are divided by: 1, `L`, or `((5 + L) / 6)^alpha`.

    Args:
        name: `"none"`, `"average"` or `"gnmt"`.
        lengths: Generated tokens, the end token included, `(...)`.
        alpha: Exponent of `"gnmt"`.
        dtype: dtype of the result.

    Returns:
        `(...)`.
    """
    return LENGTH_PENALTIES[name](ops.cast(lengths, dtype), alpha)


def coverage_penalty(coverage: Tensor, mask: Tensor | None) -> Tensor:
    """`sum_s log min(sum_t a_t(s), 1)` over kept source positions.

    A position that got nothing counts as the smallest normal number of the dtype, so that the
    logarithm is finite.

    Args:
        coverage: `sum_t a_t(s)`, `(b, k, s)`, float32 or float64.
        mask: Boolean `(b, s)`, or `None` to keep every position.

    Returns:
        `(b, k)`, at most 0.
    """
    logs = finite_log(coverage)
    logs = ops.where(logs > 0, 0.0, logs)
    if mask is not None:
        logs = ops.where(ops.expand_dims(mask, 1), logs, 0.0)
    return ops.sum(logs, axis=-1)
