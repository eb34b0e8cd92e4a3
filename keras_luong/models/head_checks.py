"""A head must give logits: whether it ends in an activation that makes probabilities of them."""

from typing import Any

import keras
import numpy as np
from keras import ops

# Not `log_softmax`: a softmax of log-probabilities gives the probabilities themselves.
_PROBABILITIES = ("softmax", "sparsemax", "sigmoid", "hardsigmoid", "sparsesigmoid")
# Of others `activation` may be what they compute with on the way.
_END_IN_ACTIVATION = (
    keras.layers.Activation,
    keras.layers.Conv1D,
    keras.layers.Dense,
    keras.layers.EinsumDense,
)
_PASSES_ON = (
    keras.layers.ActivityRegularization,
    keras.layers.Dropout,
    keras.layers.Identity,
    keras.layers.Reshape,
)


def check_head(head: keras.layers.Layer | None) -> None:
    """Raises for a head that ends in a softmax, a sparsemax or a sigmoid.

    They are found in Keras' layers, in layers that wrap another, and at the end of sequential and
    functional models. What a layer of one's own computes `check_gives_logits` sees.
    """
    activation = None if head is None else _last_activation(head)
    if activation in _PROBABILITIES:
        raise ValueError(
            f"`head` must return logits, which the loss and every search take the softmax of. "
            f"Leave the activation out. Received: a head that ends in {activation}, {head!r}"
        )


def check_gives_logits(head: keras.layers.Layer | None, depth: Any) -> None:
    """Raises for a head whose outputs are probabilities, whatever it makes them with.

    It is tried on random vectors. Logits of them are hardly all positive and sum to 1 at each step.

    Args:
        head: A built layer, or `None` for the tied embedding.
        depth: That of the vectors it takes.
    """
    if head is None or _is_plain(head):
        return
    vectors = np.random.default_rng(0).normal(size=(1, 3, depth)).astype("float32")
    outputs = ops.convert_to_numpy(head(vectors, training=False)).astype("float32")
    # In half precision the sum of many is off by some thousandths.
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1.0, atol=0.01):
        raise ValueError(
            "`head` must return logits, which the loss and every search take the softmax of. "
            "Received: a head whose outputs are probabilities, positive and of the sum 1 at every "
            f"step, {head!r}"
        )


def _is_plain(head: keras.layers.Layer) -> bool:
    """Whether nothing needs to be computed: the weights may be large."""
    return type(head) is keras.layers.Dense and head.activation is keras.activations.linear


def _last_activation(layer: Any) -> str | None:
    if isinstance(layer, keras.layers.Wrapper):
        return _last_activation(layer.layer)
    if isinstance(layer, keras.Model):
        last = _last_operation(layer)
        return None if last is None else _last_activation(last)
    if isinstance(layer, _END_IN_ACTIVATION):
        activation = layer.activation
        is_layer = isinstance(activation, keras.layers.Layer)
        return _last_activation(activation) if is_layer else _name(activation)
    # An operation of `keras.ops` is an object of a class with its name.
    is_named = isinstance(layer, keras.layers.Softmax) or not isinstance(layer, keras.layers.Layer)
    return _name(type(layer)) if is_named else None


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__).lower().replace("_", "")


def _last_operation(model: keras.Model) -> Any:
    """What a model's output was made by, but for dropout and the like; `None` if that is hidden."""
    if isinstance(model, keras.Sequential):
        kept = [one for one in model.layers if not isinstance(one, _PASSES_ON)]
        return kept[-1] if kept else None
    operations, tensor = getattr(model, "operations", ()), _single(getattr(model, "outputs", None))
    while tensor is not None:
        maker = next((one for one in operations if _single(one.output) is tensor), None)
        if not isinstance(maker, _PASSES_ON):
            return maker
        tensor = _single(maker.input)
    return None


def _single(tensors: Any) -> Any:
    flat = keras.tree.flatten(tensors)
    return flat[0] if len(flat) == 1 else None
