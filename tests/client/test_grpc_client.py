"""What is `GrpcClient`'s own: its channel, and the extra that it needs."""

import subprocess
import sys
import traceback
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_luong_client import GrpcClient, RetryPolicy, ServingError, UnavailableError

ONCE = RetryPolicy(max_attempts=1)


class Recorder(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Answers every prediction with the same outputs, and keeps what was asked."""

    def __init__(self, outputs):
        self.outputs, self.requests, self.metadata = outputs, [], []
        self.signatures = get_model_metadata_pb2.GetModelMetadataResponse()
        self.status = get_model_status_pb2.GetModelStatusResponse()

    def GetModelMetadata(self, request, context):
        return self.signatures

    def GetModelStatus(self, request, context):
        return self.status

    def Predict(self, request, context):
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        response = predict_pb2.PredictResponse()
        for name, output in self.outputs.items():
            is_proto = isinstance(output, tensor_pb2.TensorProto)
            response.outputs[name].CopyFrom(output if is_proto else tf.make_tensor_proto(output))
        return response


@pytest.fixture
def recorded():
    """Makes a recorder and a client of it."""
    stops = []

    def make(outputs, compression=None, **options):
        server = grpc.server(futures.ThreadPoolExecutor(2), compression=compression)
        recorder = Recorder(outputs)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(recorder, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(recorder, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        client = GrpcClient(f"127.0.0.1:{port}", "m", **options)
        stops.extend([client.close, lambda: server.stop(None).wait()])
        return recorder, client

    yield make
    for stop in stops:
        stop()


@pytest.fixture
def hostile(recorded):
    return recorded({}, retry=ONCE)


def ids_outputs(rows, target, source):
    return {
        "target_ids": np.full([rows, target], 5, "int32"),
        "target_length": np.full([rows], 2, "int32"),
        "score": np.full([rows], -1.0, "float32"),
        "log_prob": np.full([rows], -1.5, "float32"),
        "truncated": np.zeros([rows], bool),
        "attention_scores": np.full([rows, target, source], 0.5, "float32"),
    }


def test_the_request_of_ids(recorded):
    recorder, client = recorded(
        ids_outputs(2, 3, 2), label="canary", metadata=[("authorization", "Bearer x")]
    )
    result = client.translate_ids([[3], [4, 3]])
    assert result == [([5, 5], -1.0, [[0.5], [0.5]], -1.5, False)] + [
        ([5, 5], -1.0, [[0.5, 0.5], [0.5, 0.5]], -1.5, False)
    ]
    (request,) = recorder.requests
    assert request.model_spec.name == "m" and request.model_spec.version_label == "canary"
    assert request.model_spec.signature_name == "ids"
    sent = tf.make_ndarray(request.inputs["source_ids"])
    assert sent.dtype == np.int32 and sent.tolist() == [[4, 3], [3, 0]]
    assert recorder.metadata[0]["authorization"] == "Bearer x"


def test_the_types_of_the_inputs(recorded):
    several = {
        "translation": np.array([[b"\xc3\x9f"]], object),
        "score": np.zeros([1, 1], "float32"),
        "log_prob": np.zeros([1, 1], "float32"),
        "source_tokens": np.array([[b"</s>"]], object),
        "source_length": np.ones([1], "int32"),
        "target_tokens": np.array([[[b"\xc3\x9f"]]], object),
        "target_length": np.ones([1, 1], "int32"),
        "attention_scores": np.ones([1, 1, 1, 1], "float32"),
    }
    recorder, client = recorded(several)
    (translations,) = client.n_best(["犬"], alpha=1)
    assert translations == [("ß", 0.0, ["</s>"], ["ß"], [[1.0]], 0.0, None)]
    client.sample(["犬"], seed=np.int64(7))
    by_alpha, by_seed = (
        {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        for request in recorder.requests
    )
    assert by_alpha["text"].tolist() == ["犬".encode()]
    assert by_alpha["alpha"].dtype == np.float32 and by_alpha["alpha"].tolist() == [1.0]
    assert by_seed["seed"].dtype == np.int32 and by_seed["seed"].tolist() == [7]


def test_answers_may_be_larger_than_four_megabytes(recorded):
    _, client = recorded(ids_outputs(2, 800, 800))  # 5 MB
    assert len(client.translate_ids([[3], [3]])) == 2


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_an_answer_that_is_too_large_is_not_read(recorded, compression):
    outputs = ids_outputs(1, 500, 500)  # 1 MB, or 1 KB that is it
    _, client = recorded(outputs, compression, retry=ONCE, max_answer_bytes=100_000)
    with pytest.raises(ServingError, match="RESOURCE_EXHAUSTED: .* message larger than max"):
        client.translate_ids([[3]])


def tensor_of(text):
    return text_format.Parse(text, tensor_pb2.TensorProto())


def shape_of(*sizes):
    return "tensor_shape {" + " ".join(f"dim {{ size: {size} }}" for size in sizes) + "}"


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (f"dtype: DT_FLOAT {shape_of(2, 150_000_000)} float_val: 1", "300000000 values.* holds 1"),
        (f"dtype: DT_FLOAT {shape_of(1, 1 << 62, 1 << 2)}", "more than 1048576 lists"),
        (f"dtype: DT_FLOAT {shape_of(1 << 20, 1 << 44)}", "18446744073709551616 values"),
        (f"dtype: DT_FLOAT {shape_of(1)} float_val: 1 float_val: 1", "is 1 values, and holds 2"),
        (f"dtype: DT_FLOAT {shape_of(1)} tensor_content: 'abc'", "holds 0.75"),
        (f"dtype: DT_FLOAT {shape_of(0, 10**12)}", "0 rows for the 1"),
        (f"dtype: DT_FLOAT {shape_of(10**12, 0)}", "more than 1048576 lists"),
        (f"dtype: DT_FLOAT {shape_of(1, 10**12, 0, 1)}", "more than 1048576 lists"),
        (f"dtype: DT_FLOAT {shape_of(-1)} float_val: 1", "no shape of 4 sizes"),
        (f"dtype: DT_FLOAT {shape_of(-1, -1)} float_val: 1", "no shape of 4 sizes"),
        (f"dtype: DT_FLOAT {shape_of(*[1] * 40)} float_val: 1", "no shape of 4 sizes"),
        ("dtype: DT_FLOAT tensor_shape { unknown_rank: true } float_val: 1", "no shape of 4 sizes"),
        ("dtype: DT_FLOAT float_val: 1", "is no list of rows"),
        (f"dtype: DT_FLOAT {shape_of(2)} float_val: 1 float_val: 1", "2 rows for the 1"),
        (f"dtype: DT_STRING {shape_of(1)} string_val: 'x'", "`score` must hold .* float"),
        (f"dtype: DT_STRING {shape_of(1)} string_val: '\\xff'", "'score' is not UTF-8"),
        (f"dtype: DT_STRING {shape_of(1)} tensor_content: 'x'", "text in `tensor_content`"),
        (f"dtype: DT_BOOL {shape_of(1)} bool_val: true", "`score` must hold .* float"),
        (f"dtype: DT_COMPLEX64 {shape_of(1)}", "the dtype number 8"),
        (f"dtype: DT_RESOURCE {shape_of(1)}", "the dtype number 20"),
        ("", "the dtype number 0"),
        ("dtype: 999", "the dtype number 999"),
    ],
)
def test_a_tensor_that_is_none_is_named(hostile, tensor, message):
    recorder, client = hostile
    recorder.outputs = ids_outputs(1, 2, 1) | {"score": tensor_of(tensor)}
    with pytest.raises(ServingError, match=message) as caught:
        client.translate_ids([[3]])
    assert "score" in str(caught.value)


def test_outputs_that_are_missing_are_named_and_further_ones_are_not_read(hostile):
    recorder, client = hostile
    recorder.outputs = ids_outputs(1, 2, 1) | {"further": tensor_of("dtype: DT_RESOURCE")}
    assert client.translate_ids([[3]])[0].ids == [5, 5]
    del recorder.outputs["score"]
    with pytest.raises(ServingError, match="has no output 'score'"):
        client.translate_ids([[3]])


def test_metadata_that_is_none_is_named(hostile):
    recorder, client = hostile
    recorder.signatures.Clear()
    with pytest.raises(ServingError, match="metadata has no `signature_def`"):
        client.signatures()
    signatures = recorder.signatures.metadata["signature_def"]
    signatures.Pack(get_model_metadata_pb2.SignatureDefMap())
    assert client.signatures() == set()
    signatures.value = b"\xff"
    with pytest.raises(ServingError, match="metadata has no `signature_def`"):
        client.signatures()


@pytest.mark.parametrize(("version", "state"), [(1, 99), (1, 31), (-1, 30)])
def test_a_state_that_is_none_is_named(hostile, version, state):
    recorder, client = hostile
    recorder.status.Clear()
    recorder.status.model_version_status.add(version=1, state=0)
    assert client.versions() == {1: "UNKNOWN"}
    recorder.status.model_version_status.add(version=version, state=state)
    with pytest.raises(ServingError, match=f"version {version} in state"):
        client.versions()


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "hidden\n")],
        [("authorization", "hidden\u20ac")],
        [("authorization", b"hidden")],
        [("Authorization", "hidden")],
        [("key-bin", "hidden")],
    ],
)
def test_metadata_that_cannot_be_sent_raises_and_is_not_repeated(metadata):
    with pytest.raises(ValueError, match=f"`metadata` must have.*'{metadata[0][0]}'") as caught:
        GrpcClient("127.0.0.1:1", "m", metadata=metadata)
    assert "hidden" not in str(caught.value)


def test_secrets_are_in_no_error():
    with pytest.raises(ValueError, match="`target` must have no user") as caught:
        GrpcClient("user:hidden@127.0.0.1:1", "m")
    assert "hidden" not in str(caught.value)
    client = GrpcClient("127.0.0.1:1", "m", metadata=[("authorization", "hidden")], retry=ONCE)
    with client, pytest.raises(UnavailableError) as caught:
        client.versions()
    told = [repr(client), *traceback.format_exception(caught.value), repr(caught.value.__cause__)]
    assert not any("hidden" in text for text in told)


def test_proxies_of_the_environment_are_not_used_unless_asked_for(recorded, monkeypatch):
    for name in ("no_proxy", "no_grpc_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert recorded(ids_outputs(1, 2, 1))[1].translate_ids([[3]])
    use = [("grpc.enable_http_proxy", 1)]
    with pytest.raises(UnavailableError, match="127.0.0.1:1"):
        recorded({}, channel_options=use, retry=ONCE)[1].translate_ids([[3]])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert recorded(ids_outputs(1, 2, 1), channel_options=use)[1].translate_ids([[3]])


def test_nobody_listens():
    with GrpcClient("127.0.0.1:1", "m", retry=RetryPolicy(2, 0.0)) as client:
        assert not client.is_ready()
        with pytest.raises(UnavailableError, match=r"127.0.0.1:1: .*\(2 attempts\)"):
            client.explain(["one"])


WITHOUT_STUBS = """
import sys
sys.modules["grpc"] = None
import keras_luong_client
assert "GrpcClient" in dir(keras_luong_client)
try:
    keras_luong_client.GrpcClient
except ModuleNotFoundError as error:
    print(error)
"""


def test_without_the_extra_the_error_names_it():
    output = subprocess.run(
        [sys.executable, "-c", WITHOUT_STUBS], capture_output=True, text=True, check=True
    ).stdout
    assert output.startswith("GrpcClient needs the stubs of TF Serving: pip install 'keras-luong[")
