"""How many ids a model reads on either side."""

from typing import Any

import keras

from keras_luong.functional import IdRange
from keras_luong.layers import WordDropout


def embedded_ids(encoder: Any) -> int | None:
    """How many source ids an encoder can embed, if that can be seen.

    It is seen of a functional or sequential model whose input goes to an `Embedding`, as it is or
    through `WordDropout`. Other embeddings, such as those of positions, say nothing of the words.
    """
    layers = getattr(encoder, "layers", ())
    words = [one for one in getattr(encoder, "inputs", None) or ()][:1]
    sizes = []
    for layer in layers:
        if not _reads(layer, words):
            continue
        if isinstance(layer, WordDropout):
            words.append(layer.output)
        elif isinstance(layer, keras.layers.Embedding):
            sizes.append(layer.input_dim)
    return min(sizes, default=None)


def source_ids(encoder: Any, copying: Any) -> IdRange:
    """Of a model with this encoder, and with this copy mechanism or none."""
    if copying is None or not copying.max_unknown_words:
        return IdRange("source", embedded_ids(encoder))
    return IdRange("source", copying.source_vocabulary_size + copying.max_unknown_words)


def target_ids(embedding: Any, copying: Any) -> IdRange:
    """Of a model that embeds target ids so, and with this copy mechanism or none."""
    if copying is None or not copying.max_unknown_words:
        return IdRange("target", _rows(embedding))
    return IdRange("target", copying.vocabulary_size + copying.max_unknown_words)


def check_embedded(embedding: Any, copying: Any, vocabulary_size: int | None) -> None:
    """Raises for an embedding of fewer ids than can be generated: each is read at the next step."""
    rows = _rows(embedding)
    unknown_words = 0 if copying is None else copying.max_unknown_words
    if rows is not None and vocabulary_size is not None and rows < vocabulary_size - unknown_words:
        raise ValueError(
            "`target_embedding` must have a row for every id that there are logits for, "
            f"{vocabulary_size - unknown_words}. Received: {embedding!r} with input_dim={rows}"
        )


def _rows(embedding: Any) -> int | None:
    return embedding.input_dim if isinstance(embedding, keras.layers.Embedding) else None


def _reads(layer: Any, tensors: list[Any]) -> bool:
    try:
        read = layer.input
    except (AttributeError, ValueError):  # of a layer that was not called on symbolic tensors
        return False
    return any(read is one for one in tensors)
