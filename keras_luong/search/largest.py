"""The k largest of many, with ties that fall the same way on every backend."""

import math
from typing import Any

import keras
from keras import ops

Tensor = Any

# From so many numbers on they are looked through in parts.
_MANY = 1024


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest along the last axis, best first, ties to the lower index.

    Args:
        values: `(..., n)`, n known and at least k.
        k: How many.

    Returns:
        `(values (..., k), indices (..., k))`, the indices int32.
    """
    size = values.shape[-1]
    # As many parts as each has numbers, so that neither of the two steps is long.
    width = _divisor_near(size, math.isqrt(size))
    if size < _MANY or k * width > size // 2 or k > size // width:
        return _sorted(values, k)
    return _in_parts(values, k, width)


def _in_parts(values: Tensor, k: int, width: int) -> tuple[Tensor, Tensor]:
    """Looks for the k largest where they must be: in the k parts with the largest maxima.

    Maxima are found many times faster than places. A number of another part cannot be among the k:
    each of the k parts has one that is larger, or as large and of a lower index.
    """
    *lead, size = ops.shape(values)
    count = size // width
    parts = ops.reshape(values, (-1, count, width))
    _, chosen = _sorted(ops.max(parts, axis=-1), k)
    # In their order, so that ties still go to the lower index.
    chosen = ops.sort(chosen, axis=-1)
    rows = ops.arange(ops.shape(parts)[0], dtype="int32")[:, None] * count + chosen
    taken = ops.take(ops.reshape(parts, (-1, width)), rows, axis=0)
    found, places = _sorted(ops.reshape(taken, (-1, k * width)), k)
    indices = ops.take_along_axis(chosen, places // width, axis=-1) * width + places % width
    return ops.reshape(found, (*lead, k)), ops.reshape(indices, (*lead, k))


def _sorted(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if keras.backend.backend() != "torch":
        found, indices = ops.top_k(values, k)
    else:
        # Torch takes any of those that tie. A stable sort costs more and does not.
        indices = ops.argsort(-values, axis=-1)[..., :k]
        found = ops.take_along_axis(values, indices, axis=-1)
    return found, ops.cast(indices, "int32")


def _divisor_near(size: int, wanted: int) -> int:
    """The largest divisor up to `wanted`; 1 always is one."""
    return next(one for one in range(max(wanted, 1), 0, -1) if size % one == 0)
