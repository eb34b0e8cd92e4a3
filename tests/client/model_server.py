"""A stand-in for TF Serving: its gRPC and REST interfaces, over the session loader it is built on.

It serves the versions of one model on free ports of this machine. What it answers, its codes and
their HTTP statuses are those of TF Serving 2.20: g3doc/api_rest.md, model_servers/server_core.cc,
http_server.cc and http_rest_api_util.cc, servables/tensorflow/predict_util.cc, util/json_tensor.cc
and batching/batching_session.cc in its repository. The texts of the errors are ours.
"""

import base64
import contextlib
import http.server
import json
import re
import sys
import threading
import time
import urllib.parse
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the ops of the tokenizers
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}
HTTP_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class Refusal(Exception):
    """What the server answers instead of a prediction."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class LoadedVersion:
    """A SavedModel in a session of TensorFlow 1, as TF Serving loads it."""

    def __init__(self, path):
        self.graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=self.graph)
        with self.graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(self.session, ["serve"], str(path))
        # TF Serving serves these signatures only; the loader's own one has no outputs.
        self.signatures = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if signature.method_name == "tensorflow/serving/predict"
        }

    def run(self, signature, inputs, names):
        feeds = {signature.inputs[name].name: array for name, array in inputs.items()}
        fetches = {name: signature.outputs[name].name for name in names}
        try:
            return self.session.run(fetches, feeds)
        except tf.errors.OpError as error:
            raise Refusal(GRPC_CODES[error.error_code].name, error.message) from error
        except (TypeError, ValueError) as error:  # Python's own check of what is fed
            raise Refusal("INVALID_ARGUMENT", str(error)) from error


class ModelServer:
    """The versions of one model, and what a test may do to them.

    Attributes:
        states: The state of each version, by number.
        labels: Versions by label; `None` while the server has not read its configuration.
        max_batch_size: The most rows of a request, as with `--enable_batching`.
        batch_mates: Rows of other requests, which are put into one batch with every request.
        refusals: What is answered to the next requests for predictions, instead of predictions.
        delay: Seconds before a request for a prediction is answered.
        requests: The signature and the rows of each request that was not refused.
        attempts: How many requests for predictions came.
    """

    def __init__(self, name, paths):
        self.name = name
        self.loaded = {version: LoadedVersion(path) for version, path in paths.items()}
        self.reset()

    def reset(self):
        self.states = dict.fromkeys(self.loaded, "AVAILABLE")
        self.labels = {"stable": min(self.loaded)}
        self.max_batch_size = 64
        self.batch_mates = {}
        self.refusals = []
        self.delay = 0.0
        self.requests = []
        self.attempts = 0

    def version(self, name, number, label):
        """The loaded version that a request means, and its number."""
        if label:
            if self.labels is None:
                raise Refusal("UNAVAILABLE", "the labels are not read yet")
            if name != self.name or label not in self.labels:
                raise Refusal("INVALID_ARGUMENT", f"unknown version label: {label}")
            number = self.labels[label]
        available = [one for one, state in self.states.items() if state == "AVAILABLE"]
        if number is None and name == self.name and available:
            number = max(available)
        if name != self.name or number not in available:
            which = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            raise Refusal("NOT_FOUND", f"Servable not found for request: {which}")
        return self.loaded[number], number

    def predict(self, loaded, signature_name, inputs, wanted=()):
        """Runs one request. `inputs` are arrays by name, of the types of the signature."""
        self.attempts += 1
        if self.refusals:
            raise self.refusals.pop(0)
        signature = loaded.signatures.get(signature_name)
        if signature is None:
            raise Refusal("FAILED_PRECONDITION", f"no signature {signature_name!r}")
        if set(inputs) != set(signature.inputs):
            raise Refusal(
                "INVALID_ARGUMENT",
                f"the inputs are {sorted(signature.inputs)}, not {sorted(inputs)}",
            )
        for name, array in inputs.items():
            dtype = tf.as_dtype(signature.inputs[name].dtype)
            if dtype != (tf.string if array.dtype == object else array.dtype):
                raise Refusal("INVALID_ARGUMENT", f"{name} is {array.dtype}, not {dtype.name}")
        unknown = set(wanted) - set(signature.outputs)
        if unknown:
            raise Refusal("INVALID_ARGUMENT", f"no such outputs: {sorted(unknown)}")
        rows = {len(array) if array.ndim else 0 for array in inputs.values()}
        if len(rows) != 1 or 0 in rows:
            raise Refusal("INVALID_ARGUMENT", f"inputs of {sorted(rows)} rows cannot be batched")
        (count,) = rows
        self.requests.append((signature_name, count))
        if count > self.max_batch_size:
            raise Refusal(
                "INVALID_ARGUMENT", f"{count} rows are more than a batch of {self.max_batch_size}"
            )
        time.sleep(self.delay)
        merged = {
            name: with_mates(array, self.batch_mates.get(name)) for name, array in inputs.items()
        }
        outputs = loaded.run(signature, merged, wanted or list(signature.outputs))
        return {name: output[:count] for name, output in outputs.items()}

    def version_states(self, name, number=None):
        states = self.states if name == self.name else {}
        if number is not None:
            states = {one: state for one, state in states.items() if one == number}
        if not states:
            raise Refusal("NOT_FOUND", f"no versions of model {name}")
        return states


def with_mates(array, mates):
    """The rows of a request and of others, filled up to one width with a request's first value."""
    if mates is None:
        return array
    parts = [array, np.array(mates, array.dtype)]
    if array.ndim == 2:
        width = max(part.shape[1] for part in parts)
        parts = [
            np.pad(part, [(0, 0), (0, width - part.shape[1])], constant_values=part.flat[0])
            for part in parts
        ]
    return np.concatenate(parts)


class GrpcService(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """The two gRPC services of a `ModelServer`."""

    def __init__(self, server):
        self.server = server

    def Predict(self, request, context):
        with refusing(context):
            loaded, number = self.version(request.model_spec)
            name = request.model_spec.signature_name or "serving_default"
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            outputs = self.server.predict(loaded, name, inputs, list(request.output_filter))
            response = predict_pb2.PredictResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = number
            for name, output in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(output))
            return response

    def GetModelMetadata(self, request, context):
        with refusing(context):
            if list(request.metadata_field) != ["signature_def"]:
                raise Refusal("INVALID_ARGUMENT", "metadata_field must be signature_def")
            loaded, number = self.version(request.model_spec)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = number
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in loaded.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response.metadata["signature_def"].Pack(signatures)
            return response

    def GetModelStatus(self, request, context):
        with refusing(context):
            spec = request.model_spec
            number = spec.version.value if spec.HasField("version") else None
            response = get_model_status_pb2.GetModelStatusResponse()
            for version, state in self.server.version_states(spec.name, number).items():
                state = get_model_status_pb2.ModelVersionStatus.State.Value(state)
                response.model_version_status.add(version=version, state=state)
            return response

    def version(self, spec):
        number = spec.version.value if spec.HasField("version") else None
        return self.server.version(spec.name, number, spec.version_label)


@contextlib.contextmanager
def refusing(context):
    try:
        yield
    except Refusal as refusal:
        context.abort(grpc.StatusCode[refusal.code], refusal.message[:1024])


PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(predict)", re.IGNORECASE
)
QUESTION = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", re.IGNORECASE
)


class RestHandler(http.server.BaseHTTPRequestHandler):
    """The REST interface of `server.model_server`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(QUESTION, self.asked)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(PREDICTION, lambda *target: self.predicted(body, *target))

    def answer(self, pattern, handle):
        try:
            match = pattern.fullmatch(self.path)
            if match is None:
                raise Refusal("INVALID_ARGUMENT", f"malformed request: {self.path}")
            name, number, label, verb = match.groups()
            label = label and urllib.parse.unquote(label)
            number = number and int(number)
            status, answer = 200, handle(urllib.parse.unquote(name), number, label, verb)
        except Refusal as refusal:
            status = HTTP_STATUSES.get(refusal.code, 500)
            answer = {"error": refusal.message}
        content = json.dumps(answer, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def asked(self, name, number, label, verb):
        model_server = self.server.model_server
        if verb is None:
            return {
                "model_version_status": [
                    {
                        "version": str(version),
                        "state": state,
                        "status": {"error_code": "OK", "error_message": ""},
                    }
                    for version, state in model_server.version_states(name, number).items()
                ]
            }
        loaded, number = model_server.version(name, number, label)
        signatures = {
            signature_name: {
                "inputs": {key: info_of(info) for key, info in signature.inputs.items()},
                "outputs": {key: info_of(info) for key, info in signature.outputs.items()},
                "method_name": signature.method_name,
            }
            for signature_name, signature in loaded.signatures.items()
        }
        return {
            "model_spec": {"name": name, "signature_name": "", "version": str(number)},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }

    def predicted(self, body, name, number, label, _):
        model_server = self.server.model_server
        request = request_of(body)
        loaded, _ = model_server.version(name, number, label)
        signature_name = request.get("signature_name", "serving_default")
        if not isinstance(signature_name, str):
            raise Refusal("INVALID_ARGUMENT", "signature_name must be a string")
        if signature_name not in loaded.signatures:
            raise Refusal("INVALID_ARGUMENT", f"no signature {signature_name!r}")
        types = {
            key: tf.as_dtype(info.dtype)
            for key, info in loaded.signatures[signature_name].inputs.items()
        }
        if ("instances" in request) == ("inputs" in request):
            raise Refusal("INVALID_ARGUMENT", "one of 'inputs' and 'instances' is needed")
        is_row = "instances" in request
        columns = columns_of_rows(request["instances"], types) if is_row else request["inputs"]
        if not is_object(columns):
            if len(types) > 1:
                raise Refusal("INVALID_ARGUMENT", "several inputs need names")
            columns = {next(iter(types)): columns}
        missing = set(types) - set(columns)
        if missing:
            raise Refusal("INVALID_ARGUMENT", f"missing inputs: {sorted(missing)}")
        inputs = {key: tensor_of(columns[key], dtype) for key, dtype in types.items()}
        outputs = {
            key: json_of(key, output)
            for key, output in model_server.predict(loaded, signature_name, inputs).items()
        }
        if is_row:
            count = len(next(iter(outputs.values())))
            rows = [{key: output[i] for key, output in outputs.items()} for i in range(count)]
            return {"predictions": [unnamed(row) for row in rows]}
        return {"outputs": unnamed(outputs)}

    def log_message(self, *_):
        pass


class RestServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments):
        if not isinstance(sys.exception(), ConnectionError):  # a client that has gone away
            super().handle_error(*arguments)


def request_of(body):
    try:
        request = json.loads(body)
    except ValueError as error:
        raise Refusal("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise Refusal("INVALID_ARGUMENT", "the request is no JSON object")
    return request


def info_of(info):
    dims = [{"size": str(dim.size), "name": dim.name} for dim in info.tensor_shape.dim]
    return {
        "dtype": f"DT_{tf.as_dtype(info.dtype).name.upper()}",
        "tensor_shape": {"dim": dims, "unknown_rank": info.tensor_shape.unknown_rank},
        "name": info.name,
    }


def is_base64(value):
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def is_object(value):
    return isinstance(value, dict) and not is_base64(value)


def columns_of_rows(rows, types):
    """The columns of `instances`: values of the one input, or objects with all inputs by name."""
    if not isinstance(rows, list) or not rows:
        raise Refusal("INVALID_ARGUMENT", "'instances' must be a list of at least one value")
    if not is_object(rows[0]):
        if any(map(is_object, rows)):
            raise Refusal("INVALID_ARGUMENT", "'instances' mixes values and objects")
        return rows
    for row in rows:
        if not is_object(row) or set(row) != set(types):
            raise Refusal("INVALID_ARGUMENT", f"each instance needs the keys {sorted(types)}")
    return {name: [row[name] for row in rows] for name in types}


def tensor_of(value, dtype):
    """The tensor of nested lists, of scalars that fit the type."""
    array = np.array(leaves(value, dtype), dtype.as_numpy_dtype if dtype != tf.string else object)
    return array.reshape(shape_of(value))


def leaves(value, dtype):
    if isinstance(value, list):
        return [leaf for one in value for leaf in leaves(one, dtype)]
    return [leaf_of(value, dtype)]


def leaf_of(value, dtype):
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if dtype == tf.string and isinstance(value, str):
        return value.encode()
    if dtype == tf.string and is_base64(value):
        return base64.b64decode(value["b64"])
    if (dtype.is_floating and is_number) or (dtype.is_integer and type(value) is int):
        return value
    raise Refusal("INVALID_ARGUMENT", f"{value!r} is not of type {dtype.name}")


def shape_of(value):
    if not isinstance(value, list):
        return ()
    shapes = {shape_of(one) for one in value}
    if len(shapes) > 1:
        raise Refusal("INVALID_ARGUMENT", f"lists of different shapes: {sorted(shapes)}")
    return (len(value), *(shapes.pop() if shapes else ()))


def json_of(name, array):
    """Nested lists of what JSON writes: text as it is, bytes (by the name) in base64."""

    def written(value):
        if isinstance(value, list):
            return [written(one) for one in value]
        if not isinstance(value, bytes):
            return value
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode()

    return written(array.tolist())


def unnamed(outputs):
    """The outputs, or the only one without its name."""
    return outputs if len(outputs) > 1 else next(iter(outputs.values()))


@contextlib.contextmanager
def listening(server):
    """Serves a `ModelServer`. Yields its REST URL and its gRPC target, on free ports."""
    rpc = grpc.server(futures.ThreadPoolExecutor(8))
    service = GrpcService(server)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, rpc)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, rpc)
    port = rpc.add_insecure_port("127.0.0.1:0")
    rpc.start()
    rest = RestServer(("127.0.0.1", 0), RestHandler)
    rest.model_server = server
    thread = threading.Thread(target=rest.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{rest.server_port}", f"127.0.0.1:{port}"
    finally:
        rest.shutdown()
        rest.server_close()
        rpc.stop(None).wait()
