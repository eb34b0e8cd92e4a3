"""The vocabulary product: of all words, or of some alone."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_luong.functional import tanh

Tensor = Any


def whole_product(
    head: keras.layers.Layer | None,
    target_embedding: keras.layers.Layer,
    vectors: Tensor,
    **mode: bool,
) -> Tensor:
    """The logits `(b, t, v)` of all words, of attention vectors `(b, t, d)`.

    Args:
        head: Layer from vectors to logits, or `None` for the tied embedding.
        target_embedding: The tied one, if the head is `None`.
        vectors: `(b, t, d)`.
        **mode: `training`, for a head with dropout.
    """
    if head is None:
        # Keras' embedding multiplies by float32 weights whatever its policy says.
        return ops.cast(target_embedding(vectors, reverse=True), _tied_dtype(target_embedding))
    return head(vectors, **mode)


def check_gathered(head: keras.layers.Layer | None, target_embedding: keras.layers.Layer) -> None:
    """Raises a `ValueError` if the weights of some words cannot be gathered: see below."""
    if head is None:
        if not target_embedding.tie_weights:
            raise ValueError(
                "A shortlist needs an embedding with tie_weights=True where there is no head. "
                f"Received: {target_embedding!r}"
            )
    elif type(head) is not keras.layers.Dense or head.quantization_mode not in (None, "int8"):
        raise ValueError(
            "A shortlist needs a head that is a keras.layers.Dense of floats or int8, or tied to "
            f"the target embedding. Received: {head!r} with quantization_mode="
            f"{head.quantization_mode!r}"
        )


def vocabulary_product(
    head: keras.layers.Layer | None, target_embedding: keras.layers.Layer, word_ids: Tensor
) -> Callable[[Tensor], Tensor]:
    """The function from attention vectors `(..., d)` to the logits `(..., n)` of some ids.

    The weights are gathered when it is made, once for all that it is called with. Those that are
    quantized are floats from there on.

    Args:
        head: A `keras.layers.Dense`, or `None` for the tied embedding.
        target_embedding: The tied one, if the head is `None`.
        word_ids: int32 `(n,)`.

    Raises:
        ValueError: For another head, and for weights that cannot be gathered.
    """
    check_gathered(head, target_embedding)
    if head is None:
        return _tied(target_embedding, word_ids)
    kernel = ops.cast(ops.take(head.kernel, word_ids, axis=1), head.compute_dtype)
    if head.quantization_mode is not None:
        kernel = kernel / ops.cast(ops.take(head.kernel_scale, word_ids), head.compute_dtype)
    bias = None
    if head.bias is not None:
        bias = ops.cast(ops.take(head.bias, word_ids), head.compute_dtype)

    def logits(vectors: Tensor) -> Tensor:
        products = ops.matmul(ops.cast(vectors, head.compute_dtype), kernel)
        return head.activation(products if bias is None else products + bias)

    return logits


def _tied(embedding: Any, word_ids: Tensor) -> Callable[[Tensor], Tensor]:
    dtype = _tied_dtype(embedding)
    kernel = ops.transpose(ops.cast(embedding(word_ids), dtype))
    soft_cap = embedding.logit_soft_cap

    def logits(vectors: Tensor) -> Tensor:
        products = ops.matmul(ops.cast(vectors, dtype), kernel)
        return products if soft_cap is None else soft_cap * tanh(products / soft_cap)

    return logits


def _tied_dtype(embedding: Any) -> str:
    """The dtype of the logits that an embedding gives."""
    return embedding.reverse_dtype or embedding.compute_dtype
