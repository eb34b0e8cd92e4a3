"""Small tools on tensors that the maths of the other files stands on."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
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


def lowest(tensor: Tensor) -> Tensor:
    """A finite number below every logit; minus infinity would make NaN of `inf - inf`."""
    return _scalar(0.9999 * np.finfo(_dtype(tensor)).min, tensor)


def smallest_normal(tensor: Tensor) -> Tensor:
    """The smallest normal number of a dtype, float32 or float64, of which the logarithm is finite.

    Not a smaller one, nor a decimal that is a little below it (2.2e-308 is subnormal): backends
    flush subnormal numbers to 0.
    """
    return _scalar(np.finfo(_dtype(tensor)).tiny, tensor)


def finite_log(tensor: Tensor) -> Tensor:
    """The logarithm of numbers from 0 on; those below the smallest normal one count as that.

    They have no gradient.
    """
    # Not `ops.maximum`, which makes float32 of float64 on torch.
    smallest = smallest_normal(tensor)
    return ops.log(ops.where(tensor < smallest, smallest, tensor))


def _dtype(tensor: Tensor) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)


def _scalar(value: Any, tensor: Tensor) -> Tensor:
    # Torch makes a float of Python a tensor of float32.
    return ops.full((), float(value), _dtype(tensor))


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
