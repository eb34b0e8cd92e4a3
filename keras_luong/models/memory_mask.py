"""Which positions of a memory are kept, and which encoders a decoder can read from."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_luong.ids import PADDING_ID
from keras_luong.models.inner_layers import inner_layers

Tensor = Any
# A multiple of what encoders divide a length by.
_LENGTH = 64


@keras.saving.register_keras_serializable(package="keras_luong")
class MemoryMask(keras.layers.Layer):
    """The mask that a memory carries; without one, that of the source ids: 0 is padding.

    Call arguments:
        memory: `(batch, memory length, depth)`.
        source: Ids `(batch, source length)`, of the memory's length where it carries no mask.

    Output shape:
        Boolean `(batch, memory length)`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True
        self.built = True

    def call(self, memory: Tensor, source: Tensor, memory_mask: Tensor | None = None) -> Tensor:
        return ops.not_equal(source, PADDING_ID) if memory_mask is None else memory_mask

    def compute_mask(self, *args: Any, **kwargs: Any) -> None:
        """A mask has none."""

    def compute_output_spec(self, memory: Any, source: Any, memory_mask: Any = None) -> Any:
        return keras.KerasTensor(memory.shape[:2], dtype="bool")


def check_encoder(encoder: Any, needs_every_id: bool) -> None:
    """Raises for an encoder whose memory a decoder cannot read, or would read wrongly.

    Args:
        encoder: A built model or layer from ids `(b, s)` to a memory, or to it and states.
        needs_every_id: Whether the memory must have a position for every id.
    """
    recurrent = _recurrent_layers(encoder)
    for layer in recurrent:
        if layer.stateful:
            raise ValueError(
                "An encoder must not be stateful: what it makes of a sentence would depend on the "
                f"batch before. Received: {layer!r} with stateful=True"
            )
    if any(isinstance(one, keras.layers.RNN) and one.go_backwards for one in recurrent):
        _check_order(encoder)
    length = memory_length(encoder)
    if length not in (None, _LENGTH):
        _check_shorter(encoder, length, needs_every_id)


def memory_length(encoder: Any) -> int | None:
    """How many positions an encoder makes of `_LENGTH` ids, if that can be told."""
    try:
        length = _symbolic_length(encoder)
        return _try_out(encoder).shape[1] if length is None else length
    except Exception:  # an encoder of one's own need not take that length
        return None


def check_memory(encoder: Any, memory: Any) -> None:
    """Raises for a memory that is no sequence of vectors, `(b, s, d)`."""
    shape = tuple(getattr(memory, "shape", ()))
    if len(shape) != 3:
        raise ValueError(
            "The memory of an encoder must be of the shape (batch, memory length, depth): a "
            "recurrent layer returns it with `return_sequences=True`, and "
            "keras.layers.Reshape((-1, depth)) makes it of a picture. Received an encoder whose "
            f"memory has the shape {shape}: {encoder!r}"
        )


def _recurrent_layers(encoder: Any) -> list[Any]:
    """The recurrent layers inside; one that reads both ways stands for its two."""
    recurrent = keras.layers.RNN, keras.layers.Bidirectional
    return [one for _, one in inner_layers(encoder, recurrent) if isinstance(one, recurrent)]


def _symbolic_length(encoder: Any) -> int | None:
    if not isinstance(encoder, keras.Layer):
        return None
    source = keras.KerasTensor((None, _LENGTH), dtype="int32")
    return _memory_of(encoder.compute_output_spec(source)).shape[1]


def _try_out(encoder: Any) -> Tensor:
    return _memory_of(encoder(np.ones((1, _LENGTH), "int32"), training=False))


def _check_order(encoder: Any) -> None:
    """Raises where the memory's first position has not read the first id, and the last one has."""
    source = np.ones((3, _LENGTH), "int32")
    source[:, 0] = 1, 2, 3
    memory = ops.convert_to_numpy(ops.cast(_memory_of(encoder(source, training=False)), "float32"))
    changes = np.abs(memory - memory[:1]).max(axis=(0, 2))
    # Not 0: rows of a product may be rounded differently.
    if changes[0] < 0.01 * changes[-1]:
        raise ValueError(
            "The memory of an encoder must stand in the order of the source. A layer with "
            "go_backwards=True puts out its steps in reverse: turn them with keras.ops.flip(..., "
            f"axis=1), or put the layer into keras.layers.Bidirectional. Received: {encoder!r}"
        )


def _check_shorter(encoder: Any, length: int, needs_every_id: bool) -> None:
    if needs_every_id:
        raise ValueError(
            "A copy mechanism needs a memory with a position for each source id. Received an "
            f"encoder that makes {length} positions of {_LENGTH} ids: {encoder!r}"
        )
    shape = _carried_mask_shape(_try_out(encoder))
    if shape != (1, length):
        raise ValueError(
            "An encoder whose memory has another length than its source must say which positions "
            "are kept: the memory must carry a Keras mask, as compute_mask of its last layer makes "
            f"it. Received an encoder that makes {length} positions of {_LENGTH} ids, with a mask "
            f"of shape {shape}: {encoder!r}"
        )


def _carried_mask_shape(memory: Tensor) -> tuple[int, ...] | None:
    # Keras shows masks to layers only.
    mask = MemoryMask()(memory, source=np.zeros((0, 0), "int32"))
    return tuple(mask.shape) if mask.shape[0] else None


def _memory_of(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, list | tuple) else outputs
