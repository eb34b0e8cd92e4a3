"""The k largest of many, with ties that fall the same way on every backend."""

from typing import Any

from keras import ops

Tensor = Any


def largest(scores: Tensor, k: int) -> Tensor:
    """Indices `(b, k)` of the k largest of each row of `(b, n)`, best first, ties to the lower one.

    `ops.top_k` alone leaves ties to the backend, and torch takes any of them.
    """
    threshold = ops.top_k(scores, k)[0][:, -1:]
    above, level = scores > threshold, ops.equal(scores, threshold)
    free = k - ops.sum(ops.cast(above, "int32"), axis=-1, keepdims=True)
    is_early = ops.cumsum(ops.cast(level, "int32"), axis=-1) <= free
    chosen = ops.logical_or(above, ops.logical_and(level, is_early))
    # Exactly k are chosen: the k largest of these numbers, all different, are their places.
    size = ops.shape(scores)[-1]
    countdown = size - ops.arange(size, dtype="int32")
    places = size - ops.top_k(ops.where(chosen, countdown, 0), k)[0]
    best_first = ops.argsort(-ops.take_along_axis(scores, places, axis=-1), axis=-1)
    return ops.take_along_axis(places, best_first, axis=-1)
