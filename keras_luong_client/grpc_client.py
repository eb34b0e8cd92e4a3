"""TF Serving's gRPC interface, with the stubs of the extra `serving`."""

import math
import re
from collections.abc import Sequence
from typing import Any

from keras_luong_client.answers import OUTPUTS
from keras_luong_client.client import Columns, ServingClient
from keras_luong_client.errors import ServingError, error_of

try:
    import grpc
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "GrpcClient needs the stubs of TF Serving: pip install 'keras-luong[serving]'. "
        f"RestClient needs nothing. ({error})",
        name=error.name,
    ) from error

_DTYPES = {
    "text": tf.string,
    "target_text": tf.string,
    "alpha": tf.float32,
    "seed": tf.int32,
    "source_ids": tf.int32,
}
_STRING = tf.string.as_datatype_enum
# Where a tensor's values are, if not in its `tensor_content`.
_FIELDS = {
    _STRING: "string_val",
    tf.float32.as_datatype_enum: "float_val",
    tf.int32.as_datatype_enum: "int_val",
    tf.bool.as_datatype_enum: "bool_val",
}
# The attention scores of several translations of several texts have four dimensions.
_MAX_RANK = 4
# An empty list takes 56 bytes: 60 MB of empty strings, each in its own list, took 7 GB and 71 s.
_MAX_LISTS = 1 << 20
_OPTIONS = {
    "grpc.max_send_message_length": -1,
    # As `RestClient`: the proxies of the environment are not used.
    "grpc.enable_http_proxy": 0,
    # Over all addresses of a name, such as a headless service's, instead of one.
    "grpc.lb_policy_name": "round_robin",
    # A channel that has failed is tried again as soon as a client sends again.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
}


class GrpcClient(ServingClient):
    """Asks over TF Serving's gRPC interface. It needs the extra: `keras-luong[serving]`.

    The proxies of the environment (`http_proxy`) are not used, unless `channel_options` has
    `("grpc.enable_http_proxy", 1)`.

    Args:
        target: Where the server is: `"localhost:8500"`, or another name that gRPC resolves, such as
            `"dns:///translator.example.org:8500"`.
        model: As in `ServingClient`.
        credentials: `grpc.ChannelCredentials`, such as `grpc.ssl_channel_credentials()`; by default
            the channel is not encrypted.
        metadata: Further metadata of every request: pairs of strings.
        channel_options: Further options of the channel: pairs of a name and a value, which go
            before the client's own.
        **options: As in `ServingClient`.

    Raises:
        ModuleNotFoundError: On import, if the extra is not installed.
        ValueError: For a target with a user or a password, for metadata that gRPC does not send,
            and as `ServingClient`.

    Example:

    ```python
    from keras_luong_client import GrpcClient

    with GrpcClient("localhost:8500", "dates", label="stable", timeout=5) as client:
        print(client.translate(["the third of May 2021"]))  # ['2021-05-03']
    ```
    """

    def __init__(
        self,
        target: str,
        model: str,
        *,
        credentials: Any = None,
        metadata: Sequence[tuple[str, str]] = (),
        channel_options: Sequence[tuple[str, Any]] = (),
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        if "@" in target:  # which errors would tell
            raise ValueError(
                "`target` must have no user or password: they are not sent. Secrets go into "
                "`credentials` or `metadata`. Received: a target with a user"
            )
        # An answer with attention scores is soon larger than gRPC's 4 MB. Its numbers have 31 bits.
        most = {"grpc.max_receive_message_length": min(self.max_answer_bytes, (1 << 31) - 1)}
        of_channel = list((_OPTIONS | most | dict(channel_options)).items())
        self.target = target
        self._metadata = _checked_metadata(metadata)
        self._channel = (
            grpc.insecure_channel(target, of_channel)
            if credentials is None
            else grpc.secure_channel(target, credentials, of_channel)
        )
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        """Closes the channel. The client cannot be used again."""
        self._channel.close()

    def _spec(self, signature: str = "") -> Any:
        spec = model_pb2.ModelSpec(name=self.model, signature_name=signature)
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label
        return spec

    def _ask(self, signature: str, columns: Columns, seconds: float) -> dict[str, list[Any]]:
        request = predict_pb2.PredictRequest(model_spec=self._spec(signature))
        for name, column in columns.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(column, _DTYPES[name]))
        answer = self._call(self._predictions.Predict, request, seconds)
        return {
            name: _values(name, tensor)
            for name, tensor in answer.outputs.items()
            if name in OUTPUTS
        }

    def _ask_signatures(self, seconds: float) -> list[str]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        answer = self._call(self._predictions.GetModelMetadata, request, seconds)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        try:
            is_known = answer.metadata["signature_def"].Unpack(signatures)
        except DecodeError:
            is_known = False
        if not is_known:
            raise ServingError(
                "INTERNAL", "The model's metadata has no `signature_def` as TF Serving writes it."
            )
        return list(signatures.signature_def)

    def _ask_versions(self, seconds: float) -> dict[int, str]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.model
        answer = self._call(self._models.GetModelStatus, request, seconds)
        names = {
            number: name for name, number in get_model_status_pb2.ModelVersionStatus.State.items()
        }
        return {
            one.version: names.get(one.state, str(one.state)) for one in answer.model_version_status
        }

    def _call(self, method: Any, request: Any, seconds: float) -> Any:
        try:
            return method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of(error.code().name, f"{self.target}: {error.details()}") from error


def _checked_metadata(metadata: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Raises ValueError, without the value in it, for what gRPC would raise with it."""
    for name, value in metadata:
        if not isinstance(name, str) or not re.fullmatch("[0-9a-z_.-]+", name):
            raise ValueError(
                "`metadata` must have names of small letters, digits, '-', '_' and '.'. Received: "
                f"{name!r}"
            )
        is_text = isinstance(value, str) and re.fullmatch("[ -~]*", value)
        if not (isinstance(value, bytes) if name.endswith("-bin") else is_text):
            raise ValueError(
                "`metadata` must have values of printable ASCII, or bytes under a name that ends "
                f"with '-bin'. Received another one under {name!r}"
            )
    return tuple(metadata)


def _values(name: str, tensor: Any) -> Any:
    """A tensor's values as nested lists. It is looked at before memory is taken for it."""
    fault = _fault_of(tensor)
    if fault:
        raise ServingError("INTERNAL", f"Output {name!r} {fault}.")
    values = tf.make_ndarray(tensor).tolist()
    if tensor.dtype != _STRING:
        return values
    try:
        return _decoded(values)
    except UnicodeDecodeError as error:
        raise ServingError("INTERNAL", f"Output {name!r} is not UTF-8: {error.reason}.") from error


def _fault_of(tensor: Any) -> str:
    """What is wrong with a tensor, if anything is."""
    if tensor.dtype not in _FIELDS:
        return f"has the dtype number {tensor.dtype}, which is not one of {sorted(_FIELDS)}"
    shape = [dim.size for dim in tensor.tensor_shape.dim[: _MAX_RANK + 1]]
    if tensor.tensor_shape.unknown_rank or len(shape) > _MAX_RANK or min(shape, default=0) < 0:
        return f"has no shape of {_MAX_RANK} sizes at most: {shape}"
    if math.prod(size for size in shape[:-1] if size) > _MAX_LISTS:
        return f"has the shape {shape}, which is more than {_MAX_LISTS} lists"
    if tensor.tensor_content and tensor.dtype == _STRING:
        return "has text in `tensor_content`"
    count, held = math.prod(shape), _count_of(tensor)
    if count != held:
        return f"has the shape {shape}, which is {count} values, and holds {held:.10g}"
    return ""


def _count_of(tensor: Any) -> float:
    """How many values a tensor holds: no whole number, if its bytes do not come out even."""
    if not tensor.tensor_content:
        return len(getattr(tensor, _FIELDS[tensor.dtype]))
    return len(tensor.tensor_content) / tf.as_dtype(tensor.dtype).size


def _decoded(values: Any) -> Any:
    """Nested lists of bytes as such of strings."""
    if isinstance(values, list):
        return [_decoded(value) for value in values]
    return values.decode()
