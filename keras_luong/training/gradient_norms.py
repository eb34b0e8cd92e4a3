"""How large the gradients of a training are."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any


class GradientNorms(keras.callbacks.Callback):
    """Adds `gradient_norm` and `gradient_norm_max` to the logs of an epoch.

    The norm of a step is that of all its gradients together, `sqrt(sum g^2)`, before the optimizer
    clips them. The logs get its mean over the steps of the epoch and the largest. The callback goes
    before `keras.callbacks.TensorBoard`, whose graphs are then `epoch_gradient_norm` and
    `epoch_gradient_norm_max`.

    The gradients are those that train: for the length of `fit` the optimizer's `apply` also adds up
    their squares, inside the compiled step (under XLA too), which costs reading them once. A second
    backward pass would cost a step, a program of its own, and batches that are not trained on.
    Since the step is compiled with the sums in it, a second `fit` of the same model compiles anew.

    `global_clipnorm` compares with nearly the same number: Keras counts the gradients of an
    embedding's row that a batch reads twice as two, here they are added first.

    With `gradient_accumulation_steps` the norms are those of the single batches. With mixed_float16
    they are those of the gradients after the loss scale is taken out, of the steps that are not
    skipped. In an epoch that a resumed training ends, the steps before the interruption do not
    count.

    Raises:
        RuntimeError: At the start of `fit`, on another backend than TensorFlow, or with a
            distribution strategy over several replicas: there no replica sees the gradient that
            trains.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.zeros((2, 1))])
    >>> model.compile("sgd", "mse")  # (y - w x)^2 has the gradient -2 y x at w = 0
    >>> data = np.array([[3.0, 4.0]]), np.array([[1.0]])
    >>> history = model.fit(*data, callbacks=[GradientNorms()], verbose=0)
    >>> history.history["gradient_norm"]
    [10.0]
    """

    def __init__(self) -> None:
        super().__init__()
        self._optimizer: Any = None
        self._total: Any = None
        self._largest: Any = None
        self._steps: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts itself between the model and its optimizer."""
        self._check()
        self._total, self._largest = (
            keras.Variable(0.0, dtype="float32", trainable=False) for _ in range(2)
        )
        self._steps = keras.Variable(0, dtype="int32", trainable=False)
        # That of a loss-scaling optimizer gets gradients which are still scaled.
        optimizer = self.model.optimizer
        self._optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        self._optimizer.apply = _Measured(self._optimizer.apply, self._add)
        self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts anew."""
        for variable in (self._total, self._largest, self._steps):
            variable.assign(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds mean and maximum to the logs."""
        steps = int(self._steps)
        if logs is not None and steps:
            logs["gradient_norm"] = float(self._total) / steps
            logs["gradient_norm_max"] = float(self._largest)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the optimizer as it was."""
        if self._optimizer is not None:
            del self._optimizer.apply
            self._optimizer = None
            self.model.make_train_function(force=True)

    def _check(self) -> None:
        if obstacle := _obstacle(self.model):
            raise RuntimeError(obstacle)

    def _add(self, grads: Sequence[Tensor]) -> None:
        norm = _global_norm(grads)
        self._total.assign_add(norm)
        # NaN is what one looks for, so it must not lose the comparison, nor be lost to a later one.
        is_larger = ops.logical_or(ops.isnan(norm), norm > self._largest)
        self._largest.assign(ops.where(is_larger, norm, self._largest))
        self._steps.assign_add(1)


class _Measured:
    """The `apply` of an optimizer, which shows the gradients to a function first."""

    def __init__(self, apply: Callable[..., None], show: Callable[[Sequence[Tensor]], None]):
        # A `fit` that Ctrl-C has ended never came to `on_train_end`, and left its own.
        self.apply: Callable[..., None] = apply.apply if isinstance(apply, _Measured) else apply
        self.show = show

    def __call__(self, grads: Sequence[Tensor], trainable_variables: Any = None) -> None:
        self.show(grads)
        self.apply(grads, trainable_variables)


def can_measure_gradients(model: keras.Model) -> bool:
    """Whether a callback sees the gradients that train: on TensorFlow, of a single replica."""
    return _obstacle(model) is None


def _obstacle(model: keras.Model) -> str | None:
    """Why the gradients of a model cannot be measured, or `None`."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        return f"GradientNorms needs the TensorFlow backend. Received: {backend}"
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        return f"GradientNorms needs a single replica. Received: {replicas}"
    return None


def _global_norm(grads: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, in float32."""
    import tensorflow as tf

    # An embedding's gradient comes as slices, several of them for a word that is there twice, which
    # only together are its gradient.
    dense = (tf.convert_to_tensor(grad) for grad in grads if grad is not None)
    return tf.sqrt(sum(tf.reduce_sum(tf.square(tf.cast(grad, "float32"))) for grad in dense))
