"""Requests that TF Serving sends itself before it serves a version, so that no client waits for it.

The server reads them from `assets.extra/tf_serving_warmup_requests`, a TFRecord of `PredictionLog`
messages (tensorflow/serving, `g3doc/saved_model_warmup.md`). Their classes are in
tensorflow-serving-api, which an export should not need, and of their fields four levels and six
fields are used. So they are written by hand. In protocol buffers a field that is a text or another
message is its number and kind, its length and its bytes
(https://protobuf.dev/programming-guides/encoding).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

PLACE = Path("assets.extra") / "tf_serving_warmup_requests"

# Numbers of fields, in tensorflow_serving/apis: prediction_log.proto, predict.proto, model.proto.
_PREDICT_LOG = 6  # of PredictionLog
_REQUEST = 1  # of PredictLog
_MODEL_SPEC, _INPUTS = 1, 2  # of PredictRequest
_NAME, _SIGNATURE_NAME = 1, 3  # of ModelSpec
_KEY, _VALUE = 1, 2  # of an entry of a map
_BYTES = 2  # the kind of a field whose length is written


def write_warm_up(folder: Path, model: str, requests: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a request for each signature into an export.

    Args:
        folder: The SavedModel's.
        model: The model's name.
        requests: By signature, a tensor or array for each input.
    """
    path = folder / PLACE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            writer.write(_prediction_log(model, signature, inputs))


def _prediction_log(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    spec = _field(_NAME, model.encode()) + _field(_SIGNATURE_NAME, signature.encode())
    request = _field(_MODEL_SPEC, spec)
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(_INPUTS, _field(_KEY, name.encode()) + _field(_VALUE, tensor))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])
