"""What is `GrpcClient`'s own: its channel, and the extra that it needs."""

import subprocess
import sys
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_luong_client import GrpcClient, RetryPolicy, UnavailableError


class Recorder(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers every prediction with the same outputs, and keeps what was asked."""

    def __init__(self, outputs):
        self.outputs, self.requests, self.metadata = outputs, [], []

    def Predict(self, request, context):
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        response = predict_pb2.PredictResponse()
        for name, output in self.outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(output))
        return response


@pytest.fixture
def recorded():
    """Makes a recorder and a client of it."""
    stops = []

    def make(outputs, **options):
        server = grpc.server(futures.ThreadPoolExecutor(2))
        recorder = Recorder(outputs)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(recorder, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        client = GrpcClient(f"127.0.0.1:{port}", "m", **options)
        stops.extend([client.close, lambda: server.stop(None).wait()])
        return recorder, client

    yield make
    for stop in stops:
        stop()


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
