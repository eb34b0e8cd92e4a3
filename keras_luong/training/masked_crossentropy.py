"""Crossentropy averaged over the tokens that are not padding."""

from typing import Any

import keras
from keras import ops

from keras_luong.checked_numbers import fraction_of, integer_of
from keras_luong.functional import float32_at_least, symmetric_divergence, zero_masked
from keras_luong.ids import PADDING_ID
from keras_luong.training.replicas import sum_over_replicas
from keras_luong.training.token_checks import check_shapes, checked_labels, weights_of_tokens

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class MaskedCrossentropy(keras.losses.Loss):
    """Crossentropy of token ids under logits, averaged over the tokens of a batch.

    With `nll = -log p(y_true)` and a smoothing `e`, one token costs

        (1 - e) * nll + e * mean_over_vocabulary(-log p)

    and a batch `sum(weight * cost) / sum(weight)`, where a weight is 0 at padding and 1 (or the
    sample weight) elsewhere. Every token counts the same, however long its sentence is. A batch
    without a token costs 0. Padding is read off `y_true` alone: a mask that Keras hangs on the
    logits changes nothing. What the logits hold at padding never matters, not even NaN.

    An id that the logits are not of raises: at once where `y_true` has values, by an assertion in a
    graph of TensorFlow. Under XLA, in a compiled step of JAX and on torch with a GPU nothing can be
    raised without waiting: there it makes the loss NaN, which `Seq2Seq.fit` raises on at the end of
    the epoch. Probabilities in the place of logits cannot be told from logits.

    Softmax and sums are computed in float32 at least; float64 logits stay float64. The loss can be
    differentiated once.

    Under a `tf.distribute` strategy `sum(weight)` is that of all replicas, so that the gradients,
    which Keras adds up, are those of the whole batch, however its tokens fall to the replicas.

    Args:
        label_smoothing: Share of the probability spread evenly over the vocabulary, in `[0, 1)`.
        padding_id: Id in `y_true` that marks padding. It need not be an id of the vocabulary.
        name: Name of the loss.

    Call arguments:
        y_true: Token ids, `(batch, steps)`.
        y_pred: Logits, `(batch, steps, vocabulary)`.
        sample_weight: Optional weights, `(batch,)` or `(batch, steps)`.

    Output shape:
        A scalar.

    Raises:
        ValueError: For tensors of other shapes, ids that are neither rows of the vocabulary nor
            padding, and options out of their range.

    Example:

    >>> import numpy as np
    >>> loss = MaskedCrossentropy()
    >>> y_true = np.array([[5, 7, 3], [4, 3, 0]])
    >>> y_pred = np.zeros((2, 3, 8), "float32")
    >>> print(f"{float(loss(y_true, y_pred)):.4f}")  # log(8), whatever stands at the padding
    2.0794
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        padding_id: int = PADDING_ID,
        name: str = "masked_crossentropy",
    ) -> None:
        super().__init__(name=name)
        self.label_smoothing = fraction_of("label_smoothing", label_smoothing)
        self.padding_id = integer_of("padding_id", padding_id)

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The token-averaged loss of a batch, a scalar."""
        # The base class would average over the positions of the mask on `y_pred` once more, and
        # would hand the ids over as floats.
        costs = self.call(y_true, y_pred)
        return self._average(costs, ops.convert_to_tensor(y_true), sample_weight)

    def divergence(
        self, y_true: Tensor, y_pred: Tensor, other: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """How far two predictions of a batch are apart, a scalar: averaged as the loss is.

        `(KL(p || q) + KL(q || p)) / 2` a token, in nats. `Seq2Seq(consistency=...)` adds it to what
        it trains on.

        Args:
            y_true: Token ids, `(batch, steps)`, for where there is padding.
            y_pred: Logits, `(batch, steps, vocabulary)`.
            other: Logits of that shape.
            sample_weight: As in a call.

        Raises:
            ValueError: For logits of two shapes.
        """
        y_true, y_pred, other = map(ops.convert_to_tensor, (y_true, y_pred, other))
        check_shapes(y_true, y_pred)
        _check_alike(y_pred, other)
        kept = ops.not_equal(y_true, self.padding_id)
        apart = symmetric_divergence(zero_masked(y_pred, kept), zero_masked(other, kept))
        return self._average(apart, y_true, sample_weight)

    def _average(self, costs: Tensor, y_true: Tensor, sample_weight: Tensor | None) -> Tensor:
        """Of costs `(batch, steps)`, over the tokens of all replicas."""
        weights = ops.cast(ops.not_equal(y_true, self.padding_id), costs.dtype)
        if sample_weight is not None:
            weights = weights * ops.cast(weights_of_tokens(sample_weight, y_true), costs.dtype)
        total = sum_over_replicas(ops.sum(weights))
        # Not `ops.divide_no_nan`, which makes float32 of float64 on torch. No weight, no cost.
        return ops.sum(weights * costs) / ops.where(total == 0, ops.ones_like(total), total)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The cost of every token, `(batch, steps)`; 0 at padding."""
        logits = ops.convert_to_tensor(y_pred)
        y_true = checked_labels(y_true, logits, self.padding_id)
        kept = ops.not_equal(y_true, self.padding_id)
        ids = ops.where(kept, y_true, ops.zeros((), y_true.dtype))
        return _losses(float32_at_least(logits), ids, kept, self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "label_smoothing": self.label_smoothing,
            "padding_id": self.padding_id,
            "name": self.name,
        }


def _check_alike(y_pred: Tensor, other: Tensor) -> None:
    """What is not known of a shape while a graph is traced, None, fits whatever it meets."""
    shape, other_shape = tuple(y_pred.shape), tuple(other.shape)
    sizes = [set(pair) - {None} for pair in zip(shape, other_shape, strict=False)]
    if len(shape) != len(other_shape) or any(len(known) > 1 for known in sizes):
        raise ValueError(
            "`y_pred` and `other` must be logits of one shape. Received: "
            f"y_pred.shape={shape}, other.shape={other_shape}"
        )


def _losses(logits: Tensor, ids: Tensor, kept: Tensor, smoothing: float) -> Tensor:
    """The cost of every token, `(b, t)`, with a gradient of its own.

    The gradient needs the logits and nothing else as large: `p - q`, with q what the smoothed
    labels say. Padding is left out of results, not of the logits, which would be a copy of them.
    """

    @ops.custom_gradient
    def losses_of(logits: Tensor) -> Any:
        vocabulary = ops.cast(ops.shape(logits)[-1], logits.dtype)
        log_normalizer = ops.logsumexp(logits, axis=-1)
        # In the labels' shape: what differed from it would be broadcast.
        log_normalizer = ops.reshape(log_normalizer, ops.shape(ids))
        losses = log_normalizer - _pick(logits, ids)
        if smoothing:
            # Not `ops.mean`, which JAX computes in float32 for float64 input.
            even = log_normalizer - ops.sum(logits, axis=-1) / vocabulary
            losses = (1.0 - smoothing) * losses + smoothing * even

        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> Tensor:
            upstream = arguments[0] if upstream is None else upstream
            is_label = ops.equal(ops.arange(ops.shape(logits)[-1], dtype=ids.dtype), ids[..., None])
            labels = ops.cast(is_label, logits.dtype) * (1.0 - smoothing) + smoothing / vocabulary
            differences = ops.exp(logits - log_normalizer[..., None]) - labels
            return zero_masked(differences * upstream[..., None], kept)

        return ops.where(kept, losses, ops.zeros((), losses.dtype)), gradient

    return losses_of(logits)


def _pick(logits: Tensor, ids: Tensor) -> Tensor:
    """`logits[b, t, ids[b, t]]`, NaN where there is no such logit.

    One gather from a flat view: no one-hot, no broadcast copy.
    """
    # A batch times a large vocabulary can pass 2^31; JAX has no 64-bit integers by default.
    index_dtype = "int32" if keras.backend.backend() == "jax" else "int64"
    flat_ids = ops.cast(ops.reshape(ids, (-1,)), index_dtype)
    rows = ops.arange(ops.shape(flat_ids)[0], dtype=index_dtype)
    vocabulary = ops.cast(ops.shape(logits)[-1], index_dtype)
    valid = ops.logical_and(flat_ids >= 0, flat_ids < vocabulary)
    places = rows * vocabulary + ops.where(valid, flat_ids, ops.zeros((), index_dtype))
    picked = ops.take(ops.reshape(logits, (-1,)), places)
    # Backends differ on a gather out of bounds, and the next row's logit would be a silent answer.
    picked = ops.where(valid, picked, ops.full((), float("nan"), picked.dtype))
    return ops.reshape(picked, ops.shape(ids))
