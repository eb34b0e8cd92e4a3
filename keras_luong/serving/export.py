"""Writing a SavedModel that TF Serving runs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_luong.folders import whole_folder
from keras_luong.serving.graph_check import check_servable

Tensor = Any


def export_saved_model(
    path: str | os.PathLike[str],
    model: keras.Model,
    function: Callable[[Tensor], dict[str, Tensor]],
    resources: list[tf.Module],
) -> None:
    """Writes `function` as the signature `serving_default` of a SavedModel.

    What cannot serve is refused before anything is written, and the folder appears complete or not
    at all.

    Args:
        path: A folder that does not exist yet, named by an integer, the version.
        model: The model whose variables `function` reads.
        function: Takes texts `(b,)`, named `text`; returns dense tensors by name, batch first. It
            need not bear a batch of no rows: a blank row stands in for it.
        resources: Other trackable objects that `function` uses, such as tokenizers.

    Raises:
        FileExistsError: If `path` exists.
        RuntimeError: If the backend is not TensorFlow.
        ValueError: If `path` is not named by an integer, or the graph cannot serve.
    """
    path = Path(path)
    check_version_path(path)
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel is exported from the TensorFlow backend. Save the translator, and export "
            f"it under KERAS_BACKEND=tensorflow. The backend is {keras.backend.backend()!r}."
        )

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def serve(text: Tensor) -> dict[str, Tensor]:
        rows = tf.shape(text)[0]
        stand_in = tf.fill([tf.cast(rows == 0, tf.int32)], "")
        outputs = function(tf.concat([text, stand_in], axis=0))
        return {name: output[:rows] for name, output in outputs.items()}

    signature = serve.get_concrete_function()
    check_servable(signature)
    holder = tf.Module()
    # The bare variables: a Keras model in here loads in Python and fails in TF Serving.
    holder.variables_of_model = [variable.value for variable in model.variables]
    holder.resources = resources
    holder.serve = serve
    with whole_folder(path) as folder:
        tf.saved_model.save(holder, str(folder), signatures={"serving_default": signature})


def next_version(folder: str | os.PathLike[str]) -> Path:
    """The next free integer folder, as TF Serving numbers versions: `folder/1`, `folder/2`, ...

    Example:

    >>> print(next_version("no_such_folder").name)
    1
    """
    folder = Path(folder)
    present = folder.iterdir() if folder.is_dir() else ()
    return folder / str(1 + max(map(_version, present), default=0))


def _version(path: Path) -> int:
    """The version that TF Serving reads in a folder's name, or 0. It knows ASCII digits alone."""
    return int(path.name) if path.name.isascii() and path.name.isdecimal() else 0


def check_version_path(path: str | os.PathLike[str]) -> None:
    """Refuses what `export` would refuse as a path: to be called before a long training.

    Raises:
        FileExistsError: If `path` exists.
        ValueError: If `path` is not named by an integer.
    """
    path = Path(path)
    if _version(path) < 1:
        raise ValueError(
            "TF Serving looks for versions: folders named by an integer, such as "
            f"saved_models/de_en/1. Received: {str(path)!r}"
        )
    if path.exists():
        raise FileExistsError(
            f"{str(path)!r} exists and is not overwritten. Export the next version, or remove it."
        )
