"""What loops with a gradient of their own are made of."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_luong.functional.tensors import float32_at_least

Tensor = Any


def scan(body: Callable, start: Any, sequences: Any, reverse: bool = False) -> tuple:
    """`ops.scan` over the first axis of a tree of tensors `(t, b, ...)`.

    Over indices, since on TensorFlow `ops.scan` fails where it gets several sequences of a length
    that is unknown while tracing.
    """
    length = ops.shape(keras.tree.flatten(sequences)[0])[0]

    def at(carry: Any, index: Tensor) -> tuple:
        return body(carry, keras.tree.map_structure(lambda one: one[index], sequences))

    return ops.scan(at, start, ops.arange(length, dtype="int32"), reverse=reverse)


def is_there(tensor: Any) -> bool:
    """Whether it is no `()`, which stands for a tensor that a loop does not have."""
    return not isinstance(tensor, tuple)


def where_kept(kept: Tensor, new: Any, old: Any) -> Any:
    """Of two trees of `(b, ...)` the first where `kept (b, 1)` is above 0.5."""
    return keras.tree.map_structure(lambda a, b: ops.where(kept > 0.5, a, b), new, old)


def shifted(start: Tensor, after: Tensor) -> Tensor:
    """From what stands after every step, `(t, b, d)`, what stands before it."""
    return ops.concatenate([start[None], after[:-1]], axis=0)


def outer(left: Tensor, right: Tensor) -> Tensor:
    """`sum_tb left_tb right_tb^T` of `(t, b, i)` and `(t, b, j)`: `(i, j)`, in one product."""
    left, right = (ops.reshape(one, (-1, one.shape[-1])) for one in (left, right))
    return ops.matmul(ops.transpose(left), right)


def total(tensor: Tensor) -> Tensor:
    """`(t, b, d)` summed to `(d,)`: not in 16 bits, which count to 256."""
    return ops.cast(ops.sum(float32_at_least(tensor), axis=(0, 1)), tensor.dtype)
