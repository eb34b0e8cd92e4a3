"""Each reason why the stock server would fail, in a graph that has it."""

import re

import keras
import pytest
import tensorflow as tf
import tensorflow_text

from keras_luong.serving.graph_check import check_servable

TEXT = tf.TensorSpec([None], tf.string, name="text")


def trace(function, *signature, **options):
    signature = signature or (TEXT,)
    return tf.function(function, input_signature=signature, **options).get_concrete_function()


def problems(concrete_function):
    """The lines of the error, without the first and the dashes."""
    with pytest.raises(ValueError, match="^The graph cannot be served:\n- ") as error:
        check_servable(concrete_function)
    return str(error.value).split("\n- ")[1:]


def lengths(text):
    return tf.strings.length(text)


def test_a_clean_graph_passes():
    variable = tf.Variable(2)

    @tf.function
    def helper(count):
        return tf.while_loop(lambda i, _: i < 3, lambda i, c: (i + 1, c * variable), (0, count))[1]

    def outputs(text):
        words = tensorflow_text.WhitespaceTokenizer().tokenize(text)  # a TFText> op
        return {
            "count": helper(lengths(text)),
            "words": words.to_tensor(""),
            "score": tf.cast(lengths(text), tf.float32),
        }

    assert check_servable(trace(outputs)) is None


def test_a_signature_compiled_by_xla():
    def double(number):
        return {"number": 2 * number}

    number = tf.TensorSpec([None], tf.float32, name="number")
    (problem,) = problems(trace(double, number, jit_compile=True))
    assert "double" in problem and "jit_compile=False" in problem
    check_servable(trace(double, number, jit_compile=False))


def test_a_compiled_function_within_functions_and_loops():
    @tf.function(jit_compile=True)
    def compiled(count):
        return 2 * count

    @tf.function
    def loop(count):
        step = lambda i, c: (i + 1, compiled(c))  # noqa: E731
        return tf.while_loop(lambda i, _: i < 3, step, (0, count))[1]

    (problem,) = problems(trace(lambda text: {"count": loop(lengths(text))}))
    assert re.match(r'node ".*while/PartitionedCall" is compiled by XLA', problem)


def test_a_compiled_branch():
    @tf.function(jit_compile=True)
    def compiled(count):
        return 2 * count

    def outputs(text):
        count = lengths(text)
        branches = [lambda: count, lambda: compiled(count)]
        return {"count": tf.switch_case(tf.size(text), branches)}

    (problem,) = problems(trace(outputs))
    assert "is compiled by XLA" in problem


def test_a_slice_update():
    def outputs(text):
        count = lengths(text)[:, None]
        return {"count": keras.ops.slice_update(keras.ops.tile(count, (1, 3)), (0, 1), count)}

    (problem,) = problems(trace(outputs))
    assert "XlaDynamicUpdateSlice" in problem and "keras.ops.where" in problem


def test_a_cudnn_kernel():
    def outputs(inputs):
        units = 4
        state = tf.zeros([1, tf.shape(inputs)[0], units])
        weights = 4 * units * (3 + units + 2)
        vectors, *_ = tf.raw_ops.CudnnRNNV3(
            input=inputs,
            input_h=state,
            input_c=state,
            params=tf.zeros([weights]),
            sequence_lengths=tf.fill([tf.shape(inputs)[0]], 2),
            rnn_mode="lstm",
            time_major=False,
        )
        return {"vectors": tf.ensure_shape(vectors, [None, None, units])}

    inputs = tf.TensorSpec([None, None, 3], tf.float32, name="inputs")
    (problem,) = problems(trace(outputs, inputs))
    assert "op CudnnRNNV3" in problem and "use_cudnn=False" in problem


@pytest.mark.parametrize(
    "wrap, op", [(tf.numpy_function, "PyFunc"), (tf.py_function, "EagerPyFunc")]
)
def test_python_code(wrap, op):
    def outputs(text):
        return {"text": tf.ensure_shape(wrap(lambda rows: rows, [text], tf.string), [None])}

    (problem,) = problems(trace(outputs))
    assert problem.startswith(f"op {op} (node ") and "the server has no Python" in problem


def test_an_op_is_named_once_however_often_it_occurs():
    def outputs(text):
        for _ in range(3):
            text = tf.ensure_shape(tf.numpy_function(lambda rows: rows, [text], tf.string), [None])
        return {"text": text}

    assert len(problems(trace(outputs))) == 1


@pytest.mark.parametrize(
    "value, expected",
    [
        (tf.strings.split, "RaggedTensorSpec, not dense: use to_tensor"),
        (lambda text: tf.sparse.from_dense(lengths(text)), "SparseTensorSpec, not dense"),
        (lambda text: None, "is NoneTensorSpec: only dense tensors"),
        (lambda text: {"inner": text}, "only dense tensors"),
        (tf.size, "is a scalar"),
        (lambda text: tf.zeros([3, 2]), "has shape (3, 2)"),
        (lambda text: tf.numpy_function(len, [text], tf.int64), "has unknown rank"),
        (lambda text: tf.cast(lengths(text), tf.bfloat16), "has dtype bfloat16"),
        (lambda text: tf.cast(lengths(text), tf.float16), "has dtype float16"),
    ],
)
def test_an_output_that_cannot_be_served(value, expected):
    concrete_function = trace(lambda text: {"good": text, "odd": value(text)})
    outputs = [problem for problem in problems(concrete_function) if not problem.startswith("op ")]
    (problem,) = outputs
    assert problem.startswith('output "odd"') and expected in problem


def test_a_name_that_rest_answers_in_base64():
    (problem,) = problems(trace(lambda text: {"text_bytes": text, "bytes": text}))
    assert 'output "text_bytes"' in problem and "base64" in problem


@pytest.mark.parametrize("value", [lambda text: text, lambda text: [text], lambda text: {}])
def test_outputs_without_names(value):
    (problem,) = problems(trace(value))
    assert "return a dictionary" in problem


@pytest.mark.parametrize(
    "spec, expected",
    [
        (tf.TensorSpec([], tf.string, name="odd"), "is a scalar"),
        (tf.TensorSpec([4], tf.string, name="odd"), "has shape (4,)"),
        (tf.TensorSpec(None, tf.string, name="odd"), "has unknown rank"),
        (tf.RaggedTensorSpec([None, None], tf.string), "RaggedTensorSpec, not dense"),
    ],
)
def test_an_input_that_cannot_be_served(spec, expected):
    (problem,) = problems(trace(lambda text, odd: {"text": text}, TEXT, spec))
    assert problem.startswith("input ") and expected in problem


def test_every_problem_is_listed():
    def outputs(text):
        same = tf.numpy_function(lambda rows: rows, [text], tf.string)
        return {"a": same, "b_bytes": text, "c": tf.size(text), "d": tf.strings.split(text)}

    found = problems(trace(outputs, tf.TensorSpec([2], tf.string, name="text")))
    wanted = ["op PyFunc", 'input "text"', 'output "a"', 'output "b_bytes"', 'output "c"']
    for start in [*wanted, 'output "d"']:
        assert any(problem.startswith(start) for problem in found), (start, found)
