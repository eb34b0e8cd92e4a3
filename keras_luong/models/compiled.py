"""The one file that knows how a backend compiles a function of a model."""

from collections.abc import Callable
from typing import Any

import keras

Tensor = Any


def compiled(model: keras.Model, function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Compiles `function(ids)` of a model for inference: `tf.function`, `jax.jit`, or torch eager.

    The model's weights stay live: training goes on, and the compiled function sees it.

    Args:
        model: Whose variables `function` reads.
        function: Takes int32 ids `(b, s)` and returns a structure of tensors.

    Returns:
        A function with the same argument and result.
    """
    return _COMPILERS[keras.backend.backend()](model, function)


def _tensorflow(model: keras.Model, function: Callable) -> Callable:
    import tensorflow as tf

    # One trace for every shape, and no XLA: it would compile anew for each.
    return tf.function(function, input_signature=[tf.TensorSpec((None, None), tf.int32)])


def _jax(model: keras.Model, function: Callable) -> Callable:
    import jax

    @jax.jit
    def pure(values: list[Tensor], ids: Tensor) -> Any:
        with keras.StatelessScope(state_mapping=zip(model.variables, values, strict=True)):
            return function(ids)

    return lambda ids: pure([variable.value for variable in model.variables], ids)


def _torch(model: keras.Model, function: Callable) -> Callable:
    import torch

    return torch.no_grad()(function)


_COMPILERS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
