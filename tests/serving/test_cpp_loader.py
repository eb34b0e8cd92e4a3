"""The harness itself, on small models: that it runs what serves, and fails on what does not."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tensorflow_text

from keras_luong.serving import cpp_loader

TEXT = tf.TensorSpec([None], tf.string, name="text")
NOT_UTF8 = b"\xff\xfe\x00\n,"


def save(folder, function, module=None):
    """Saves `function` of a string tensor as `serving_default`; returns the folder as a string."""
    module = module or tf.Module()
    module.function = tf.function(function, input_signature=[TEXT])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.function})
    return str(folder)


def test_a_tokenizer_inside_the_graph_agrees_with_python(tmp_path, cpp_runner):
    lines = ["ein Hund läuft", "der Hund schläft", "eine Katze läuft", "die Katze schläft"] * 5
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=trained, vocab_size=40, hard_vocab_limit=False
    )
    module = tf.Module()
    module.tokenizer = tensorflow_text.FastSentencepieceTokenizer(trained.getvalue())

    def round_trip(text):
        ids = module.tokenizer.tokenize(text)
        return {
            "ids": ids.to_tensor(-1),
            "lengths": ids.row_lengths(),
            "text": module.tokenizer.detokenize(ids),
        }

    model = save(tmp_path / "model", round_trip, module)
    batch = ["die Katze läuft", "", "Hund 犬"]
    (got,) = cpp_loader.run(cpp_runner, model, [batch])
    expected = {name: value.numpy() for name, value in round_trip(tf.constant(batch)).items()}
    assert got["lengths"].tolist()[1] == 0 and got["lengths"].max() > 1
    assert got["text"].tolist()[0] == b"die Katze l\xc3\xa4uft"
    for name, value in expected.items():
        assert got[name].dtype == value.dtype and got[name].tolist() == value.tolist(), name


def test_every_dtype_and_shape_comes_back_exactly(tmp_path, cpp_runner):
    floats = [0.1, -1e-30, np.nan, np.inf, -np.inf]

    def outputs(text):
        rows = tf.shape(text)[0]
        reals = {
            dtype: tf.tile(tf.constant([floats], dtype)[:, :, None], [rows, 1, 1])
            for dtype in ("float16", "bfloat16", "float32", "float64")
        }
        lengths = tf.strings.length(text)
        whole = {dtype: tf.cast(lengths, dtype) for dtype in ("int8", "int16", "int32", "int64")}
        return reals | whole | {"uint8": tf.cast(lengths, "uint8"), "bool": lengths > 1}

    (got,) = cpp_loader.run(cpp_runner, save(tmp_path / "model", outputs), [["a", "bcd"]])
    for dtype in ("float16", "float32", "float64"):
        expected = np.array(floats, dtype)
        assert got[dtype].dtype == dtype and got[dtype].shape == (2, 5, 1)
        np.testing.assert_array_equal(got[dtype][1, :, 0], expected)
    bfloats = tf.cast(tf.constant(floats, "bfloat16"), "float32")
    np.testing.assert_array_equal(got["bfloat16"][0, :, 0], bfloats)
    for dtype in ("int8", "int16", "int32", "int64", "uint8"):
        assert got[dtype].dtype == dtype and got[dtype].tolist() == [1, 3]
    assert got["bool"].dtype == bool and got["bool"].tolist() == [False, True]


def test_requests_carry_any_bytes_and_batches_of_any_size(tmp_path, cpp_runner):
    model = save(tmp_path / "model", lambda text: {"text": text, "length": tf.strings.length(text)})
    batches = [[], [""], [NOT_UTF8, "zwei\nZeilen, ä"], [], ["", ""]]
    got = cpp_loader.run(cpp_runner, model, batches)
    assert [reply["text"].tolist() for reply in got] == [
        [],
        [b""],
        [NOT_UTF8, "zwei\nZeilen, ä".encode()],
        [],
        [b"", b""],
    ]
    assert [reply["length"].shape for reply in got] == [(0,), (1,), (2,), (0,), (2,)]
    assert got[2]["length"].tolist() == [5, 15]


def test_requests_carry_numbers_beside_texts(tmp_path, cpp_runner):
    module = tf.Module()
    specs = [
        TEXT,
        tf.TensorSpec([None], "float32", "real"),
        tf.TensorSpec([None], "int32", "whole"),
    ]
    module.function = tf.function(
        lambda text, real, whole: {"text": text, "real": real, "whole": whole},
        input_signature=specs,
    )
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"s": module.function})
    some = {"whole": [-(2**31), 7], "text": ["a", "-1"], "real": [0.1, -np.inf]}
    none = dict.fromkeys(some, [])
    got = cpp_loader.run(cpp_runner, tmp_path / "model", [some, none], signature="s")
    assert got[0]["text"].tolist() == [b"a", b"-1"]
    assert got[0]["real"].tolist() == [np.float32(0.1), -np.inf]
    assert got[0]["whole"].tolist() == [-(2**31), 7]
    assert {name: array.shape for name, array in got[1].items()} == dict.fromkeys(some, (0,))
    with pytest.raises(cpp_loader.RunnerError, match='"alpha".*"real"'):
        cpp_loader.run(cpp_runner, tmp_path / "model", [{"alpha": [1]}], signature="s")


def save_ids(folder):
    """Saves a function of a matrix of ids; returns the folder."""
    module = tf.Module()
    module.function = tf.function(
        lambda ids: {"ids": ids, "sum": tf.reduce_sum(ids, 1)},
        input_signature=[tf.TensorSpec([None, None], "int32", "ids")],
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.function})
    return folder


def test_requests_carry_matrices(tmp_path, cpp_runner):
    model = save_ids(tmp_path / "model")
    batches = [[[1, -2, 3], [4, 5, 2**31 - 1]], [[7]], [[], []], []]
    got = cpp_loader.run(cpp_runner, model, [{"ids": batch} for batch in batches])
    assert [reply["ids"].tolist() for reply in got] == batches
    assert [reply["ids"].shape for reply in got] == [(2, 3), (1, 1), (2, 0), (0, 0)]
    assert got[0]["sum"].tolist() == [2, 4 + 5 + 2**31 - 1 - 2**32]
    with pytest.raises(cpp_loader.RunnerError, match="rows of a matrix have one length"):
        cpp_loader.run(cpp_runner, model, [{"ids": [[1, 2], [3]]}])


def test_threads_answer_in_the_order_of_the_requests(tmp_path, cpp_runner):
    model = save_ids(tmp_path / "model")
    batches = [{"ids": [list(range(index % 7))] * (index % 3)} for index in range(300)]
    got = cpp_loader.run(cpp_runner, model, batches, threads=8)
    assert [reply["ids"].tolist() for reply in got] == [batch["ids"] for batch in batches]
    text = save(tmp_path / "text", lambda text: {"text": text})
    assert cpp_loader.run(cpp_runner, text, [], threads=3) == []
    with pytest.raises(cpp_loader.RunnerError, match="--threads is at least 1"):
        cpp_loader.run(cpp_runner, model, batches, threads=0)


def save_slow(folder):
    """Saves a function that takes as long as its text, a number, says."""

    def slow(text):
        square = tf.fill([200, 200], 1e-3)
        for _ in tf.range(tf.strings.to_number(text[0], tf.int32)):
            square = square @ square
        return {"sum": tf.reduce_sum(square)[None]}

    return save(folder, slow)


def test_what_requests_take_is_measured(tmp_path, cpp_runner):
    model = save_slow(tmp_path / "model")
    measured = cpp_loader.measure(cpp_runner, model, [["1"], ["1"], ["300"], ["1"]])
    assert [set(one) for one in measured] == [{"began", "seconds", "resident"}] * 4
    began, seconds, resident = (
        [one[name] for one in measured] for name in ("began", "seconds", "resident")
    )
    assert min(seconds) > 0 and seconds[2] > 5 * seconds[3]
    for place in range(3):  # one thread: one after another
        assert began[place + 1] >= began[place] + seconds[place]
    # TensorFlow alone takes more than 50 MB, a square of numbers 160 kB.
    assert all(50e6 < one < 10e9 for one in resident)


def test_threads_have_requests_under_way_at_the_same_time(tmp_path, cpp_runner):
    model = save_slow(tmp_path / "model")
    measured = cpp_loader.measure(cpp_runner, model, [["30"]] * 40, threads=4)
    ends = [one["began"] + one["seconds"] for one in measured]
    assert any(one["began"] < max(ends[:place]) for place, one in enumerate(measured) if place)


def test_keras_layers_in_a_module_load_in_python_only(tmp_path, cpp_runner):
    module = tf.Module()
    module.dense = keras.layers.Dense(1)
    module.dense.build((None, 1))

    def outputs(text):
        lengths = tf.cast(tf.strings.length(text), "float32")
        return {"score": module.dense(lengths[:, None])}

    model = save(tmp_path / "model", outputs, module)
    in_python = tf.saved_model.load(model).signatures["serving_default"]
    expected = outputs(tf.constant(["abc"]))["score"]
    np.testing.assert_allclose(in_python(tf.constant(["abc"]))["score"], expected, rtol=1e-6)
    with pytest.raises(cpp_loader.RunError, match="Could not find variable"):
        cpp_loader.run(cpp_runner, model, [["abc"]])


def test_their_variables_in_a_module_serve(tmp_path, cpp_runner):
    dense = keras.layers.Dense(1)
    dense.build((None, 1))
    module = tf.Module()
    module.held = [variable.value for variable in dense.variables]

    def outputs(text):
        return {"score": dense(tf.cast(tf.strings.length(text), "float32")[:, None])}

    model = save(tmp_path / "model", outputs, module)
    (got,) = cpp_loader.run(cpp_runner, model, [["abc", "de"]])
    expected = outputs(tf.constant(["abc", "de"]))["score"]
    np.testing.assert_allclose(got["score"], expected, rtol=1e-6)


def test_xla_is_switched_off(tmp_path, cpp_runner):
    def double(text):
        return {"double": compiled(tf.strings.length(text))}

    @tf.function(jit_compile=True)
    def compiled(lengths):
        return 2 * lengths

    model = save(tmp_path / "model", double)
    in_python = tf.saved_model.load(model).signatures["serving_default"]
    assert in_python(tf.constant(["abc"]))["double"].numpy().tolist() == [6]
    assert cpp_loader.run(cpp_runner, model, []) == []  # it loads
    with pytest.raises(cpp_loader.RunError, match="XLA compilation disabled"):
        cpp_loader.run(cpp_runner, model, [["abc"]])


def test_a_loop_may_write_with_where_but_not_with_slice_update(tmp_path, cpp_runner):
    steps = 4

    def outputs(write):
        def loop(text):
            lengths = tf.strings.length(text)

            def step(index, buffer):
                return index + 1, write(buffer, index, (lengths + index)[:, None])

            start = (0, keras.ops.zeros((keras.ops.shape(lengths)[0], steps), "int32"))
            unfinished = lambda index, buffer: index < steps  # noqa: E731
            _, buffer = keras.ops.while_loop(unfinished, step, start, maximum_iterations=steps)
            return {"buffer": buffer}

        return loop

    def where(buffer, index, column):
        return keras.ops.where(keras.ops.arange(steps) == index, column, buffer)

    def slice_update(buffer, index, column):
        return keras.ops.slice_update(buffer, (0, index), column)

    model = save(tmp_path / "where", outputs(where))
    some, none = cpp_loader.run(cpp_runner, model, [["a", "bc"], []])
    assert some["buffer"].tolist() == [[1, 2, 3, 4], [2, 3, 4, 5]]
    assert none["buffer"].shape == (0, steps)
    model = save(tmp_path / "slice_update", outputs(slice_update))
    with pytest.raises(cpp_loader.RunError, match="(?s)XLA compilation.*XlaDynamicUpdateSlice"):
        cpp_loader.run(cpp_runner, model, [["a"]])


def test_python_code_in_the_graph_does_not_run(tmp_path, cpp_runner):
    def upper(text):
        shouted = tf.numpy_function(lambda rows: np.char.upper(rows.astype("S")), [text], "string")
        return {"text": tf.ensure_shape(shouted, [None])}

    model = save(tmp_path / "model", upper)
    with pytest.raises(cpp_loader.RunError, match="PyFunc"):
        cpp_loader.run(cpp_runner, model, [["abc"]])


def test_a_folder_without_a_model_fails_to_load(tmp_path, cpp_runner):
    with pytest.raises(cpp_loader.LoadError, match="SavedModel"):
        cpp_loader.run(cpp_runner, tmp_path, [["abc"]])


def test_unknown_names_are_answered_with_the_known_ones(tmp_path, cpp_runner):
    model = save(tmp_path / "model", lambda text: {"text": text})
    with pytest.raises(cpp_loader.RunnerError, match='"beam".*"serving_default"'):
        cpp_loader.run(cpp_runner, model, [["a"]], signature="beam")
    with pytest.raises(cpp_loader.RunnerError, match='"source".*"text"'):
        cpp_loader.run(cpp_runner, model, [{"source": ["a"]}])


def test_a_process_with_python_in_it_is_refused(tmp_path, cpp_runner):
    model = save(tmp_path / "model", lambda text: {"text": text})
    library = tmp_path / "libpython3.so"
    command = [cpp_loader.compiler(), "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
    subprocess.run(command, input="int stub;", text=True, check=True)
    with pytest.raises(cpp_loader.RunnerError, match="Python is mapped into this process"):
        cpp_loader.run(cpp_runner, model, [["a"]], variables={"LD_PRELOAD": str(library)})


@pytest.mark.parametrize("required, outcome", [("0", "skipped"), ("1", "error")])
def test_without_a_compiler_tests_skip_or_fail_if_required(
    tmp_path, monkeypatch, required, outcome
):
    # A pytest of its own, in a folder with this fixture and a PATH without compilers.
    folder = tmp_path / "tests" / "serving"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_it.py").write_text("def test_it(cpp_runner):\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("KERAS_LUONG_REQUIRE_CPP", required)
    command = [sys.executable, "-m", "pytest", "-rs", "--import-mode=importlib", "tests"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert f"1 {outcome}" in done.stdout, done.stdout
    assert "no C++ compiler" in done.stdout
