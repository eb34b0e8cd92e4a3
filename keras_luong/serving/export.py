"""Writing a SavedModel that TF Serving runs."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_luong.folders import whole_folder
from keras_luong.serving.graph_check import check_servable

Tensor = Any


class Signature(NamedTuple):
    """What a SavedModel does under one name.

    Attributes:
        function: Takes one tensor `(b,)` for each of `inputs`, in their order; returns dense
            tensors by name, batch first. It need not bear a batch of no rows.
        inputs: The dtypes of the inputs by name.
    """

    function: Callable[..., dict[str, Tensor]]
    inputs: Mapping[str, Any]


def export_saved_model(
    path: str | os.PathLike[str],
    model: keras.Model,
    signatures: Mapping[str, Signature],
    resources: list[tf.Module],
) -> None:
    """Writes the signatures of a SavedModel.

    What cannot serve is refused before anything is written, and the folder appears complete or not
    at all. In a batch of no rows a row of `""` and 0 stands in, so that the functions see one.

    Args:
        path: A folder that does not exist yet, named by an integer, the version.
        model: The model whose variables the functions read.
        signatures: By name; clients that name none get `"serving_default"`.
        resources: Other trackable objects that the functions use, such as tokenizers.

    Raises:
        FileExistsError: If `path` exists.
        RuntimeError: If the backend is not TensorFlow.
        ValueError: If `path` is not named by an integer, or a graph cannot serve.
    """
    path = Path(path)
    check_version_path(path)
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel is exported from the TensorFlow backend. Save the translator, and export "
            f"it under KERAS_BACKEND=tensorflow. The backend is {keras.backend.backend()!r}."
        )
    traced = {}
    for name, signature in signatures.items():
        traced[name] = _serve(signature).get_concrete_function()
        check_servable(traced[name], f"The graph of signature {name!r}")
    holder = tf.Module()
    # The bare variables: a Keras model in here loads in Python and fails in TF Serving.
    holder.variables_of_model = [variable.value for variable in model.variables]
    holder.resources = resources
    with whole_folder(path) as folder:
        tf.saved_model.save(holder, str(folder), signatures=traced)


def _serve(signature: Signature) -> Any:
    """The function of a signature with its types, which bears a batch of no rows."""
    names = list(signature.inputs)
    specs = [tf.TensorSpec((None,), dtype, name=name) for name, dtype in signature.inputs.items()]

    @tf.function(input_signature=specs)
    def serve(*columns: Tensor) -> dict[str, Tensor]:
        rows = tf.shape(columns[0])[0]
        for name, column in zip(names[1:], columns[1:], strict=True):
            message = f"{name} must have as many rows as {names[0]}."
            tf.debugging.assert_equal(tf.shape(column)[0], rows, message)
        stand_ins = tf.cast(rows == 0, tf.int32)
        outputs = signature.function(
            *(tf.concat([column, tf.zeros([stand_ins], column.dtype)], 0) for column in columns)
        )
        return {name: output[:rows] for name, output in outputs.items()}

    return serve


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
