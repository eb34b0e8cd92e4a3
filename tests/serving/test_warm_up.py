"""The requests that the server warms up with, read by the classes that the server has."""

import numpy as np
import pytest
import tensorflow as tf

from keras_luong.serving.warm_up import PLACE, write_warm_up

prediction_log_pb2 = pytest.importorskip(
    "tensorflow_serving.apis.prediction_log_pb2", reason="tensorflow-serving-api is not installed"
)

LONG = "a text " * 3000  # its length takes three bytes
REQUESTS = {
    "serving_default": {"text": tf.constant([LONG, "ä", ""])},
    "n_best": {"text": tf.constant(["one"]), "alpha": tf.constant([0.5])},
    "ids": {"source_ids": tf.constant([[5, 6, 3], [7, 3, 0]])},
}


def logs(folder):
    for record in tf.data.TFRecordDataset(str(folder / PLACE)):
        log = prediction_log_pb2.PredictionLog()
        log.ParseFromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        yield log.predict_log.request


def test_the_servers_own_classes_read_what_was_written(tmp_path):
    write_warm_up(tmp_path, "de_en", REQUESTS)
    found = list(logs(tmp_path))
    assert [one.model_spec.signature_name for one in found] == list(REQUESTS)
    assert {one.model_spec.name for one in found} == {"de_en"}
    for one, inputs in zip(found, REQUESTS.values(), strict=True):
        assert not one.model_spec.WhichOneof("version_choice") and not one.output_filter
        assert set(one.inputs) == set(inputs)
        for name, value in inputs.items():
            array = tf.make_ndarray(one.inputs[name])
            assert array.tolist() == value.numpy().tolist()
            assert tf.as_dtype(one.inputs[name].dtype) == value.dtype


def test_their_classes_would_write_the_same_bytes(tmp_path):
    write_warm_up(tmp_path, "m", {"n_best": REQUESTS["n_best"]})
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = "m", "n_best"
    for name, value in REQUESTS["n_best"].items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    (record,) = tf.data.TFRecordDataset(str(tmp_path / PLACE)).as_numpy_iterator()
    assert prediction_log_pb2.PredictionLog.FromString(record) == log
    assert len(record) == log.ByteSize()


def test_an_export_has_a_request_for_each_signature_which_runs(tmp_path):
    from keras_luong import BeamSearch, SamplingSearch
    from tests.serving.numbers import tokenizer_of_numbers, untrained

    translator = untrained(tokenizer_of_numbers(), cell="gru")
    translator.export(tmp_path / "numbers" / "1", BeamSearch(2), sample=SamplingSearch())
    signatures = tf.saved_model.load(str(tmp_path / "numbers" / "1")).signatures
    found = {one.model_spec.signature_name: one for one in logs(tmp_path / "numbers" / "1")}
    assert set(found) == set(signatures)
    for name, request in found.items():
        assert request.model_spec.name == "numbers"
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        outputs = signatures[name](**inputs)
        for output in outputs.values():
            assert output.shape[0] == 1
        # A text of nothing would warm up little.
        assert np.all(outputs["log_prob"].numpy() != 0)
