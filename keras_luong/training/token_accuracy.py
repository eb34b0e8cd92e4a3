"""Share of tokens predicted right."""

from typing import Any

import keras
from keras import ops

from keras_luong.ids import PADDING_ID
from keras_luong.training.token_checks import checked_labels
from keras_luong.training.token_metric import TokenMetric

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class TokenAccuracy(TokenMetric):
    """Share of the tokens that are not padding whose id has the largest logit.

    Right tokens and all tokens are counted in integers over the whole epoch, so the result is the
    ratio over all tokens, not an average of batches; float counters would stop at 2^24 tokens.
    Where two logits are equal, the lower id counts as predicted.

    Args:
        padding_id: Id in `y_true` that marks padding.
        name: Name of the metric.
        dtype: Dtype of the result.

    Example:

    >>> import numpy as np
    >>> accuracy = TokenAccuracy()
    >>> y_pred = np.eye(4)[[[1, 2, 3], [1, 1, 1]]]
    >>> accuracy.update_state(np.array([[1, 2, 2], [1, 0, 0]]), y_pred)
    >>> float(accuracy.result())  # three of four; the padding does not count
    0.75
    """

    def __init__(
        self,
        padding_id: int = PADDING_ID,
        name: str = "token_accuracy",
        dtype: Any = None,
    ) -> None:
        super().__init__(padding_id, name, dtype, total_dtype="int")

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Counts the tokens of a batch.

        Args:
            y_true: Token ids, `(batch, steps)`.
            y_pred: Logits or probabilities, `(batch, steps, vocabulary)`.
            sample_weight: `(batch,)` or `(batch, steps)`. Tokens of weight 0 are left out; all
                others count as one.
        """
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = checked_labels(y_true, y_pred, self.padding_id)
        right = ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), y_true.dtype), y_true)
        right = ops.logical_and(self._counted(y_true, sample_weight), right)
        self.total.assign_add(ops.sum(ops.cast(right, self.total.dtype)))

    def result(self) -> Tensor:
        """The ratio since the last reset; 0 where no token was seen."""
        return self._mean(self.dtype)
