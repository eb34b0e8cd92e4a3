"""The one file that knows how a backend compiles a function of a model."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

Tensor = Any


class Argument(NamedTuple):
    """What a compiled function takes in a place: sizes that are `None` may change between calls."""

    shape: tuple[int | None, ...]
    dtype: str


def compiled(
    model: Any, function: Callable[..., Any], arguments: Sequence[Argument]
) -> Callable[..., Any]:
    """Compiles a function of a model for inference: `tf.function`, `jax.jit`, or torch eager.

    The model's weights stay live: training goes on, and the compiled function sees it.

    Args:
        model: Whose `variables` the function reads.
        function: Takes tensors and returns a structure of tensors.
        arguments: What it takes.

    Returns:
        A function with the same arguments and result.
    """
    return _COMPILERS[keras.backend.backend()](model, function, arguments)


class CompiledFunctions:
    """What was compiled for a model, each under its key.

    All of it is forgotten once the model has other variables, as after `quantize`: it would go on
    with those that are gone.
    """

    def __init__(self) -> None:
        self._functions: dict[Any, Callable[..., Any]] = {}
        self._variables: list[Any] = []

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of a model compiles its own: what is here reads the variables of the first.
        return CompiledFunctions, ()

    def get(
        self, key: Any, model: Any, function: Callable[..., Any], arguments: Sequence[Argument]
    ) -> Callable[..., Any]:
        """The function under a key; compiled, as by `compiled`, if there is none yet."""
        variables = model.variables
        if list(map(id, variables)) != list(map(id, self._variables)):
            self._functions, self._variables = {}, list(variables)
        if key not in self._functions:
            self._functions[key] = compiled(model, function, arguments)
        return self._functions[key]


def has_dynamic_shapes() -> bool:
    """Whether in what is compiled here the size of a batch may change while it runs."""
    return keras.backend.backend() != "jax"


def _tensorflow(model: Any, function: Callable, arguments: Sequence[Argument]) -> Callable:
    import tensorflow as tf

    # One trace for every shape, without XLA, which would compile anew for each; and without
    # AutoGraph, which looks for Python's loops over tensors, in what has none.
    signature = [tf.TensorSpec(one.shape, one.dtype) for one in arguments]
    return tf.function(function, input_signature=signature, autograph=False)


def _jax(model: Any, function: Callable, arguments: Sequence[Argument]) -> Callable:
    import jax

    @jax.jit
    def pure(values: list[Tensor], *given: Tensor) -> Any:
        with keras.StatelessScope(state_mapping=zip(model.variables, values, strict=True)):
            return function(*given)

    return lambda *given: pure([variable.value for variable in model.variables], *given)


def _torch(model: Any, function: Callable, arguments: Sequence[Argument]) -> Callable:
    import torch

    return torch.no_grad()(function)


_COMPILERS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
