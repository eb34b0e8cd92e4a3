"""Runs a SavedModel in Python, in a process of its own that imports nothing of keras_luong.

    python python_loader.py v1|v2 MODEL_DIR < requests > replies

`v1` restores the graph into a session, as TF Serving does; `v2` is `tf.saved_model.load`. A line
of stdin is `[SIGNATURE, {INPUT: [...], ...}]`, texts in hexadecimal; the reply to it is what
`saved_model_runner.cc` would print.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers its ops

Run = Callable[[str, dict[str, list]], dict[str, Any]]


def load_v1(model_dir: str) -> Run:
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], model_dir)

    def run(name: str, columns: dict[str, list]) -> dict[str, Any]:
        signature = loaded.signature_def[name]
        feeds = {
            info.name: column(columns[key], tf.as_dtype(info.dtype), len(info.tensor_shape.dim))
            for key, info in signature.inputs.items()
        }
        fetches = {key: info.name for key, info in signature.outputs.items()}
        return session.run(fetches, feeds)

    return run


def load_v2(model_dir: str) -> Run:
    loaded = tf.saved_model.load(model_dir)

    def run(name: str, columns: dict[str, list]) -> dict[str, Any]:
        signature = loaded.signatures[name]
        _, inputs = signature.structured_input_signature
        given = {
            key: tf.constant(column(columns[key], spec.dtype, spec.shape.rank))
            for key, spec in inputs.items()
        }
        return {key: value.numpy() for key, value in signature(**given).items()}

    return run


def column(values: list, dtype: tf.DType, rank: int) -> Any:
    if dtype == tf.string:
        values = [bytes.fromhex(value) for value in values]
    array = tf.constant(values, dtype).numpy()
    return array if values else array.reshape([0] * rank)


def reply(outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "dtype": "string" if array.dtype == object else array.dtype.name,
            "shape": array.shape,
            "values": [value.hex() if isinstance(value, bytes) else value for value in flat],
        }
        for name, array in outputs.items()
        for flat in [array.ravel().tolist()]
    }


def main() -> None:
    version, model_dir = sys.argv[1:]
    run = {"v1": load_v1, "v2": load_v2}[version](model_dir)
    for line in sys.stdin:
        print(json.dumps(reply(run(*json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
