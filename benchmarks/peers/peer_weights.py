"""Our weights in a file that the peers read."""

import numpy as np

from keras_luong import Seq2Seq


def save_weights(model: Seq2Seq, path: str) -> None:
    """For the peers, which take them over: so one sees that all compute the same."""
    cell, embedding = model.decoder.cell, model.target_embedding
    layers = {
        "source_embedding": model.encoder.get_layer("source_embedding"),
        "encoder": model.encoder.get_layer("both_lstm_0"),
        "bridge_0": model.encoder.get_layer("bridge_0"),
        "bridge_1": model.encoder.get_layer("bridge_1"),
        "target_embedding": embedding,
        "cell": cell.cell,
        "attention": cell.attention,
        "attention_vector": cell.attention_vector,
    }
    head = model.head.get_weights() if model.head else _tied_head(*embedding.get_weights())
    arrays = {f"head.{index}": array for index, array in enumerate(head)}
    arrays |= {
        f"{name}.{index}": array
        for name, layer in layers.items()
        for index, array in enumerate(layer.get_weights())
    }
    np.savez(path, **arrays)


def _tied_head(embedding: np.ndarray) -> list[np.ndarray]:
    return [embedding.T, np.zeros(len(embedding), embedding.dtype)]
