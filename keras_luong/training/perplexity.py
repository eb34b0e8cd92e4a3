"""How many tokens a model wavers between."""

from typing import Any

import keras
from keras import ops

from keras_luong.ids import PADDING_ID
from keras_luong.training.masked_crossentropy import MaskedCrossentropy
from keras_luong.training.token_metric import TokenMetric

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class Perplexity(TokenMetric):
    """`exp` of the mean cost of a token: `exp(-1/N sum log p(y))` over all tokens but padding.

    The mean is that of all tokens since the last reset, not of batches, and the cost is the plain
    one whatever the loss adds to it: with label smoothing the loss says less. A model that guesses
    evenly has the size of the vocabulary, one that knows has 1.

    Args:
        padding_id: Id in `y_true` that marks padding.
        name: Name of the metric.
        dtype: Dtype of the result.

    Example:

    >>> import numpy as np
    >>> perplexity = Perplexity()
    >>> perplexity.update_state(np.array([[1, 2, 0]]), np.zeros((1, 3, 8)))
    >>> print(round(float(perplexity.result()), 4))
    8.0

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025), section 4.
    """

    def __init__(
        self, padding_id: int = PADDING_ID, name: str = "perplexity", dtype: Any = None
    ) -> None:
        super().__init__(padding_id, name, dtype)
        self._costs = MaskedCrossentropy(padding_id=self.padding_id)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Adds the costs of a batch.

        Args:
            y_true: Token ids, `(batch, steps)`.
            y_pred: Logits, `(batch, steps, vocabulary)`.
            sample_weight: `(batch,)` or `(batch, steps)`. Tokens of weight 0 are left out; all
                others count as one.
        """
        costs = self._costs.call(y_true, y_pred)
        y_true = ops.convert_to_tensor(y_true)
        costs = ops.where(self._counted(y_true, sample_weight), costs, ops.zeros((), costs.dtype))
        self.total.assign_add(ops.cast(ops.sum(costs), self.total.dtype))

    def result(self) -> Tensor:
        """The perplexity since the last reset; 1 where no token was seen."""
        return ops.exp(self._mean(self.total.dtype))
