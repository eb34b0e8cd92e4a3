"""`.keras` files that somebody else may have written, loaded within what they have bytes for."""

import json
import math
import random
import threading
import zipfile
from pathlib import Path
from typing import Any, Final

import keras
from keras import ops

from keras_luong.stored_arrays import check_finite, check_members

# What a float32 file has is a quarter; layers that parts share are counted once for each part.
_NUMBERS_A_BYTE: Final = 2
# A model with few weights is little else than its config.
_ALWAYS_ALLOWED: Final = 2**22


def load_keras_file(path: Path, compile: bool) -> keras.Model:
    """Loads a model, and raises before it takes more memory than its file can fill.

    Keras makes a model from the file's config before it looks at the weights, so a file of 10 kB
    can ask for any number of them. Here they are counted first, in a model without values. What
    Keras bounds itself, arrays of the weights' file that declare more than is stored, it goes on
    bounding, and so does its safe mode.

    Args:
        path: The file.
        compile: As in `keras.saving.load_model`.

    Raises:
        ValueError: If the file is no model, declares more than two weights for each of its bytes,
            holds weights that are NaN or infinite, or would run code. The message names the file.
    """
    try:
        _check_declared(path)
        model = keras.saving.load_model(path, compile=compile)
        _check_weights(model)
    except MemoryError:
        raise
    except Exception as error:  # a config can have any part of Keras raise
        raise ValueError(f"{str(path)!r} cannot be loaded: {error}") from error
    return model


def count_declared(config: dict[str, Any]) -> int | None:
    """The number of weights, and states, of the model that a config describes.

    It is made in a thread of its own, of which Keras keeps its state apart: what it notes of layers
    and of variables without values is gone with it. The objects of a `custom_object_scope` are not
    known there.

    Returns:
        A number, or `None` where no model can be made of the config there.
    """
    counted: list[int] = []

    def count() -> None:
        with keras.StatelessScope(initialize_variables=False):
            try:
                model = keras.saving.deserialize_keras_object(config)
                counted.append(sum(math.prod(one.shape) for one in model.variables))
            except Exception:
                return  # Keras says why when it loads the file

    state = random.getstate()  # of which Keras draws seeds
    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
    random.setstate(state)
    return counted[0] if counted else None


def _check_declared(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        check_members(archive, path)
        config = json.loads(archive.read("config.json"))
    without_training = {name: one for name, one in config.items() if name != "compile_config"}
    size, declared = path.stat().st_size, count_declared(without_training)
    if declared is not None and declared > _ALWAYS_ALLOWED + _NUMBERS_A_BYTE * size:
        raise ValueError(
            f"its config declares {declared} weights, and the file has {size} bytes, which must "
            f"be at least one for every {_NUMBERS_A_BYTE} of them."
        )


def _check_weights(model: keras.Model) -> None:
    for variable in model.variables:
        if keras.backend.is_float_dtype(variable.dtype):
            value = ops.convert_to_numpy(ops.cast(variable.value, "float32"))
            check_finite(f"`{variable.path}`", value, may_be_infinite=not variable.trainable)
