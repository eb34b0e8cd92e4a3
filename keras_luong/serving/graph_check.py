"""Finds, before anything is written, what a stock TF Serving could not run."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from keras_luong.serving.servable_ops import releases, releases_with

_XLA_ADVICE = (
    "the stock server runs with XLA switched off: for keras.ops.slice_update write with "
    "keras.ops.where, for the rest trace with jit_compile=False"
)
_CUDNN_ADVICE = "it runs on a GPU only: build LSTM and GRU with use_cudnn=False"
_PYTHON_ADVICE = (
    "the server has no Python: write tf.py_function and tf.numpy_function in TensorFlow ops"
)
# By the start of the op's name: what the libraries have, and the server cannot run or should not.
_REFUSED_OPS = {
    "Xla": _XLA_ADVICE,
    "_Xla": _XLA_ADVICE,
    "Cudnn": _CUDNN_ADVICE,
    "PyFunc": _PYTHON_ADVICE,
    "EagerPyFunc": _PYTHON_ADVICE,
}

# What the server's REST door can write as JSON.
_SERVED_DTYPES = (
    *(tf.float32, tf.float64, tf.bool, tf.string),
    *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64),
)
# tensorflow/serving, batching/batching_util.cc.
_MAX_RANK = 6


class Node(NamedTuple):
    """A node: its name with the path of calls to it, its op, and whether XLA is to compile it."""

    name: str
    op: str
    compiled: bool


def check_servable(
    concrete_function: tf.types.experimental.ConcreteFunction, what: str = "The graph"
) -> None:
    """Checks that a stock TF Serving on a CPU can run and batch a signature.

    The graph is searched with all the functions it calls for ops that the server cannot run. Inputs
    and outputs must be dense tensors whose dimension 0 is the batch, `(batch, ...)`, in dtypes that
    REST can write.

    Args:
        concrete_function: The function of the signature, which returns its outputs by name.
        what: How an error names it.

    Raises:
        ValueError: If anything would fail in the server. The message lists every problem and what
            to do about it.

    Example:
    >>> import tensorflow as tf
    >>> from keras_luong.serving.graph_check import check_servable
    >>> @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    ... def words(text):
    ...     return {"words": tf.strings.split(text)}
    >>> check_servable(words.get_concrete_function())
    Traceback (most recent call last):
    ...
    ValueError: The graph cannot be served:
    - output "words" is a RaggedTensorSpec, not dense: use to_tensor and return the lengths too
    """
    problems = [
        *_op_problems(concrete_function),
        *_input_problems(concrete_function.structured_input_signature),
        *_output_problems(concrete_function.structured_outputs),
    ]
    if problems:
        raise ValueError(f"{what} cannot be served:\n- " + "\n- ".join(problems))


def _op_problems(concrete_function: tf.types.experimental.ConcreteFunction) -> Iterator[str]:
    definition = concrete_function.function_def
    if _is_compiled(definition):
        yield f"function {definition.signature.name} is compiled by XLA: {_XLA_ADVICE}"
    yield from graph_problems(concrete_function.graph.as_graph_def(), releases()[-1])


def graph_problems(graph: Any, release: str) -> Iterator[str]:
    """Says which ops of a `GraphDef`, with all functions that it calls, a release cannot run."""
    reported = set()
    for node in nodes(graph):
        if node.compiled:
            yield f'node "{node.name}" is compiled by XLA: {_XLA_ADVICE}'
        if node.op not in reported and (advice := advice_on(node.op, release)):
            reported.add(node.op)
            yield f'op {node.op} (node "{node.name}"): {advice}'


def advice_on(op: str, release: str) -> str | None:
    """What to do about an op, if the stock server of a release cannot run it."""
    for start, advice in _REFUSED_OPS.items():
        if op.startswith(start):
            return advice
    if release in (others := releases_with(op)):
        return None
    if others:
        return f"TF Serving {release} has no kernel for it, {' and '.join(others)} has"
    return (
        f"TF Serving {release} has no kernel for it on a CPU: it has the ops of TensorFlow and "
        "tensorflow-text only"
    )


def nodes(graph: Any) -> Iterator[Node]:
    """Yields the nodes of a `GraphDef` and of each function that it reaches, once.

    A node whose op is the name of a function only calls it, and is left out.
    """
    functions = {function.signature.name: function for function in graph.library.function}
    waiting, seen = [("", graph.node)], set()
    while waiting:
        path, nodes = waiting.pop()
        for node in nodes:
            called = [functions[name] for name in _called(node) if name in functions]
            name = path + node.name
            compiled = _is_compiled(node) or any(_is_compiled(function) for function in called)
            if node.op not in functions or compiled:
                yield Node(name, node.op, compiled)
            for function in called:
                if function.signature.name not in seen:
                    seen.add(function.signature.name)
                    waiting.append((f"{name}/", function.node_def))


def _called(node: Any) -> list[str]:
    names = [node.op]
    for value in node.attr.values():
        names += [value.func.name, *(function.name for function in value.list.func)]
    return names


def _is_compiled(definition: Any) -> bool:
    # Looked up only where it is: indexing would add the attribute.
    return "_XlaMustCompile" in definition.attr and definition.attr["_XlaMustCompile"].b


def _input_problems(signature: tuple[tuple, dict]) -> Iterator[str]:
    for position, value in enumerate(tf.nest.flatten(signature)):
        name = getattr(value, "name", None) or str(position)
        yield from input_problems(name, value)


def _output_problems(outputs: Any) -> Iterator[str]:
    if not isinstance(outputs, Mapping) or not outputs:
        kind = type(outputs).__name__
        yield f"the function returns a {kind}: return a dictionary of tensors by output name"
        return
    for name, value in outputs.items():
        yield from output_problems(name, _spec(value))


def input_problems(name: str, spec: Any) -> Iterator[str]:
    """Says why an input cannot be served and batched."""
    what = f'input "{name}"'
    yield from _tensor_problems(what, spec)
    if isinstance(spec, tf.TensorSpec) and (spec.shape.rank or 0) > _MAX_RANK:
        yield f"{what} has rank {spec.shape.rank}: the server pads and batches up to {_MAX_RANK}"


def output_problems(name: str, spec: Any) -> Iterator[str]:
    """Says why an output cannot be served and batched."""
    what = f'output "{name}"'
    yield from _tensor_problems(what, spec)
    if name.endswith("_bytes"):
        yield f"{what}: REST would answer in base64, choose a name without _bytes at its end"
    if isinstance(spec, tf.TensorSpec) and spec.dtype not in _SERVED_DTYPES:
        yield f"{what} has dtype {spec.dtype.name}, which REST cannot write: cast it"


def _spec(value: Any) -> Any:
    """Returns the type of a graph's tensor; what has none (None, a nested structure) as it is."""
    if isinstance(value, tf.TypeSpec):
        return value
    try:
        return tf.type_spec_from_value(value)
    except TypeError:
        return value


def _tensor_problems(what: str, spec: Any) -> Iterator[str]:
    kind = type(spec).__name__
    if isinstance(spec, tf.RaggedTensorSpec):
        yield f"{what} is a {kind}, not dense: use to_tensor and return the lengths too"
    elif isinstance(spec, tf.SparseTensorSpec):
        yield f"{what} is a {kind}, not dense: use tf.sparse.to_dense"
    elif not isinstance(spec, tf.TensorSpec):
        yield f"{what} is {kind}: only dense tensors can be served; for ragged ones see to_tensor"
    elif spec.shape.rank is None:
        yield f"{what} has unknown rank: give it one with tf.ensure_shape"
    elif spec.shape.rank == 0:
        yield f"{what} is a scalar: dimension 0 must be the batch"
    elif spec.shape[0] is not None:
        yield f"{what} has shape {spec.shape}: dimension 0 must be the batch, of unknown size"
