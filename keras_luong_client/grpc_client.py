"""TF Serving's gRPC interface, with the stubs of the extra `serving`."""

from collections.abc import Sequence
from typing import Any

from keras_luong_client.client import Columns, ServingClient
from keras_luong_client.errors import error_of

try:
    import grpc
    import tensorflow as tf
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
_OPTIONS = {
    # An answer with attention scores is soon larger than gRPC's 4 MB.
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # Over all addresses of a name, such as a headless service's, instead of one.
    "grpc.lb_policy_name": "round_robin",
    # A channel that has failed is tried again as soon as a client sends again.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
}


class GrpcClient(ServingClient):
    """Asks over TF Serving's gRPC interface. It needs the extra: `keras-luong[serving]`.

    Args:
        target: Where the server is: `"localhost:8500"`, or another name that gRPC resolves, such as
            `"dns:///translator.example.org:8500"`.
        model: As in `ServingClient`.
        credentials: `grpc.ChannelCredentials`, such as `grpc.ssl_channel_credentials()`; by default
            the channel is not encrypted.
        metadata: Further metadata of every request: pairs of strings.
        channel_options: Further options of the channel: pairs of a name and a value.
        **options: As in `ServingClient`.

    Raises:
        ModuleNotFoundError: On import, if the extra is not installed.
        ValueError: As `ServingClient`.

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
        of_channel = [*_OPTIONS.items(), *channel_options]
        self.target = target
        self._metadata = tuple(metadata)
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
        return {name: _values(tensor) for name, tensor in answer.outputs.items()}

    def _ask_signatures(self, seconds: float) -> list[str]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        answer = self._call(self._predictions.GetModelMetadata, request, seconds)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        return list(signatures.signature_def)

    def _ask_versions(self, seconds: float) -> dict[int, str]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.model
        answer = self._call(self._models.GetModelStatus, request, seconds)
        names = get_model_status_pb2.ModelVersionStatus.State
        return {one.version: names.Name(one.state) for one in answer.model_version_status}

    def _call(self, method: Any, request: Any, seconds: float) -> Any:
        try:
            return method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of(error.code().name, f"{self.target}: {error.details()}") from error


def _values(tensor: Any) -> Any:
    values = tf.make_ndarray(tensor).tolist()
    return _decoded(values) if tensor.dtype == tf.string.as_datatype_enum else values


def _decoded(values: Any) -> Any:
    """Nested lists of bytes as such of strings."""
    if isinstance(values, bytes):
        return values.decode()
    return [_decoded(value) for value in values]
