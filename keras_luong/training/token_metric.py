"""What metrics over tokens have in common."""

from typing import Any

import keras
from keras import ops

from keras_luong.checked_numbers import integer_of
from keras_luong.training.token_checks import weights_of_tokens

Tensor = Any


class TokenMetric(keras.metrics.Metric):
    """A mean over all tokens since the last reset, without padding.

    Tokens are counted in integers: float counters would stop at 2^24 of them. A subclass adds up
    `total`.

    Args:
        padding_id: Id in `y_true` that marks padding.
        name: Name of the metric.
        dtype: Dtype of the result.
        total_dtype: Dtype of `total`.
    """

    def __init__(
        self, padding_id: int, name: str, dtype: Any = None, total_dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.padding_id = integer_of("padding_id", padding_id)
        self.total = self.add_variable((), "zeros", dtype=total_dtype, name="total")
        self.count = self.add_variable((), "zeros", dtype="int", name="count")

    def _counted(self, y_true: Tensor, sample_weight: Tensor | None) -> Tensor:
        """Counts tokens, and says which: boolean, as `y_true` `(batch, steps)`.

        Tokens of weight 0, `(batch,)` or `(batch, steps)`, are left out.
        """
        counted = ops.not_equal(y_true, self.padding_id)
        if sample_weight is not None:
            weighted = ops.not_equal(weights_of_tokens(sample_weight, y_true), 0)
            counted = ops.logical_and(counted, weighted)
        self.count.assign_add(ops.sum(ops.cast(counted, self.count.dtype)))
        return counted

    def _mean(self, dtype: Any) -> Tensor:
        """The mean; 0 where no token was seen."""
        return ops.divide_no_nan(ops.cast(self.total, dtype), ops.cast(self.count, dtype))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"padding_id": self.padding_id, **super().get_config()}
