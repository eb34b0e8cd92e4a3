"""The k largest of many, with ties that fall the same way on every backend."""

from typing import Any

import keras
from keras import ops

Tensor = Any


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest along the last axis, best first, ties to the lower index.

    Args:
        values: `(..., n)`, n at least k.
        k: How many.

    Returns:
        `(values (..., k), indices (..., k))`, the indices int32.
    """
    if keras.backend.backend() != "torch":
        found, indices = ops.top_k(values, k)
    else:
        # Torch takes any of those that tie. A stable sort costs more and does not.
        indices = ops.argsort(-values, axis=-1)[..., :k]
        found = ops.take_along_axis(values, indices, axis=-1)
    return found, ops.cast(indices, "int32")
