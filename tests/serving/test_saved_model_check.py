"""The check of a SavedModel: each reason to refuse one, in a model that has it."""

import shutil
from pathlib import Path

import keras
import pytest
import tensorflow as tf
import tensorflow_text
from tensorflow.core.protobuf import saved_model_pb2

from keras_luong.serving import check_saved_model, cpp_loader
from keras_luong.serving.servable_ops import releases, releases_with

DEMO = Path(__file__).resolve().parents[2] / "saved_models" / "dates_demo" / "1"
TEXT = tf.TensorSpec([None], tf.string, name="text")


def saved(folder, function, *specs, module=None, **options):
    module = module or tf.Module()
    module.function = tf.function(function, input_signature=specs or (TEXT,), **options)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.function})
    return folder


def problems(path, release=None):
    return check_saved_model(path, release, runs=False).problems


def lengths(text):
    return tf.strings.length(text)


@pytest.fixture
def built_once(cpp_runner, monkeypatch):
    monkeypatch.setattr(cpp_loader, "build", lambda folder: cpp_runner)


@pytest.mark.parametrize("release", ["2.18", "2.19", "2.20"])
def test_the_committed_model_can_be_served(release):
    report = check_saved_model(DEMO, release, runs=False)
    assert (report.release, report.problems, report.notes) == (release, [], [])
    assert len(report.ops) > 50 and all(release in having for having in report.ops.values())
    # Of the graph, and of functions that it calls, in loops too.
    assert {"TFText>FastSentencepieceTokenize", "MatMul", "RestoreV2"} <= set(report.ops)


def test_it_runs_in_the_loader_too(built_once):
    report = check_saved_model(DEMO)
    assert report.release == releases()[-1] and report.problems == []
    assert any("loaded and run by TF Serving's loader" in note for note in report.notes)


def test_an_op_of_a_newer_release_alone(tmp_path):
    def trimmed(text):
        words = tensorflow_text.WhitespaceTokenizer().tokenize(text)
        (kept,) = tensorflow_text.RoundRobinTrimmer(2).trim([words])
        return {"words": kept.to_tensor("")}

    path = saved(tmp_path / "1", trimmed)
    assert problems(path, "2.20") == []
    (problem,) = problems(path, "2.19")
    assert "RoundRobinTrim" in problem and "2.20 has" in problem


def test_an_op_that_no_release_has(tmp_path):
    saved(tmp_path / "1", lambda text: {"length": lengths(text)})
    model = saved_model_pb2.SavedModel()
    file = tmp_path / "1" / "saved_model.pb"
    model.ParseFromString(file.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            node.op = "Mine" if node.op == "StringLength" else node.op
    file.write_bytes(model.SerializeToString())
    report = check_saved_model(tmp_path / "1", runs=False)
    (problem,) = report.problems
    assert "op Mine (node" in problem and "TF Serving 2.20 has no kernel" in problem
    assert report.ops["Mine"] == ()


def test_python_code(tmp_path):
    def upper(text):
        same = tf.numpy_function(lambda rows: rows, [text], tf.string)
        return {"text": tf.ensure_shape(same, [None])}

    (problem,) = problems(saved(tmp_path / "1", upper))
    assert "op PyFunc" in problem and "the server has no Python" in problem


def test_a_function_that_xla_compiles(tmp_path):
    @tf.function(jit_compile=True)
    def double(count):
        return 2 * count

    path = saved(tmp_path / "1", lambda text: {"count": double(lengths(text))})
    (problem,) = problems(path)
    assert "is compiled by XLA" in problem


@pytest.mark.parametrize(
    "value, expected",
    [
        (tf.size, 'output "odd" is a scalar'),
        (lambda text: tf.zeros([3, 2]), 'output "odd" has shape (3, 2)'),
        (lambda text: tf.cast(lengths(text), tf.bfloat16), "which REST cannot write"),
        (lambda text: tf.reshape(text, [tf.size(text)] + [1] * 6), None),
    ],
)
def test_outputs_that_cannot_be_served(tmp_path, value, expected):
    found = problems(saved(tmp_path / "1", lambda text: {"odd": value(text), "good": text}))
    assert found == [] if expected is None else len(found) == 1 and expected in found[0]


def test_ragged_outputs(tmp_path):
    path = saved(tmp_path / "1", lambda text: {"words": tf.strings.split(text)})
    (problem,) = problems(path)
    assert 'output "words" is Untyped: only dense tensors' in problem and "to_tensor" in problem


def test_inputs_that_cannot_be_batched(tmp_path):
    fixed = tf.TensorSpec([4], tf.string, name="text")
    path = saved(tmp_path / "1", lambda text: {"text": text[: tf.size(text)]}, fixed)
    problem, *_ = problems(path)
    assert 'input "text" has shape (4,)' in problem


def test_a_width_that_varies_is_noted(tmp_path):
    ids = tf.TensorSpec([None, None], tf.int32, name="ids")
    report = check_saved_model(saved(tmp_path / "1", lambda ids: {"ids": ids}, ids), runs=False)
    assert report.problems == []
    (note,) = report.notes
    assert "width of ids varies" in note and "pad_variable_length_inputs: true" in note


def test_what_only_the_loader_sees(tmp_path, built_once):
    module = tf.Module()
    module.dense = keras.layers.Dense(1)
    module.dense.build((None, 1))

    def outputs(text):
        return {"score": module.dense(tf.cast(lengths(text), "float32")[:, None])}

    path = saved(tmp_path / "1", outputs, module=module)
    assert problems(path) == []
    (problem,) = check_saved_model(path).problems
    assert "fails in TF Serving's loader" in problem and "Could not find variable" in problem


def test_rows_that_do_not_come_back(tmp_path, built_once):
    path = saved(tmp_path / "1", lambda text: {"text": tf.concat([text, text], 0)})
    found = check_saved_model(path).problems
    assert found and "has 2 rows for 1 of the request" in found[0]


def test_without_a_compiler_it_says_that_it_did_not_run(monkeypatch):
    monkeypatch.setattr(cpp_loader, "obstacle", lambda: "no C++ compiler")
    report = check_saved_model(DEMO)
    assert report.problems == [] and report.notes == ["it was not run: no C++ compiler"]


def test_what_is_no_saved_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no SavedModel: it has no saved_model.pb"):
        check_saved_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(ValueError, match="cannot be read"):
        check_saved_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="no graph tagged 'serve'"):
        check_saved_model(tmp_path)


def test_a_release_that_is_not_known():
    with pytest.raises(ValueError, match="one of 2.18, 2.19, 2.20. Received: '1.15'"):
        check_saved_model(DEMO, "1.15")


def test_the_list_knows_the_ops_that_differ():
    """tensorflow/serving 2.18.0 to 2.19.1 embed tensorflow-text 2.12.1, 2.20.0 has 2.20.0."""
    assert releases_with("TFText>Utf8Binarize") == ("2.20",)
    assert releases_with("TFText>RoundRobinTrim") == ("2.20",)
    for op in ("TFText>FastSentencepieceTokenize", "WhitespaceTokenizeWithOffsets", "RestoreV2"):
        assert releases_with(op) == releases()
    assert releases_with("CudnnRNNV3") == releases_with("NoSuchOp") == ()


def test_a_copy_without_variables_fails_to_load(tmp_path, built_once):
    shutil.copytree(DEMO, tmp_path / "1")
    shutil.rmtree(tmp_path / "1" / "variables")
    (problem,) = check_saved_model(tmp_path / "1").problems
    assert "fails in TF Serving's loader" in problem
