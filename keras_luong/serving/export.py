"""Writing a SavedModel that TF Serving runs."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_luong.folders import whole_folder
from keras_luong.locks import locked_name
from keras_luong.models.inner_layers import inner_layers
from keras_luong.paths import PathLike, RemotePath, path_of
from keras_luong.serving.graph_check import check_servable
from keras_luong.serving.model_card import PLACE as CARD
from keras_luong.serving.model_card import model_card
from keras_luong.serving.warm_up import write_warm_up

Tensor = Any


class Signature(NamedTuple):
    """What a SavedModel does under one name.

    Attributes:
        function: Takes a tensor for each of `inputs`, in their order; returns dense tensors by
            name, batch first. It need not bear a batch of no rows.
        inputs: The inputs by name, batch first: `tf.TensorSpec((None,), tf.string)`.
        example: Values of a batch for each input: a request that TF Serving warms up with. None is
            written without.
    """

    function: Callable[..., dict[str, Tensor]]
    inputs: Mapping[str, tf.TensorSpec]
    example: Mapping[str, Sequence[Any]] | None = None


def export_saved_model(
    path: PathLike,
    model: keras.Model,
    signatures: Mapping[str, Signature],
    resources: Sequence[tf.Module] = (),
    *,
    scores: Mapping[str, float] | None = None,
    **facts: Any,
) -> None:
    """Writes the signatures of a SavedModel.

    What cannot serve is refused before anything is written, and the folder appears complete or not
    at all: not after a crash, nor on a full disk. LSTM and GRU are traced without cuDNN, whatever
    the machine. In a batch of no rows a row of `""` and 0 stands in, so that the functions see one.

    Beside the model, in `assets.extra`, stand `tf_serving_warmup_requests`, which the server sends
    itself before it serves, and `model_card.json`: versions, signatures, scores and facts.

    Args:
        path: A folder that does not exist yet, named by an integer, the version. With a scheme such
            as `gs://` it is made here and copied there; see `check_version_path`.
        model: The model whose variables the functions read.
        signatures: By name; clients that name none get `"serving_default"`.
        resources: Other trackable objects that the functions use, such as tokenizers.
        scores: For the card: numbers by the name of the measure.
        **facts: For the card: anything that JSON can say.

    Raises:
        BlockingIOError: If another process writes this version.
        FileExistsError: If `path` exists.
        OSError: If it cannot be written, as on a full disk.
        RuntimeError: If the backend is not TensorFlow.
        ValueError: If `path` is not named by an integer, a graph cannot serve, or scores are no
            finite numbers.
    """
    path = check_version_path(path)
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel is exported from the TensorFlow backend. Save the translator, and export "
            f"it under KERAS_BACKEND=tensorflow. The backend is {keras.backend.backend()!r}."
        )
    with locked_name(path):
        _write(path, model, signatures, resources, scores, facts)


def _write(
    path: Path | RemotePath,
    model: keras.Model,
    signatures: Mapping[str, Signature],
    resources: Sequence[tf.Module],
    scores: Mapping[str, float] | None,
    facts: Mapping[str, Any],
) -> None:
    with without_cudnn(model):
        traced = _traced(signatures)
    card = model_card(traced, scores, parameters=model.count_params(), **facts)
    holder = tf.Module()
    # The bare variables: a Keras model in here loads in Python and fails in TF Serving.
    holder.variables_of_model = [variable.value for variable in model.variables]
    holder.resources = list(resources)
    with _os_errors(path), whole_folder(path, last="saved_model.pb") as folder:
        tf.saved_model.save(holder, str(folder), signatures=traced)
        write_warm_up(folder, path.absolute().parent.name, _requests(signatures))
        (folder / CARD).write_text(card, encoding="utf-8")


@contextlib.contextmanager
def _os_errors(path: Path | RemotePath) -> Iterator[None]:
    """TensorFlow's errors of a disk, such as a full one, as those of Python."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"{str(path)!r} cannot be written: {error.message}") from error


def _traced(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """A function by name; a signature of two names is traced once."""
    traced: dict[int, Any] = {}
    for name, signature in signatures.items():
        if id(signature) not in traced:
            function = _serve(signature).get_concrete_function()
            check_servable(function, f"The graph of signature {name!r}")
            traced[id(signature)] = function
    return {name: traced[id(signature)] for name, signature in signatures.items()}


def _serve(signature: Signature) -> Any:
    """The function of a signature with its types, which bears a batch of no rows."""
    names = list(signature.inputs)
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in signature.inputs.items()
    ]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*columns: Tensor) -> dict[str, Tensor]:
        rows = tf.shape(columns[0])[0]
        for name, column in zip(names[1:], columns[1:], strict=True):
            message = f"{name} must have as many rows as {names[0]}."
            tf.debugging.assert_equal(tf.shape(column)[0], rows, message)
        stand_ins = tf.cast(rows == 0, tf.int32)[None]
        outputs = signature.function(*(_with_rows(column, stand_ins) for column in columns))
        return {name: output[:rows] for name, output in outputs.items()}

    return serve


def _with_rows(column: Tensor, count: Tensor) -> Tensor:
    shape = tf.concat([count, tf.shape(column)[1:]], 0)
    return tf.concat([column, tf.zeros(shape, column.dtype)], 0)


def _requests(signatures: Mapping[str, Signature]) -> dict[str, dict[str, Tensor]]:
    return {
        name: {
            key: tf.constant(list(values), signature.inputs[key].dtype)
            for key, values in signature.example.items()
        }
        for name, signature in signatures.items()
        if signature.example is not None
    }


@contextlib.contextmanager
def without_cudnn(model: keras.Model) -> Iterator[None]:
    """Switches `use_cudnn` off in all layers for a while.

    On a GPU `"auto"` would put kernels into the graph that no CPU runs; and the configuration of
    LSTM and GRU does not keep `use_cudnn=False`, so a model that was loaded has `"auto"`.
    """
    before = [
        (layer, layer.use_cudnn) for _, layer in inner_layers(model) if hasattr(layer, "use_cudnn")
    ]
    try:
        for layer, _ in before:
            layer.use_cudnn = False
        yield
    finally:
        for layer, value in before:
            layer.use_cudnn = value


def next_version(folder: PathLike) -> Path | RemotePath:
    """The next free integer folder, as TF Serving numbers versions: `folder/1`, `folder/2`, ...

    Example:

    >>> print(next_version("no_such_folder").name)
    1
    """
    place = path_of(folder)
    present = place.iterdir() if place.is_dir() else ()
    return place / str(1 + max(map(_version, present), default=0))


def _version(path: Path | RemotePath) -> int:
    """The version that TF Serving reads in a folder's name, or 0. It knows ASCII digits alone."""
    return int(path.name) if path.name.isascii() and path.name.isdecimal() else 0


def check_version_path(named: PathLike) -> Path | RemotePath:
    """Raises what `export` would raise for a path: to be called before a long training.

    Args:
        named: Where an export is to be written; `~` and schemes such as `gs://` are known.

    Returns:
        The path.

    Raises:
        FileExistsError: If the path exists.
        OSError: If the file system of its scheme does not answer.
        ValueError: If the path is not named by an integer from 1, of 18 digits at most and without
            leading zeros: TF Serving counts in 64 bits, and reads 007 and 7 as one version. If its
            scheme has no file system here.
    """
    path = path_of(named)
    if not re.fullmatch("[1-9][0-9]{0,17}", path.name):
        raise ValueError(
            "TF Serving looks for versions: folders named by an integer from 1 without leading "
            f"zeros, of 18 digits at most, such as saved_models/de_en/1. Received: {str(path)!r}"
        )
    if path.exists():
        raise FileExistsError(
            f"{str(path)!r} exists and is not overwritten. Export the next version, or remove it."
        )
    return path
