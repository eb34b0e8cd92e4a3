"""Whether a SavedModel, whoever wrote it, can be served by the stock TF Serving."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_luong.layers.arguments import checked_flag
from keras_luong.paths import PathLike, local_copy, path_of
from keras_luong.serving import cpp_loader
from keras_luong.serving.graph_check import (
    graph_problems,
    input_problems,
    nodes,
    output_problems,
)
from keras_luong.serving.servable_ops import releases, releases_with

_INIT = "__saved_model_init_op"
# What is sent to an input of each kind: three rows.
_ROWS: dict[tuple[Any, int], list[Any]] = {
    (tf.string, 1): ["one two", "", b"\xff\xfe"],
    (tf.float32, 1): [0.0, 1.0, -1.0],
    (tf.int32, 1): [0, 1, -1],
    (tf.int32, 2): [[1, 1], [0, 0], [-1, 2**31 - 1]],
}


class Untyped(NamedTuple):
    """The type of what was saved without one, as a ragged tensor is in the signature of a graph."""


class Report(NamedTuple):
    """What `check_saved_model` found.

    Attributes:
        release: The release of TF Serving that was asked about.
        problems: Why it cannot serve the model; none if it can.
        notes: What there is to know about serving it.
        ops: By op of the graph and of all its functions, the releases that have it.
    """

    release: str
    problems: list[str]
    notes: list[str]
    ops: dict[str, tuple[str, ...]]


def check_saved_model(path: PathLike, release: str | None = None, *, runs: bool = True) -> Report:
    """Says whether a stock TF Serving on a CPU can load, run and batch a SavedModel.

    First the graph is read, and nothing of it run: every op, in all functions, must be one that the
    release has a kernel for, none compiled by XLA; inputs and outputs must be dense, typed, with
    the batch as dimension 0. If that is so, the model is run in a process of its own without
    Python, by the loader that TF Serving is built on, where there is a C++ compiler. That loader is
    of the TensorFlow which is installed here, whatever the release.

    Args:
        path: The folder with `saved_model.pb`.
        release: Such as `"2.20"`; by default the newest that is known.
        runs: Whether to run the model. A SavedModel is a program, which can read and write files:
            do not run one that you do not trust.

    Returns:
        A `Report`.

    Raises:
        FileNotFoundError: If there is no SavedModel at `path`.
        ValueError: If it cannot be read, or the release is not known.
        TypeError: If `runs` is not True or False.

    Example:

    ```python
    report = check_saved_model("saved_models/dates_demo/1", "2.19")
    assert not report.problems, report.problems
    ```
    """
    known = releases()
    release = known[-1] if release is None else release
    if release not in known:
        raise ValueError(f"release must be one of {', '.join(known)}. Received: {release!r}")
    runs = checked_flag("runs", runs)
    with local_copy(path_of(path)) as folder:
        return _report(folder, release, runs)


def _report(path: Path, release: str, runs: bool) -> Report:
    graph = _serving_graph(path)
    signatures = {
        name: _Signature.of(one) for name, one in graph.signature_def.items() if name != _INIT
    }
    problems = [*graph_problems(graph.graph_def, release)]
    for name, signature in signatures.items():
        problems += [f"signature {name!r}: {problem}" for problem in signature.problems()]
    if not signatures:
        problems.append("it has no signature: save it with signatures=")
    notes = [note for name, one in signatures.items() for note in one.notes(name)]
    if "serving_default" not in signatures:
        notes.append("no signature is called serving_default: every client must name one")
    if not problems and runs:
        more_problems, more_notes = _run(path, signatures)
        problems, notes = problems + more_problems, notes + more_notes
    ops = {node.op: releases_with(node.op) for node in nodes(graph.graph_def)}
    return Report(release, problems, notes, dict(sorted(ops.items())))


class _Signature(NamedTuple):
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]

    @classmethod
    def of(cls, definition: Any) -> "_Signature":
        sides = (definition.inputs, definition.outputs)
        return cls(*({name: _spec(info) for name, info in sorted(side.items())} for side in sides))

    def problems(self) -> list[str]:
        return [
            *(
                problem
                for name, spec in self.inputs.items()
                for problem in input_problems(name, spec)
            ),
            *(
                problem
                for name, spec in self.outputs.items()
                for problem in output_problems(name, spec)
            ),
            *([] if self.outputs else ["it has no output"]),
        ]

    def notes(self, name: str) -> list[str]:
        varying = [
            key
            for key, spec in self.inputs.items()
            if isinstance(spec, tf.TensorSpec) and spec.shape.rank and None in spec.shape[1:]
        ]
        if not varying:
            return []
        return [
            f"signature {name!r}: the width of {', '.join(varying)} varies: to batch requests, set "
            "pad_variable_length_inputs: true; the server pads a request with its own first value"
        ]


def _spec(info: Any) -> Any:
    """The type of a `TensorInfo`; what is not dense as an object that says what it is."""
    kind = info.WhichOneof("encoding")
    if not info.dtype:
        return Untyped()
    dtype, shape = tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)
    if kind == "coo_sparse":
        return tf.SparseTensorSpec(shape, dtype)
    if kind == "composite_tensor":
        return tf.RaggedTensorSpec(shape, dtype) if shape.rank else info.composite_tensor
    return tf.TensorSpec(shape, dtype)


def _serving_graph(path: Path) -> Any:
    file = path / "saved_model.pb"
    if not file.is_file():
        raise FileNotFoundError(f"{str(path)!r} is no SavedModel: it has no saved_model.pb.")
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's own class is not in every version of its public API
        raise ValueError(f"{str(file)!r} cannot be read: {error}") from error
    for graph in model.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    tags = [list(graph.meta_info_def.tags) for graph in model.meta_graphs]
    raise ValueError(f"{str(path)!r} has no graph tagged 'serve'. Its tags are: {tags}")


def _run(path: Path, signatures: Mapping[str, _Signature]) -> tuple[list[str], list[str]]:
    """Problems and notes of a run in the C++ loader."""
    if obstacle := cpp_loader.obstacle():
        return [], [f"it was not run: {obstacle}"]
    with tempfile.TemporaryDirectory() as folder:
        binary = cpp_loader.build(Path(folder))
        problems, notes = [], []
        for name, signature in signatures.items():
            kinds = {key: (spec.dtype, spec.shape.rank) for key, spec in signature.inputs.items()}
            if not kinds or not set(kinds.values()) <= set(_ROWS):
                notes.append(f"signature {name!r} was not run: no request is known for its inputs")
                continue
            problems += _failures(
                binary, path, name, {key: _ROWS[kind] for key, kind in kinds.items()}
            )
    if not problems and len(notes) < len(signatures):
        notes.append("it was loaded and run by TF Serving's loader, without Python and without XLA")
    return problems, notes


def _failures(binary: Path, path: Path, name: str, rows: Mapping[str, Any]) -> list[str]:
    batches = [{key: values[:count] for key, values in rows.items()} for count in (1, 3)]
    try:
        replies = cpp_loader.run(binary, path, batches, signature=name)
    except cpp_loader.RunnerError as error:
        return [f"signature {name!r} fails in TF Serving's loader: {error}"]
    return [
        f"signature {name!r}: output {key!r} has {array.shape[0]} rows for {count} of the request"
        for reply, count in zip(replies, (1, 3), strict=True)
        for key, array in reply.items()
        if array.shape[0] != count
    ]
