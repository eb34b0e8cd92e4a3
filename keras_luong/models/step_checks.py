"""Whether a layer treats every step of a target by itself, as a search needs it."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_luong.layers.arguments import check_instance

# They do, and their weights are large: nothing is computed to see it.
_BY_STEP = (keras.layers.Dense, keras.layers.Embedding, keras.layers.ReversibleEmbedding)
_STEPS = 3


def check_steps_of_head(head: Any, depth: Any) -> None:
    """Raises if a head cannot decode: see `check_by_step`."""
    if head is not None:
        vectors = np.random.default_rng(0).normal(size=(1, _STEPS, depth))
        check_by_step("head", head, vectors.astype("float32"))


def check_steps_of_embedding(target_embedding: Any) -> None:
    """Raises if a target embedding cannot decode: see `check_by_step`."""
    check_by_step("target_embedding", target_embedding, np.ones((1, _STEPS), "int32"))


def check_by_step(name: str, layer: Any, inputs: np.ndarray) -> None:
    """Raises if what a layer returns for a step depends on other steps or on the position.

    A search asks for one step at a time. With such a layer it would decode something other than
    what was trained, without a word.

    Args:
        name: How the error names the layer.
        layer: Maps `(b, t, ...)` to `(b, t, d)`.
        inputs: `(1, t, ...)`, what to try it on.

    Raises:
        TypeError: For an object that is no layer.
        ValueError: For a layer that drops, adds or mixes steps.
    """
    check_instance(name, layer, keras.Layer)
    if type(layer) in _BY_STEP:
        return
    whole = ops.convert_to_numpy(layer(inputs, training=False))
    if whole.ndim != 3 or whole.shape[:2] != inputs.shape[:2]:
        raise ValueError(
            f"`{name}` must return one vector per step, `(batch, steps, depth)`. Received: "
            f"{layer!r}, which returns the shape {whole.shape} for the shape {inputs.shape}"
        )
    step = ops.convert_to_numpy(layer(inputs[:, 1:2], training=False)).astype("float32")
    if not np.allclose(step, whole[:, 1:2].astype("float32"), rtol=0.05, atol=0.05):
        raise ValueError(
            f"`{name}` must treat every step by itself, since a search decodes one step at a time. "
            f"Received: {layer!r}, whose output for a step depends on other steps or on the "
            "position; such a layer belongs into the decoder's cell"
        )
