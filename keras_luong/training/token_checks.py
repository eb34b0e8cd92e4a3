"""What losses and metrics over tokens ask of their arguments."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_luong.functional import IdRange, known_values

Tensor = Any


def checked_labels(y_true: Any, y_pred: Tensor, padding_id: int) -> Tensor:
    """Token ids `(batch, steps)` as a tensor, once they are found to be those of the logits.

    Values are looked at where they are known. In a graph of TensorFlow an assertion looks at them,
    unless XLA compiles it, which leaves assertions out.

    Args:
        y_true: Token ids.
        y_pred: Logits `(batch, steps, vocabulary)`.
        padding_id: An id that may stand there besides those of the vocabulary.

    Raises:
        ValueError: For other ranks, other lengths than those of the logits, and ids outside.
    """
    y_true = y_true if hasattr(y_true, "shape") else np.asarray(y_true)
    check_shapes(y_true, y_pred)
    ids = IdRange("y_true", y_pred.shape[-1], padding_id)
    ids.check(y_true)
    tensor = ops.convert_to_tensor(y_true)
    is_in_graph = keras.backend.backend() == "tensorflow" and known_values(y_true) is None
    return _asserted(tensor, y_pred, ids) if is_in_graph else tensor


def check_shapes(y_true: Tensor, y_pred: Tensor) -> None:
    """Raises for other ranks and lengths, as far as they are known."""
    labels, logits = tuple(y_true.shape), tuple(y_pred.shape)
    if len(labels) != 2 or len(logits) != 3 or not fit_each_other(labels, logits[:2]):
        raise ValueError(
            "`y_true` must be token ids of shape (batch, steps) and `y_pred` logits of shape "
            f"(batch, steps, vocabulary), of the same batch and steps. Received: "
            f"y_true.shape={labels}, y_pred.shape={logits}"
        )


def weights_of_tokens(sample_weight: Any, y_true: Tensor) -> Tensor:
    """Weights `(batch,)` or `(batch, steps)` in a shape that multiplies `(batch, steps)`.

    Raises:
        ValueError: For another shape. `(batch, 1)` is as good as `(batch,)`.
    """
    weights = ops.convert_to_tensor(sample_weight)
    shape, labels = tuple(weights.shape), tuple(y_true.shape)
    if not any(fit_each_other(shape, one) for one in (labels[:1], labels, (labels[0], 1))):
        raise ValueError(
            "`sample_weight` must have the shape (batch,) or (batch, steps) of `y_true`. Received: "
            f"sample_weight.shape={shape}, y_true.shape={labels}"
        )
    return ops.expand_dims(weights, -1) if len(shape) == 1 else weights


def fit_each_other(shape: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    """Whether two shapes may be one: a size that is not known yet, `None`, fits all."""
    pairs = zip(shape, other, strict=False)
    return len(shape) == len(other) and all(None in pair or len(set(pair)) == 1 for pair in pairs)


def _asserted(y_true: Tensor, y_pred: Tensor, ids: IdRange) -> Tensor:
    import tensorflow as tf

    labels, logits = tf.shape(y_true), tf.shape(y_pred)[:2]
    same = tf.debugging.Assert(
        tf.reduce_all(labels == logits),
        ["`y_true` must have the batch and steps of `y_pred`. Received:", labels, logits],
    )
    known = tf.cast(y_true, tf.int64)
    known = tf.where(known == ids.besides, tf.zeros_like(known), known)
    # Of data in int32 TensorFlow makes a plain assertion, of other data a branch.
    lowest, highest = (tf.saturate_cast(f(known), tf.int32) for f in (tf.reduce_min, tf.reduce_max))
    inside = tf.debugging.Assert(
        (lowest >= 0) & (highest < (ids.size or tf.shape(y_pred)[-1])),
        [f"{ids}. Received, the lowest and the highest:", lowest, highest],
    )
    with tf.control_dependencies([one for one in (same, inside) if one is not None]):
        return tf.identity(y_true)
