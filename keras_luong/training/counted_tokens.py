"""Which tokens the metrics count."""

from typing import Any

from keras import ops

Tensor = Any


def counted_tokens(y_true: Tensor, padding_id: int, sample_weight: Tensor | None) -> Tensor:
    """Boolean, as `y_true` `(batch, steps)`: no padding, and no weight of 0.

    Args:
        y_true: Token ids.
        padding_id: Id of padding.
        sample_weight: `(batch,)`, `(batch, steps)` or `None`.
    """
    counted = ops.not_equal(y_true, padding_id)
    if sample_weight is None:
        return counted
    weighted = ops.not_equal(ops.convert_to_tensor(sample_weight), 0)
    weighted = ops.expand_dims(weighted, -1) if len(weighted.shape) == 1 else weighted
    return ops.logical_and(counted, weighted)
