"""`LuongAttention` against the equations: numbers, gradients and what must not change them."""

import itertools
import math

import keras
import numpy as np
import pytest

from keras_luong.layers import LuongAttention
from tests.reference import (
    attend,
    automatic_gradients,
    central_differences,
    ragged_mask,
    set_weights,
    why_not,
    with_garbage,
)

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
GRADIENT_TOLERANCE = {"float32": 1e-4, "float64": 1e-6}
SCORE_MODES = ("dot", "general", "concat", "location")
WITH_BIAS = ("concat", "location")

BATCH, TARGET, SOURCE = 4, 3, 5
QUERY_DEPTH, KEY_DEPTH, VALUE_DEPTH, UNITS, MAX_SOURCE_LENGTH = 3, 4, 2, 6, 8
SOURCE_LENGTHS = (SOURCE, 1, 0, 3)
TARGET_LENGTHS = (2, 3, 1, 0)


@pytest.fixture(params=TOLERANCE)
def dtype(request):
    """Both precisions, where the backend at hand has them."""
    if why_not(request.param):
        pytest.skip(why_not(request.param))
    return request.param


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def random_weights(score_mode, use_scale=False, use_bias=False, key_depth=KEY_DEPTH):
    """Random weights by name, each of the shape that the score asks for."""
    shapes = {
        "dot": {},
        "general": {"kernel": (key_depth, QUERY_DEPTH)},
        "concat": {
            "query_kernel": (QUERY_DEPTH, UNITS),
            "key_kernel": (key_depth, UNITS),
            "v": (UNITS,),
        },
        "location": {"kernel": (QUERY_DEPTH, MAX_SOURCE_LENGTH)},
    }[score_mode]
    if use_bias:
        shapes["bias"] = (UNITS,) if score_mode == "concat" else (MAX_SOURCE_LENGTH,)
    weights = {name: random(*shape, seed=7) for name, shape in shapes.items()}
    if use_scale:
        weights["scale"] = np.array(1.7)
    return weights


def build_layer(score_mode, weights, inputs, dtype):
    """A layer of that score, built on the inputs' shapes, with the weights set."""
    arguments = {}
    if score_mode == "concat":
        arguments["units"] = weights["v"].shape[0]
    if score_mode == "location":
        arguments["max_source_length"] = weights["kernel"].shape[-1]
    layer = LuongAttention(
        score_mode,
        use_scale="scale" in weights,
        use_bias="bias" in weights,
        dtype=dtype,
        **arguments,
    )
    layer(**{name: np.zeros_like(array) for name, array in inputs.items()})
    set_weights(layer.trainable_weights, weights)
    return layer


def random_inputs(score_mode, dtype, source=SOURCE):
    """Query, value and key; the key's depth is the query's only where the score demands it."""
    key_depth = QUERY_DEPTH if score_mode == "dot" else KEY_DEPTH
    inputs = {
        "query": random(BATCH, TARGET, QUERY_DEPTH),
        "value": random(BATCH, source, VALUE_DEPTH),
        "key": random(BATCH, source, key_depth, seed=1),
    }
    return {name: array.astype(dtype) for name, array in inputs.items()}


def random_masks(which):
    """The masks named in `which`; the last sentence has a hole."""
    masks = {}
    if "query" in which:
        masks["query_mask"] = ragged_mask(TARGET_LENGTHS, TARGET)
    if "value" in which:
        masks["value_mask"] = ragged_mask(SOURCE_LENGTHS, SOURCE)
        masks["value_mask"][3, 1] = False
    return masks


def put_garbage(inputs, masks, **garbage):
    """The inputs with garbage at every position that a mask drops."""
    mask_names = {"query": "query_mask", "value": "value_mask", "key": "value_mask"}
    return {
        name: with_garbage(array, masks[mask_names[name]], **garbage)
        if mask_names[name] in masks
        else array
        for name, array in inputs.items()
    }


def call(layer, inputs, masks):
    """Context and attention scores as NumPy arrays."""
    return [
        keras.ops.convert_to_numpy(output)
        for output in layer(**inputs, **masks, return_attention_scores=True)
    ]


def assert_equal_numbers(actual, expected, dtype):
    for got, wanted in zip(actual, expected, strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == dtype
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE[dtype])


# ---------------------------------------------------------------------------------------------
# Worked by hand
# ---------------------------------------------------------------------------------------------

LOG3 = math.log(3.0)

# In every example the kept logits are 0 and log 3, so that the weights are 1 / (1 + 3) = 1/4 and
# 3 / (1 + 3) = 3/4, and the context is 1/4 (8, 0) + 3/4 (0, 4) = (2, 3). What differs is the way
# from query and keys to the logits:
#
# dot       h . k:  (1, 2) . (2, -1) = 2 - 2 = 0;  (1, 2) . (log 3, 0) = log 3.
# general   h . (k W), W of shape (key depth 1, query depth 2) = [[1, 3]]:  k = 0 gives 0;
#           k = log(3) / 7 gives k W = (log(3) / 7) (1, 3), and (1, 2) . (1, 3) = 7, so log 3.
# concat    v . tanh(h W_q + k W_k), one unit, v = 2 log 3, W_q = [[1], [1]], W_k = [[1]], so that
#           h W_q = 3:  k = -3 gives 2 log(3) tanh(0) = 0;  k = log(3) / 2 - 3 gives
#           tanh(log(3) / 2) = (e^log3 - 1) / (e^log3 + 1) = 2/4 = 1/2, and so 2 log(3) / 2 = log 3.
# location  h W, W of shape (query depth 2, max_source_length 3):  (1, 2) W = (4 - 4, log 3, 102).
#           The source has two positions, so the third logit is outside the softmax.
HAND_WORKED = {
    "dot": ([[2.0, -1.0], [LOG3, 0.0]], {}),
    "general": ([[0.0], [LOG3 / 7.0]], {"kernel": [[1.0, 3.0]]}),
    "concat": (
        [[-3.0], [LOG3 / 2.0 - 3.0]],
        {"query_kernel": [[1.0], [1.0]], "key_kernel": [[1.0]], "v": [2.0 * LOG3]},
    ),
    "location": (
        [[0.0], [0.0]],
        {"kernel": [[4.0, LOG3, 100.0], [-2.0, 0.0, 1.0]]},
    ),
}


@pytest.mark.parametrize("score_mode", SCORE_MODES)
def test_example_worked_by_hand(score_mode):
    keys, weights = HAND_WORKED[score_mode]
    inputs = {
        "query": np.array([[[1.0, 2.0]]], "float32"),
        "value": np.array([[[8.0, 0.0], [0.0, 4.0]]], "float32"),
        "key": np.array([keys], "float32"),
    }
    weights = {name: np.array(weight) for name, weight in weights.items()}
    context, scores = call(build_layer(score_mode, weights, inputs, "float32"), inputs, {})
    np.testing.assert_allclose(scores, [[[0.25, 0.75]]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(context, [[[2.0, 3.0]]], rtol=0, atol=1e-5)


# Scale 2 and logits 0 and log(3) / 2 give the same weights as above:  2 log(3) / 2 = log 3.
# A bias of log 3 on the second position alone does the same for location when h W is 0.
def test_scale_and_bias_worked_by_hand():
    value = np.array([[[8.0, 0.0], [0.0, 4.0]]], "float32")
    inputs = {"query": np.array([[[1.0]]], "float32"), "value": value}
    inputs["key"] = np.array([[[0.0], [LOG3 / 2.0]]], "float32")
    layer = build_layer("dot", {"scale": np.array(2.0)}, inputs, "float32")
    np.testing.assert_allclose(call(layer, inputs, {})[0], [[[2.0, 3.0]]], rtol=0, atol=1e-5)

    weights = {"kernel": np.zeros((1, 3)), "bias": np.array([0.0, LOG3, 100.0])}
    layer = build_layer("location", weights, inputs, "float32")
    np.testing.assert_allclose(call(layer, inputs, {})[0], [[[2.0, 3.0]]], rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------------------
# Against the reference
# ---------------------------------------------------------------------------------------------

OPTIONS = [
    (score_mode, use_scale, use_bias)
    for score_mode, use_scale, use_bias in itertools.product(
        SCORE_MODES, (False, True), (False, True)
    )
    if score_mode in WITH_BIAS or not use_bias
]


@pytest.mark.parametrize("masked", [(), ("value",), ("query",), ("query", "value")], ids=str)
@pytest.mark.parametrize(("score_mode", "use_scale", "use_bias"), OPTIONS)
def test_ragged_batch_with_garbage_in_the_padding(score_mode, use_scale, use_bias, masked, dtype):
    clean, masks = random_inputs(score_mode, dtype), random_masks(masked)
    weights = random_weights(score_mode, use_scale, use_bias)
    layer = build_layer(score_mode, weights, clean, dtype)
    inputs = put_garbage(clean, masks)
    expected = attend(score_mode, **inputs, **masks, weights=weights)
    assert np.isfinite(expected[0]).all()

    actual = call(layer, inputs, masks)
    assert_equal_numbers(actual, expected, dtype)
    if "value" in masked:
        assert not actual[0][2].any() and not actual[1][2].any()
        assert not actual[1][~np.broadcast_to(masks["value_mask"][:, None], actual[1].shape)].any()
    if "query" in masked:
        assert not actual[0][~masks["query_mask"]].any()
        assert not actual[1][~masks["query_mask"]].any()
    context_alone = layer(**inputs, **masks)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(context_alone), actual[0])

    # One step is a rank-3 query of one step without that axis.
    for t in range(TARGET):
        step_inputs = {**inputs, "query": inputs["query"][:, t]}
        step_masks = dict(masks)
        if "query" in masked:
            step_masks["query_mask"] = masks["query_mask"][:, t]
        actual = call(layer, step_inputs, step_masks)
        assert_equal_numbers(actual, [expected[0][:, t], expected[1][:, t]], dtype)


@pytest.mark.parametrize("score_mode", SCORE_MODES)
def test_a_layer_first_called_with_one_step_is_the_same_layer(score_mode, dtype):
    inputs, masks = random_inputs(score_mode, dtype), random_masks(("value",))
    inputs["query"] = inputs["query"][:, 0]
    weights = random_weights(score_mode)
    layer = build_layer(score_mode, weights, inputs, dtype)
    inputs = put_garbage(inputs, masks)
    expected = attend(
        score_mode, **{**inputs, "query": inputs["query"][:, None]}, **masks, weights=weights
    )
    assert_equal_numbers(call(layer, inputs, masks), [array[:, 0] for array in expected], dtype)


@pytest.mark.parametrize("score_mode", SCORE_MODES)
def test_without_a_key_the_value_is_the_key(score_mode, dtype):
    inputs = {
        "query": random(BATCH, TARGET, QUERY_DEPTH).astype(dtype),
        "value": random(BATCH, SOURCE, QUERY_DEPTH, seed=3).astype(dtype),
    }
    masks, weights = random_masks(("value",)), random_weights(score_mode, key_depth=QUERY_DEPTH)
    layer = build_layer(score_mode, weights, inputs, dtype)
    inputs = put_garbage(inputs, masks)
    expected = attend(score_mode, **inputs, **masks, weights=weights)
    assert_equal_numbers(call(layer, inputs, masks), expected, dtype)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("score_mode", SCORE_MODES)
def test_source_axis_of_size_zero(score_mode, masked):
    inputs = random_inputs(score_mode, "float32", source=0)
    layer = build_layer(
        score_mode, random_weights(score_mode), random_inputs(score_mode, "float32"), "float32"
    )
    masks = {"value_mask": np.zeros((BATCH, 0), bool)} if masked else {}
    context, scores = call(layer, inputs, masks)
    np.testing.assert_array_equal(context, np.zeros((BATCH, TARGET, VALUE_DEPTH)))
    assert scores.shape == (BATCH, TARGET, 0)
    context, scores = call(layer, {**inputs, "query": inputs["query"][:, 0]}, masks)
    np.testing.assert_array_equal(context, np.zeros((BATCH, VALUE_DEPTH)))
    assert scores.shape == (BATCH, 0)


@pytest.mark.parametrize("score_mode", SCORE_MODES)
def test_batch_and_target_axis_of_size_zero(score_mode):
    inputs, masks = random_inputs(score_mode, "float32"), random_masks(("query", "value"))
    layer = build_layer(score_mode, random_weights(score_mode), inputs, "float32")
    no_sentence = {name: array[:0] for name, array in inputs.items()}
    context, scores = call(layer, no_sentence, {name: mask[:0] for name, mask in masks.items()})
    assert context.shape == (0, TARGET, VALUE_DEPTH) and scores.shape == (0, TARGET, SOURCE)

    no_query = {**inputs, "query": inputs["query"][:, :0]}
    context, scores = call(layer, no_query, {**masks, "query_mask": masks["query_mask"][:, :0]})
    assert context.shape == (BATCH, 0, VALUE_DEPTH) and scores.shape == (BATCH, 0, SOURCE)


@pytest.mark.parametrize("score_mode", SCORE_MODES)
def test_large_logits_do_not_overflow(score_mode, dtype):
    inputs, masks = random_inputs(score_mode, dtype), random_masks(("query", "value"))
    weights = {**random_weights(score_mode, use_scale=True), "scale": np.array(2.0**16)}
    layer = build_layer(score_mode, weights, inputs, dtype)
    inputs = put_garbage(inputs, masks)
    expected = attend(score_mode, **inputs, **masks, weights=weights)
    context, scores = call(layer, inputs, masks)
    # So large a scale makes the softmax a hard maximum: rounding cannot move it.
    assert np.isin(expected[1].round(12), (0.0, 1.0)).all()
    assert_equal_numbers([context, scores], expected, dtype)


@pytest.mark.parametrize(("score_mode", "use_scale", "use_bias"), OPTIONS)
def test_initial_scale_is_one_and_initial_bias_is_zero(score_mode, use_scale, use_bias):
    layer = LuongAttention(
        score_mode,
        units=UNITS if score_mode == "concat" else None,
        max_source_length=MAX_SOURCE_LENGTH if score_mode == "location" else None,
        use_scale=use_scale,
        use_bias=use_bias,
    )
    layer(**random_inputs(score_mode, "float32"))
    arrays = {w.name: keras.ops.convert_to_numpy(w) for w in layer.trainable_weights}
    shapes = random_weights(score_mode, use_scale, use_bias)
    assert {name: array.shape for name, array in arrays.items()} == {
        name: array.shape for name, array in shapes.items()
    }
    assert arrays.get("scale", 1.0) == 1.0
    assert not np.any(arrays.get("bias", 0.0))


# ---------------------------------------------------------------------------------------------
# Invariances
# ---------------------------------------------------------------------------------------------


@pytest.fixture(params=SCORE_MODES)
def masked_call(request):
    """A layer with random weights, its clean inputs and both masks, in float32."""
    score_mode = request.param
    inputs, masks = random_inputs(score_mode, "float32"), random_masks(("query", "value"))
    weights = random_weights(score_mode, True, score_mode in WITH_BIAS)
    return build_layer(score_mode, weights, inputs, "float32"), inputs, masks


def test_padding_content_does_not_matter(masked_call):
    layer, inputs, masks = masked_call
    expected = call(layer, put_garbage(inputs, masks, garbage=(0.0,)), masks)
    for garbage in (np.nan, np.inf, -np.inf, 3e38, 1.0):
        actual = call(layer, put_garbage(inputs, masks, garbage=(garbage,)), masks)
        np.testing.assert_array_equal(actual[0], expected[0])
        np.testing.assert_array_equal(actual[1], expected[1])


def test_extra_padding_columns_do_not_matter(masked_call):
    layer, inputs, masks = masked_call
    context, scores = call(layer, put_garbage(inputs, masks), masks)
    longer = {
        name: np.pad(array, ((0, 0), (0, 2), (0, 0)), constant_values=np.nan)
        for name, array in inputs.items()
    }
    longer_masks = {name: np.pad(mask, ((0, 0), (0, 2))) for name, mask in masks.items()}
    longer_context, longer_scores = call(layer, longer, longer_masks)
    np.testing.assert_allclose(longer_context[:, :TARGET], context, rtol=0, atol=1e-6)
    np.testing.assert_allclose(longer_scores[:, :TARGET, :SOURCE], scores, rtol=0, atol=1e-6)
    assert not longer_context[:, TARGET:].any()
    assert not longer_scores[:, TARGET:].any() and not longer_scores[..., SOURCE:].any()


def test_batch_mates_do_not_matter(masked_call):
    layer, inputs, masks = masked_call
    inputs = put_garbage(inputs, masks)
    context, scores = call(layer, inputs, masks)
    for b in range(BATCH):
        alone = call(
            layer,
            {name: array[b : b + 1] for name, array in inputs.items()},
            {name: mask[b : b + 1] for name, mask in masks.items()},
        )
        np.testing.assert_allclose(alone[0][0], context[b], rtol=0, atol=1e-6)
        np.testing.assert_allclose(alone[1][0], scores[b], rtol=0, atol=1e-6)


# ---------------------------------------------------------------------------------------------
# Gradients
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize("score_mode", SCORE_MODES)
def test_gradients_are_the_central_differences(score_mode, single_step):
    dtype = "float32" if why_not("float64") else "float64"
    inputs, masks = random_inputs(score_mode, dtype), random_masks(("query", "value"))
    weights = random_weights(score_mode, True, score_mode in WITH_BIAS)
    layer = build_layer(score_mode, weights, inputs, dtype)
    inputs = put_garbage(inputs, masks, garbage=(np.nan,))
    if single_step:
        inputs["query"], masks["query_mask"] = inputs["query"][:, :1], masks["query_mask"][:, :1]
    steps = inputs["query"].shape[1]
    shapes = [(BATCH, steps, VALUE_DEPTH), (BATCH, steps, SOURCE)]
    upstream = [random(*shape).astype(dtype) for shape in shapes]

    def reference_loss():
        outputs = attend(score_mode, **inputs, **masks, weights=weights)
        return sum(np.sum(a * b) for a, b in zip(upstream, outputs, strict=True))

    def loss(query, value, key):
        call_masks = dict(masks)
        if single_step:
            query, call_masks["query_mask"] = query[:, 0], masks["query_mask"][:, 0]
        outputs = layer(query, value, key, **call_masks, return_attention_scores=True)
        return sum(
            keras.ops.sum(a * keras.ops.convert_to_tensor(b[:, 0] if single_step else b))
            for a, b in zip(outputs, upstream, strict=True)
        )

    variables = layer.trainable_weights
    actual = automatic_gradients(loss, list(inputs.values()), variables)
    # The differences are those of the reference, in float64, at the same point.
    inputs = {name: array.astype("float64") for name, array in inputs.items()}
    arrays = [list(inputs.values()), [weights[variable.name] for variable in variables]]
    for gradients, group in zip(actual, arrays, strict=True):
        for gradient, array in zip(gradients, group, strict=True):
            expected = central_differences(reference_loss, array)
            assert np.isfinite(gradient).all()
            np.testing.assert_allclose(
                gradient,
                expected,
                rtol=0,
                atol=GRADIENT_TOLERANCE[dtype] * max(np.abs(expected).max(), 1e-2),
            )
    query, value, key = actual[0]
    assert not query[~masks["query_mask"]].any()
    assert not value[~masks["value_mask"]].any()
    assert not key[~masks["value_mask"]].any()
