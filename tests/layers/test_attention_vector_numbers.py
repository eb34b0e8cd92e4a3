"""`AttentionVector` against the equations: every form and gate."""

import math

import keras
import numpy as np
import pytest

from keras_luong.layers import AttentionVector
from tests.layers.number_checks import (
    VECTORS,
    assert_equal_gradients,
    assert_equal_numbers,
    each,
    each_dtype,
    random,
    random_vector,
    vector_layer_of,
)
from tests.reference import Vector, automatic_gradients, why_not

LOG3 = math.log(3.0)
CONTEXT_DEPTH, QUERY_DEPTH, INPUT_DEPTH = 4, 5, 3
DEPTHS = (CONTEXT_DEPTH, QUERY_DEPTH, INPUT_DEPTH)


def random_parts(*leading, dtype="float64"):
    return [random(*leading, depth, seed=i).astype(dtype) for i, depth in enumerate(DEPTHS)]


def reference_vectors(vector, parts):
    """The attention vectors of `(..., depth)`, one after the other."""
    rows = zip(*(part.reshape(-1, part.shape[-1]) for part in parts), strict=True)
    vectors = np.stack([vector(*row) for row in rows])
    return vectors.reshape(*parts[0].shape[:-1], vectors.shape[-1])


# Everything has depth 1: c = -1, h = 3, x = -1, no activation, W_c = (2, 10): the source side is
# -2, the target side 30.
# The gate of [x; h; c] by (1, 2, 4) log 3: (-1 + 6 - 4) log 3 = log 3, so z = 3/4.
#   source:  3/4 (-2) + 30 = 28.5;  target:  -2 + 3/4 30 = 20.5;  both:  3/4 (-2) + 1/4 30 = 6.
# The gate of [c; h] by (2, 1) log 3, and a bias of -2 log 3: (-2 + 3 - 2) log 3 = -log 3, so 1/4:
#   context:  c <- -1/4, and 2 (-1/4) + 10 3 = 29.5.
@pytest.mark.parametrize(
    ("gate", "gate_kernel", "gate_bias", "expected"),
    [
        (None, None, None, 28.0),
        ("source", [1.0, 2.0, 4.0], 0.0, 28.5),
        ("target", [1.0, 2.0, 4.0], 0.0, 20.5),
        ("both", [1.0, 2.0, 4.0], 0.0, 6.0),
        ("context", [2.0, 1.0], -2.0, 29.5),
    ],
)
def test_gate_worked_by_hand(gate, gate_kernel, gate_bias, expected):
    weights = {"kernel": np.array([[2.0], [10.0]])}
    if gate:
        weights["gate_kernel"] = LOG3 * np.array(gate_kernel)[:, None]
        weights["gate_bias"] = LOG3 * np.array([gate_bias])
    layer = vector_layer_of(Vector(weights, "linear", gate), 1, 1, 1)
    context, query, inputs = (np.array([[one]], "float32") for one in (-1.0, 3.0, -1.0))
    vector = keras.ops.convert_to_numpy(layer(context, query, inputs))
    np.testing.assert_allclose(vector, [[expected]], rtol=1e-5)


# c = log(3) / 2 twice and a bias that leaves log(3) / 2: tanh makes 1/2. Twice that, and a bias of
# log(3) / 2 - 1, make log(3) / 2 again, and tanh makes 1/2 of it. The query has no part.
def test_two_layers_worked_by_hand():
    weights = {
        "hidden_kernel": np.array([[2.0]]),
        "hidden_bias": np.array([-LOG3 / 2.0]),
        "kernel": np.array([[2.0]]),
        "bias": np.array([LOG3 / 2.0 - 1.0]),
    }
    layer = vector_layer_of(Vector(weights), 1, 1, 1)
    for query in (0.0, 7.0):
        parts = (np.array([[one]], "float32") for one in (LOG3 / 2.0, query, query))
        np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(*parts)), [[0.5]], rtol=1e-5)


@each_dtype
@each(VECTORS)
def test_numbers(options, dtype):
    vector = random_vector(*DEPTHS, **options)
    layer = vector_layer_of(vector, *DEPTHS, dtype=dtype)
    for leading in ((3,), (2, 4)):
        parts = random_parts(*leading, dtype=dtype)
        actual = [keras.ops.convert_to_numpy(layer(*parts))]
        assert_equal_numbers(actual, [reference_vectors(vector, parts)], dtype)


@each(VECTORS)
def test_initial_weights(options):
    vector = random_vector(*DEPTHS, **options)
    options = {"units": 6, **options}
    layer = AttentionVector(options.pop("units"), **options)
    layer.build(*((None, depth) for depth in DEPTHS))
    arrays = {w.name: keras.ops.convert_to_numpy(w) for w in layer.trainable_weights}
    assert {name: array.shape for name, array in arrays.items()} == {
        name: array.shape for name, array in vector.weights.items()
    }
    for name, array in arrays.items():
        assert array.any() == ("bias" not in name)


@each(VECTORS)
def test_gradients_are_the_central_differences(options):
    dtype = "float32" if why_not("float64") else "float64"
    vector = random_vector(*DEPTHS, **options)
    layer = vector_layer_of(vector, *DEPTHS, dtype=dtype)
    parts = random_parts(3, dtype=dtype)
    upstream = random(*reference_vectors(vector, parts).shape, seed=9).astype(dtype)

    def loss(*parts):
        return keras.ops.sum(layer(*parts) * keras.ops.convert_to_tensor(upstream))

    def reference_loss():
        return np.sum(reference_vectors(vector, parts) * upstream)

    variables = layer.trainable_weights
    actual = automatic_gradients(loss, parts, variables)
    parts = [part.astype("float64") for part in parts]
    arrays = [parts, [vector.weights[variable.name] for variable in variables]]
    assert_equal_gradients(actual, arrays, reference_loss, dtype)
