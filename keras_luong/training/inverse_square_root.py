"""A learning rate that warms up, and then falls as one over the square root of the step."""

from typing import Any

import keras
from keras import ops

from keras_luong.checked_numbers import at_least, count_of

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """`peak min((step + 1) / warmup, sqrt(warmup / (step + 1)))`: both are `peak` at `warmup`.

    It needs no length of the training, and falls slowly: to a half after four times the warm-up.

    Args:
        peak: The highest learning rate.
        warmup: Steps until it is reached, at least 1.

    Raises:
        ValueError: If `warmup` is no integer from 1 on, or the peak below 0.

    Example:

    >>> rate = InverseSquareRoot(1e-3, warmup=400)
    >>> print([f"{float(rate(step)):.6f}" for step in (0, 199, 399, 1599)])
    ['0.000003', '0.000500', '0.001000', '0.000500']

    Reference:
        [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), section 5.3, with the peak in the
        place of the depth's power.
    """

    def __init__(self, peak: float, warmup: int) -> None:
        self.peak = at_least("peak", peak, 0)
        self.warmup = count_of("warmup", warmup)

    def __call__(self, step: Tensor) -> Tensor:
        """The rate of a step, counted from 0."""
        share = (ops.cast(step, "float32") + 1.0) / self.warmup
        return self.peak * ops.minimum(share, ops.rsqrt(share))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"peak": self.peak, "warmup": self.warmup}
