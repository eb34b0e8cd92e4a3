"""Small tools on tensors that the maths of the other files stands on."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Tensor = Any


def zero_masked(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """Replaces what stands at masked positions with zeros, whatever it is.

    A weight of 0 does not silence a NaN (0 x NaN = NaN, in the gradient too), so padding is emptied
    before it meets a product.

    Args:
        tensor: `(..., d)`.
        mask: Boolean, `(...)`, or `None` to keep everything.
    """
    if mask is None:
        return tensor
    return ops.where(ops.expand_dims(mask, -1), tensor, ops.zeros((), tensor.dtype))


def float32_at_least(tensor: Tensor) -> Tensor:
    """The tensor in float32, where float64 stays float64: the precision of every softmax here."""
    is_double = keras.backend.standardize_dtype(tensor.dtype) == "float64"
    return ops.cast(tensor, "float64" if is_double else "float32")


def wider(one: str, other: str) -> str:
    """The dtype that has the digits of both: `"float32"` for the two of 16 bits."""
    # Not `result_type`, which on JAX makes float32 of float64.
    if one == other:
        return one
    return "float64" if "float64" in (one, other) else "float32"


def lowest(tensor: Tensor) -> float:
    """A finite number below every logit; minus infinity would make NaN of `inf - inf`."""
    is_double = keras.backend.standardize_dtype(tensor.dtype) == "float64"
    return -1.7e308 if is_double else -3.4e38


def tanh(tensor: Tensor) -> Tensor:
    """`ops.tanh`, which on JAX rounds float64 to float32, in the precision of its argument."""
    if keras.backend.standardize_dtype(tensor.dtype) != "float64":
        return ops.tanh(tensor)
    return 2.0 * ops.sigmoid(2.0 * tensor) - 1.0


def activate(activation: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """`activation(tensor)`, where tanh is the one above."""
    return tanh(tensor) if activation is keras.activations.tanh else activation(tensor)


def project(tensor: Tensor, kernel: Tensor) -> Tensor:
    """`tensor (..., d)` times `kernel (d, u)`, as one product of two matrices.

    `ops.matmul` of a tensor by a matrix becomes a `tensordot` on TensorFlow when sizes are unknown,
    and that has no XLA gradient inside a loop. The depth is the kernel's: what was cut from a
    tensor whose depth depends on a batch does not know its own.
    """
    rows = ops.matmul(ops.reshape(tensor, (-1, kernel.shape[0])), kernel)
    return ops.reshape(rows, (*ops.shape(tensor)[:-1], kernel.shape[-1]))


def weighted_sum(attention_scores: Tensor, value: Tensor) -> Tensor:
    """`c_t = sum_s a_t(s) h_s`: scores `(b, t, s)`, value `(b, s, d)`, returns `(b, t, d)`."""
    return ops.matmul(attention_scores, value)


def layer_norm(tensor: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    """`scale (z - mean(z)) / sqrt(variance(z) + epsilon)` over the last axis, in float32 at least.

    `ops.layer_normalization` rounds float64 to float32 on JAX.

    Reference:
        [Ba, Kiros, Hinton 2016](https://arxiv.org/abs/1607.06450).
    """
    tensor = float32_at_least(tensor)
    depth = tensor.shape[-1]
    centred = tensor - ops.sum(tensor, axis=-1, keepdims=True) / depth
    variance = ops.sum(ops.square(centred), axis=-1, keepdims=True) / depth
    return ops.cast(scale, tensor.dtype) * centred * ops.rsqrt(variance + epsilon)
