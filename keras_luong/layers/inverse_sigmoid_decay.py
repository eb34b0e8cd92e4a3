"""A rate that stays high for a while, falls, and ends at 0."""

from typing import Any

import keras
from keras import ops

from keras_luong.checked_numbers import at_least

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class InverseSigmoidDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`k / (k + exp(i / k))` at step i: how often `ScheduledSampling` shows the true word.

    It begins at `k / (k + 1)` and is a half after `k log k` steps. The other two schedules of the
    paper are Keras' own: the linear one is `PolynomialDecay(1.0, steps, lowest)`, the exponential
    one, `k^i`, is `ExponentialDecay(1.0, 1, k)`, both of `keras.optimizers.schedules`.

    Args:
        k: At least 1; the larger, the later it falls.

    Raises:
        ValueError: If `k` is below 1 or not finite.

    Example:

    >>> rate = InverseSigmoidDecay(100.0)
    >>> print([f"{float(rate(step)):.3f}" for step in (0, 460, 461, 1000, 100000)])
    ['0.990', '0.501', '0.499', '0.005', '0.000']

    Reference:
        [Bengio et al. 2015](https://arxiv.org/abs/1506.03099), section 2.4.
    """

    def __init__(self, k: float) -> None:
        self.k = at_least("k", k, 1)

    def __call__(self, step: Tensor) -> Tensor:
        """The rate of a step, counted from 0."""
        # The same number; its exponential cannot overflow.
        log_k = ops.log(ops.cast(self.k, "float32"))
        return ops.sigmoid(log_k - ops.cast(step, "float32") / self.k)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"k": self.k}
