"""The options of the attention layers as one table, and what holds every row to the reference.

A row says what an attention is made of: the arguments of `random_attention`; with `"mode"`, the
same inside a `MonotonicAttention`; a list of such for several sources. From a row come the
reference with random weights (`random_oracle`) and the layer with the same ones (`layer_of`).
"""

import keras
import numpy as np
import pytest

from keras_luong.layers import (
    AttentionVector,
    BahdanauAttention,
    LuongAttention,
    MonotonicAttention,
    MultiSourceAttention,
)
from tests.reference import (
    Attention,
    Monotonic,
    MultiSource,
    Vector,
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
BATCH, TARGET, SOURCE = 5, 3, 5
QUERY_DEPTH, KEY_DEPTH, VALUE_DEPTH, UNITS, MAX_SOURCE_LENGTH = 3, 4, 2, 6, 8

# Full, of length 1, without a kept position, with a hole, and padded on the left.
SOURCE_MASK = ragged_mask((5, 1, 0, 4, 5), SOURCE)
SOURCE_MASK[3, 1] = SOURCE_MASK[4, 0] = False
# What the other sources of several keep, of lengths 4 and 3: never the same as the first.
OTHER_MASKS = [ragged_mask((2, 0, 4, 3, 4), 4), ragged_mask((3, 3, 1, 0, 3), 3)]
OTHER_MASKS[0][4, 0] = False
# Short, full, short, empty, and with a hole.
TARGET_MASK = ragged_mask((2, 3, 1, 0, 3), TARGET)
TARGET_MASK[4, 1] = False


# ---------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------

SCORES = {
    "dot": {"score_mode": "dot"},
    "general": {"score_mode": "general"},
    "concat": {"score_mode": "concat"},
    "location": {"score_mode": "location"},
    "tutorial": {"score_mode": "tutorial"},
}
CONCAT, LOCATION, TUTORIAL = SCORES["concat"], SCORES["location"], SCORES["tutorial"]
LOCAL_M = {"window": "local_m", "window_size": 1}
LOCAL_P = {"window": "local_p", "window_size": 2.5}
COVERAGE = {**CONCAT, "use_coverage": True}

LUONG = {
    **SCORES,
    **{f"{name}_scale": {**score, "use_scale": True} for name, score in SCORES.items()},
    "concat_bias": {**CONCAT, "use_bias": True},
    "concat_scale_bias": {**CONCAT, "use_scale": True, "use_bias": True},
    "location_bias": {**LOCATION, "use_bias": True},
    "location_scale_bias": {**LOCATION, "use_scale": True, "use_bias": True},
    "tutorial_tanh": {**TUTORIAL, "score_activation": "tanh"},
    "tutorial_softmax": {**TUTORIAL, "score_activation": "softmax"},
    "local_m": {**SCORES["general"], **LOCAL_M},
    "local_m_dot_sparsemax": {**SCORES["dot"], **LOCAL_M, "probability_fn": "sparsemax"},
    "local_m_location_hardmax": {**LOCATION, **LOCAL_M, "probability_fn": "hardmax"},
    "local_p": {**SCORES["general"], **LOCAL_P},
    "local_p_narrow": {**SCORES["dot"], **LOCAL_P, "window_size": 1},
    "local_p_tutorial": {**TUTORIAL, **LOCAL_P, "use_scale": True},
    "local_p_sparsemax": {**CONCAT, **LOCAL_P, "probability_fn": "sparsemax"},
    "local_p_hardmax": {**LOCATION, **LOCAL_P, "probability_fn": "hardmax"},
    "hardmax": {**SCORES["general"], "probability_fn": "hardmax"},
    "sparsemax": {**SCORES["general"], "probability_fn": "sparsemax"},
    "coverage": COVERAGE,
    "coverage_everything": {**COVERAGE, "use_scale": True, "use_bias": True, **LOCAL_P},
    "coverage_local_m_hardmax": {**COVERAGE, **LOCAL_M, "probability_fn": "hardmax"},
    "coverage_sparsemax": {**COVERAGE, "probability_fn": "sparsemax"},
}

PLAIN = {"score_mode": "bahdanau"}
BAHDANAU = {
    "bahdanau": PLAIN,
    "normalize": {**PLAIN, "normalize": True},
    "bahdanau_coverage": {**PLAIN, "use_coverage": True},
    "normalize_coverage_sparsemax": {
        **PLAIN,
        "normalize": True,
        "use_coverage": True,
        "probability_fn": "sparsemax",
    },
    "bahdanau_hardmax": {**PLAIN, "probability_fn": "hardmax"},
    "bahdanau_sparsemax": {**PLAIN, "probability_fn": "sparsemax"},
}

MONOTONIC = {
    "monotonic": {**SCORES["general"], "mode": "parallel"},
    "monotonic_recursive": {**SCORES["dot"], "mode": "recursive", "use_scale": True},
    "monotonic_hard": {**SCORES["general"], "mode": "hard"},
    "monotonic_concat": {**CONCAT, "mode": "parallel", "use_bias": True},
    "monotonic_location": {**LOCATION, "mode": "recursive", "use_bias": True},
    "monotonic_tutorial": {**TUTORIAL, "mode": "parallel"},
    "monotonic_normalize": {**PLAIN, "mode": "parallel", "normalize": True},
    "monotonic_hard_bahdanau": {**PLAIN, "mode": "hard"},
}

MULTI_SOURCE = {
    "one": [SCORES["general"]],
    "two": [SCORES["general"], BAHDANAU["normalize"]],
    "two_windows": [LUONG["local_m"], LUONG["local_p"]],
    "state_beside_none": [LUONG["local_m"], BAHDANAU["bahdanau_coverage"]],
    "three_states": [MONOTONIC["monotonic"], COVERAGE, MONOTONIC["monotonic_hard_bahdanau"]],
}

ATTENTIONS = {**LUONG, **BAHDANAU, **MONOTONIC, **MULTI_SOURCE}

VECTORS = {
    "plain": {},
    "bias": {"use_bias": True},
    "linear": {"activation": "linear", "use_bias": True},
    "none": {"units": None},
    "two_layer": {"two_layer": True},
    "two_layer_linear": {"two_layer": True, "activation": "linear"},
    "gate_context": {"gate": "context"},
    "gate_context_bias": {"gate": "context", "use_bias": True},
    "gate_context_two_layer": {"gate": "context", "two_layer": True},
    "gate_context_none": {"gate": "context", "units": None},
    "gate_source": {"gate": "source"},
    "gate_target": {"gate": "target"},
    "gate_both": {"gate": "both"},
    "gate_both_linear": {"gate": "both", "activation": "linear", "use_bias": True},
}


def each(table, *names):
    """Parametrises a test over the rows of a table, or over those named."""
    names = names or tuple(table)
    return pytest.mark.parametrize("options", [table[name] for name in names], ids=names)


# Both precisions, where the backend at hand has them.
each_dtype = pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(name, marks=pytest.mark.skipif(bool(why_not(name)), reason=str(why_not(name))))
        for name in TOLERANCE
    ],
)


# ---------------------------------------------------------------------------------------------
# From a row to reference and layer
# ---------------------------------------------------------------------------------------------


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def random_oracle(options, query_depth=QUERY_DEPTH, key_depth=KEY_DEPTH, seed=7):
    """The reference of a row; the keys of a further source are one deeper each."""
    if isinstance(options, list):
        return MultiSource(
            [random_oracle(one, query_depth, key_depth + i) for i, one in enumerate(options)]
        )
    if "mode" in options:
        wrapped = {name: value for name, value in options.items() if name != "mode"}
        wrapped = random_oracle(wrapped, query_depth, key_depth, seed)
        return Monotonic(wrapped, np.array(-0.4), options["mode"])
    return random_attention(query_depth, key_depth, seed, **options)


def random_attention(
    query_depth,
    key_depth,
    seed,
    score_mode,
    use_scale=False,
    use_bias=False,
    use_coverage=False,
    normalize=False,
    **options,
):
    additive = {
        "query_kernel": (query_depth, UNITS),
        "key_kernel": (key_depth, UNITS),
        "v": (UNITS,),
    }
    shapes = {
        "dot": {},
        "general": {"kernel": (key_depth, query_depth)},
        "concat": additive,
        "bahdanau": additive,
        "location": {"kernel": (query_depth, MAX_SOURCE_LENGTH)},
        "tutorial": {
            "kernel": (MAX_SOURCE_LENGTH, query_depth, UNITS),
            "v": (UNITS,),
            "u": (key_depth,),
        },
    }[score_mode]
    shapes = dict(shapes)
    if use_bias or normalize:
        shapes["bias"] = (MAX_SOURCE_LENGTH,) if score_mode == "location" else (UNITS,)
    if use_coverage:
        shapes["coverage_kernel"] = (UNITS,)
    if options.get("window") == "local_p":
        shapes["position_kernel"] = (query_depth, query_depth)
        shapes["position_v"] = (query_depth,)
    weights = {
        name: random(*shape, seed=seed + index)
        for index, (name, shape) in enumerate(shapes.items())
    }
    if use_scale:
        weights["scale"] = np.array(1.7)
    if normalize:
        weights["g"] = np.array(1.3)
    return Attention(score_mode, weights, **options)


def layer_of(oracle, dtype="float32"):
    """The layer of a reference, not built yet."""
    if isinstance(oracle, MultiSource):
        return MultiSourceAttention(
            [layer_of(one, dtype) for one in oracle.attentions], dtype=dtype
        )
    if isinstance(oracle, Monotonic):
        return MonotonicAttention(layer_of(oracle.attention, dtype), mode=oracle.mode, dtype=dtype)
    weights, score_mode = oracle.weights, oracle.score_mode
    shared = {
        "use_coverage": "coverage_kernel" in weights,
        "probability_fn": oracle.probability_fn,
        "dtype": dtype,
    }
    if score_mode == "bahdanau":
        return BahdanauAttention(len(weights["v"]), normalize="g" in weights, **shared)
    longest = {"location": -1, "tutorial": 0}.get(score_mode)
    return LuongAttention(
        score_mode,
        window=oracle.window,
        window_size=oracle.window_size,
        units=len(weights["v"]) if "v" in weights else None,
        max_source_length=None if longest is None else weights["kernel"].shape[longest],
        use_scale="scale" in weights,
        use_bias="bias" in weights,
        score_activation=oracle.score_activation if score_mode == "tutorial" else None,
        **shared,
    )


def weights_of(layer, oracle):
    """Pairs of an attention layer's variables and the reference's arrays by name, part by part."""
    if isinstance(oracle, MultiSource):
        parts = zip(layer.attentions, oracle.attentions, strict=True)
        return [pair for part in parts for pair in weights_of(*part)]
    if isinstance(oracle, Monotonic):
        own = without(layer.trainable_weights, layer.attention.trainable_weights)
        inner = weights_of(layer.attention, oracle.attention)
        return [(own, {"score_bias": oracle.score_bias}), *inner]
    return [(layer.trainable_weights, oracle.weights)]


def without(variables, others):
    """The variables that are not among the others."""
    known = {id(variable) for variable in others}
    return [variable for variable in variables if id(variable) not in known]


def build_layer(oracle, inputs, dtype):
    """A layer of that reference, built for the inputs' depths, with its weights set."""
    layer = layer_of(oracle, dtype)
    value = inputs["value"]
    layer.build(*(_shapes(part) for part in (inputs["query"], value, inputs.get("key", value))))
    set_all_weights(layer, oracle)
    return layer


def _shapes(part):
    return [one.shape for one in part] if isinstance(part, list) else part.shape


def set_all_weights(layer, oracle):
    pairs = weights_of(layer, oracle)
    assert sum(len(variables) for variables, _ in pairs) == len(layer.trainable_weights)
    for variables, arrays in pairs:
        set_weights(variables, arrays)


def random_vector(
    context_depth,
    query_depth,
    input_depth,
    units=UNITS,
    activation="tanh",
    use_bias=False,
    two_layer=False,
    gate=None,
):
    """The reference of a row of `VECTORS`."""
    shapes = {}
    if gate == "context":
        shapes["gate_kernel"] = (context_depth + query_depth, context_depth)
    elif gate is not None:
        shapes["gate_kernel"] = (input_depth + query_depth + context_depth, units)
    if gate is not None:
        shapes["gate_bias"] = shapes["gate_kernel"][-1:]
    if two_layer:
        shapes["hidden_kernel"], shapes["hidden_bias"] = (context_depth, units), (units,)
    if units is not None:
        shapes["kernel"] = (units if two_layer else context_depth + query_depth, units)
    if use_bias or two_layer:
        shapes["bias"] = (units,)
    weights = {name: random(*shape, seed=8 + i) for i, (name, shape) in enumerate(shapes.items())}
    return Vector(weights, activation, gate)


def vector_arguments(vector):
    """The options of `AttentionVector` that make a reference's layer; `units` is one of them."""
    weights, two_layer = vector.weights, "hidden_kernel" in vector.weights
    return {
        "units": weights["kernel"].shape[-1] if "kernel" in weights else None,
        "activation": vector.activation,
        "use_bias": "bias" in weights and not two_layer,
        "two_layer": two_layer,
        "gate": vector.gate,
    }


def vector_layer_of(vector, context_depth, query_depth, input_depth, dtype="float32"):
    """The `AttentionVector` of a reference, with its weights set."""
    layer = AttentionVector(**vector_arguments(vector), dtype=dtype)
    layer.build((None, context_depth), (None, query_depth), (None, input_depth))
    set_weights(layer.trainable_weights, vector.weights)
    return layer


# ---------------------------------------------------------------------------------------------
# Inputs
# ---------------------------------------------------------------------------------------------


def random_inputs(options, dtype):
    """Query, value and key, all of different depths where the score allows it."""
    several = isinstance(options, list)
    lengths = [SOURCE, 4, 3][: len(options)] if several else [SOURCE]
    is_dot = not several and options["score_mode"] == "dot"
    depth = QUERY_DEPTH if is_dot else KEY_DEPTH
    values = [random(BATCH, length, VALUE_DEPTH + i) for i, length in enumerate(lengths)]
    keys = [random(BATCH, length, depth + i, seed=1) for i, length in enumerate(lengths)]
    inputs = {
        "query": random(BATCH, TARGET, QUERY_DEPTH),
        "value": values if several else values[0],
        "key": keys if several else keys[0],
    }
    return keras.tree.map_structure(lambda array: array.astype(dtype), inputs)


def random_state(oracle, inputs, dtype):
    """A state that some steps may have left, `(b, sum of the source lengths)`."""
    values = inputs["value"] if isinstance(inputs["value"], list) else [inputs["value"]]
    length = sum(value.shape[1] for value in values)
    state = np.abs(random(BATCH, length, seed=11))
    return (state / state.sum(axis=-1, keepdims=True)).astype(dtype)


def masks_of(options, which=("query", "value")):
    """The masks named in `which`."""
    masks = {"query_mask": TARGET_MASK} if "query" in which else {}
    if "value" in which:
        several = [SOURCE_MASK, *OTHER_MASKS]
        masks["value_mask"] = several[: len(options)] if isinstance(options, list) else SOURCE_MASK
    return masks


def put_garbage(inputs, masks, **garbage):
    """The inputs with garbage at every position that a mask drops."""

    def fill(array, mask):
        if isinstance(array, list):
            return [fill(*pair) for pair in zip(array, mask, strict=True)]
        return with_garbage(array, mask, **garbage)

    mask_names = {"key": "value_mask", "memory_key": "memory_mask"}
    filled = {}
    for name, array in inputs.items():
        mask = masks.get(mask_names.get(name, f"{name}_mask"))
        filled[name] = array if mask is None else fill(array, mask)
    return filled


def side_by_side(masks):
    """Masks of several sources as one `(b, sum of the source lengths)`."""
    return np.concatenate(masks, axis=-1) if isinstance(masks, list) else masks


# ---------------------------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------------------------


def call(layer, inputs, masks, **arguments):
    """All outputs with the scores, as NumPy arrays."""
    outputs = layer(**inputs, **masks, **arguments, return_attention_scores=True)
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def assert_equal_numbers(actual, expected, dtype):
    for got, wanted in zip(actual, expected, strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == (dtype if wanted.dtype.kind == "f" else wanted.dtype)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE[dtype])


def check_numbers(options, masked, dtype, from_state=False):
    """All steps at once, and one by one by hand, give what the reference gives."""
    oracle, clean, masks = random_oracle(options), random_inputs(options, dtype), {}
    masks = masks_of(options, masked)
    layer = build_layer(oracle, clean, dtype)
    inputs = put_garbage(clean, masks)
    arguments = {"state": random_state(oracle, clean, dtype)} if from_state else {}
    expected = attend(oracle, **inputs, **masks, **arguments)
    assert np.isfinite(expected.context).all() and expected.scores.any()

    actual = call(layer, inputs, masks, **arguments)
    assert_equal_numbers(actual, [expected.context, expected.scores], dtype)
    if "value" in masked:
        kept = side_by_side(masks["value_mask"])
        assert not actual[1][~np.broadcast_to(kept[:, None], actual[1].shape)].any()
    if "query" in masked:
        assert not actual[0][~TARGET_MASK].any() and not actual[1][~TARGET_MASK].any()
    check_steps(layer, oracle, inputs, masks, arguments, expected, dtype)


def check_steps(layer, oracle, inputs, masks, arguments, expected, dtype):
    """Single steps, each given the state that the one before left, equal the rank-3 reference."""
    query_mask = masks.get("query_mask", np.ones((BATCH, TARGET), bool))
    state = arguments.get("state", starts(oracle, inputs))
    for t in range(TARGET):
        step_inputs = {**inputs, "query": inputs["query"][:, t]}
        step_masks = dict(masks)
        if "query_mask" in masks:
            step_masks["query_mask"] = query_mask[:, t]
        of_step = {"query_position": t} if oracle.needs_position else {}
        # The first step starts by itself, unless it was given a state.
        if oracle.has_state and (t > 0 or arguments):
            of_step["state"] = state.astype(dtype)
        context, scores = call(layer, step_inputs, step_masks, **of_step)
        wanted = [expected.context[:, t], expected.scores[:, t]]
        assert_equal_numbers([context, scores], wanted, dtype)
        if oracle.has_state:
            after = next_state(oracle, state, scores, inputs["value"])
            state = np.where(query_mask[:, t, None], after, state)
    if oracle.has_state:
        np.testing.assert_allclose(state, expected.state, rtol=0, atol=TOLERANCE[dtype])


def starts(oracle, inputs):
    """The states `(b, s)` before the first step."""
    if not oracle.has_state:
        return None
    sentences = [
        keras.tree.map_structure(lambda x, b=b: x[b], inputs["value"]) for b in range(BATCH)
    ]
    return np.stack([oracle.start(values) for values in sentences])


def next_state(oracle, state, scores, value):
    """What the layers' docstrings say a user makes of a state and the scores of a step."""
    if isinstance(oracle, Monotonic):
        return scores
    if not isinstance(oracle, MultiSource):
        return state + scores if oracle.has_state else state
    ends = np.cumsum([one.shape[1] for one in value])[:-1]
    cut = [np.split(array, ends, axis=-1) for array in (state, scores)]
    parts = zip(oracle.attentions, *cut, value, strict=True)
    return np.concatenate([next_state(*part) for part in parts], axis=-1)


def check_padding_content(options):
    """Whatever stands in the padding, the numbers are the same to the last digit."""
    layer, inputs, masks = masked_layer(options)
    expected = call(layer, put_garbage(inputs, masks, garbage=(0.0,)), masks)
    for garbage in (np.nan, -np.inf, 1.0):
        actual = call(layer, put_garbage(inputs, masks, garbage=(garbage,)), masks)
        np.testing.assert_array_equal(actual[0], expected[0])
        np.testing.assert_array_equal(actual[1], expected[1])


def check_extra_padding(options):
    """Longer padding on either side changes nothing (one source)."""
    layer, inputs, masks = masked_layer(options)
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


def check_batch_mates(options):
    """A sentence alone has the numbers that it has in a batch."""
    layer, inputs, masks = masked_layer(options)
    inputs = put_garbage(inputs, masks)
    together = call(layer, inputs, masks)
    for b in (0, 2, 4):
        alone = keras.tree.map_structure(lambda array, b=b: array[b : b + 1], [inputs, masks])
        for got, wanted in zip(call(layer, *alone), together, strict=True):
            np.testing.assert_allclose(got[0], wanted[b], rtol=0, atol=1e-6)


def check_empty_axes(options):
    """Axes of size 0: source, target and batch (one source)."""
    layer, inputs, masks = masked_layer(options)
    no_source = {name: x if name == "query" else x[:, :0] for name, x in inputs.items()}
    for mask in ({}, {"value_mask": SOURCE_MASK[:, :0]}):
        context, scores = call(layer, no_source, mask)
        np.testing.assert_array_equal(context, np.zeros((BATCH, TARGET, VALUE_DEPTH)))
        assert scores.shape == (BATCH, TARGET, 0)
    one_step = {**no_source, "query": inputs["query"][:, 0]}
    position = {"query_position": 0} if random_oracle(options).needs_position else {}
    context, scores = call(layer, one_step, {}, **position)
    np.testing.assert_array_equal(context, np.zeros((BATCH, VALUE_DEPTH)))
    assert scores.shape == (BATCH, 0)

    no_sentence = {name: array[:0] for name, array in inputs.items()}
    context, scores = call(layer, no_sentence, {name: mask[:0] for name, mask in masks.items()})
    assert context.shape == (0, TARGET, VALUE_DEPTH) and scores.shape == (0, TARGET, SOURCE)

    if random_oracle(options).has_state:
        return  # Keras' loop wants a step
    no_query = {**inputs, "query": inputs["query"][:, :0]}
    context, scores = call(layer, no_query, {**masks, "query_mask": TARGET_MASK[:, :0]})
    assert context.shape == (BATCH, 0, VALUE_DEPTH) and scores.shape == (BATCH, 0, SOURCE)


def masked_layer(options):
    """A layer with random weights, its clean inputs and both masks, in float32."""
    oracle, inputs = random_oracle(options), random_inputs(options, "float32")
    return build_layer(oracle, inputs, "float32"), inputs, masks_of(options)


def check_gradients(options, single_step=False):
    """Gradients for every input and weight are the central differences of the reference."""
    dtype = "float32" if why_not("float64") else "float64"
    oracle, inputs = random_oracle(options), random_inputs(options, dtype)
    masks = masks_of(options)
    layer = build_layer(oracle, inputs, dtype)
    if oracle.has_state:
        inputs["state"] = random_state(oracle, inputs, dtype)
    inputs = put_garbage(inputs, masks, garbage=(np.nan,))
    if single_step:
        inputs["query"], masks["query_mask"] = inputs["query"][:, :1], masks["query_mask"][:, :1]
    shapes = [array.shape for array in outputs_of(oracle, inputs, masks)]
    upstream = [random(*shape, seed=5).astype(dtype) for shape in shapes]

    def reference_loss():
        outputs = outputs_of(oracle, inputs, masks)
        return sum(np.sum(a * b) for a, b in zip(upstream, outputs, strict=True))

    def loss(*flat):
        given, call_masks = keras.tree.pack_sequence_as(inputs, list(flat)), dict(masks)
        if single_step:
            given["query"], call_masks["query_mask"] = (
                given["query"][:, 0],
                masks["query_mask"][:, 0],
            )
            if oracle.needs_position:
                given["query_position"] = 0
        outputs = layer(**given, **call_masks, return_attention_scores=True)
        return sum(
            keras.ops.sum(a * keras.ops.convert_to_tensor(b[:, 0] if single_step else b))
            for a, b in zip(outputs, upstream, strict=True)
        )

    pairs = variables_and_arrays(weights_of(layer, oracle))
    variables = [variable for variable, _ in pairs]
    actual = automatic_gradients(loss, keras.tree.flatten(inputs), variables)
    # The differences are those of the reference, in float64, at the same point.
    inputs = keras.tree.map_structure(lambda array: array.astype("float64"), inputs)
    arrays = [keras.tree.flatten(inputs), [array for _, array in pairs]]
    assert_equal_gradients(actual, arrays, reference_loss, dtype)
    gradients = keras.tree.pack_sequence_as(inputs, actual[0])
    assert not gradients["query"][~masks["query_mask"]].any()
    for name in ("value", "key"):
        every_mask = keras.tree.flatten(masks["value_mask"])
        for gradient, mask in zip(keras.tree.flatten(gradients[name]), every_mask, strict=True):
            assert not gradient[~mask].any()


def outputs_of(oracle, inputs, masks):
    attended = attend(oracle, **inputs, **masks)
    return [attended.context, attended.scores]


def variables_and_arrays(parts):
    """Each variable with the array of its name."""
    return [(one, arrays[one.name]) for variables, arrays in parts for one in variables]


def assert_equal_gradients(actual, arrays, reference_loss, dtype):
    """Groups of gradients against the differences for groups of arrays, which the loss reads."""
    for gradients, group in zip(actual, arrays, strict=True):
        for gradient, array in zip(gradients, group, strict=True):
            expected = central_differences(reference_loss, array)
            assert gradient.shape == expected.shape and np.isfinite(gradient).all()
            np.testing.assert_allclose(
                gradient,
                expected,
                rtol=0,
                atol=GRADIENT_TOLERANCE[dtype] * max(np.abs(expected).max(initial=0.0), 1e-2),
            )
