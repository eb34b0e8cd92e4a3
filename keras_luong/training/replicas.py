"""What a training under a `tf.distribute` strategy has to know of it."""

import contextlib
from typing import Any

import keras

Tensor = Any


def sum_over_replicas(value: Tensor) -> Tensor:
    """The sum of a tensor over the replicas of a step; outside of a strategy the tensor itself."""
    if keras.config.backend() != "tensorflow":
        return value  # Sharded arrays are summed whole.
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def strategy_scope(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """Where variables are made that belong to a model: the scope of the strategy it is of."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def is_first_process() -> bool:
    """Whether this process is the one of those that train together which writes."""
    if keras.config.backend() != "jax":
        return True  # Keras' `fit` runs in one process there.
    import jax

    return jax.process_index() == 0
