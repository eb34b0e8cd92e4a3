"""`trainable` of layers that are made of layers: their constructors and configs."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras

_as_configured = contextvars.ContextVar("as_configured", default=False)


def freeze_parts(layer: keras.layers.Layer) -> None:
    """Freezes the parts of a new layer that was made with `trainable=False`.

    So does Keras where the attribute is set; its constructor freezes the weights of the layer
    itself only, and those of its parts would still be trained.
    """
    if not layer.trainable and not _as_configured.get():
        # On TensorFlow Keras does not see an attribute that is set to the value it has.
        layer.trainable = True
        layer.trainable = False


@contextlib.contextmanager
def parts_as_configured() -> Iterator[None]:
    """Layers that are made within leave their parts as each part's own config says.

    A part may be trained inside a frozen layer: the fine-tuning of some parts only.
    """
    token = _as_configured.set(True)
    try:
        yield
    finally:
        _as_configured.reset(token)
