"""What keeps XLA from a model, said when the model is compiled and not in its training's speed."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from keras_luong.models.inner_layers import inner_layers


@contextlib.contextmanager
def xla_advice(model: Any, jit_compile: Any) -> Iterator[None]:
    """Warns once, and names the layers, if Keras drops `jit_compile=True` around what runs inside.

    Keras asks each layer for `supports_jit`. That of `keras.layers.LSTM` and `GRU` is `False` where
    they may use cuDNN: on a GPU, with TensorFlow, unless they have `use_cudnn=False`.
    """
    hindering = [one for _, one in inner_layers(model) if not one.supports_jit]
    if jit_compile is not True or not hindering:
        yield
        return
    warnings.warn(_advice(hindering), UserWarning, stacklevel=2)
    with warnings.catch_warnings():
        # Keras says so too, without a name.
        warnings.filterwarnings("ignore", ".*`jit_compile=True`", UserWarning)
        yield


def _advice(hindering: list[Any]) -> str:
    named = ", ".join(f"{one.name!r} ({type(one).__name__})" for one in hindering)
    recurrent = [one for one in hindering if hasattr(one, "use_cudnn")]
    cudnn = (
        " To keep XLA on a GPU, write FastRNN(keras.layers.LSTMCell(units), return_sequences=True) "
        "in the place of keras.layers.LSTM, and the like for GRU, or set `use_cudnn=False`."
    )
    return (
        "The model is trained without XLA, although `jit_compile=True`: XLA cannot compile the "
        f"layers {named}.{cudnn if recurrent else ''}"
    )
