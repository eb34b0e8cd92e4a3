"""`AttentionDecoder` against the equations: numbers, gradients and what must not change them."""

import itertools

import keras
import numpy as np
import pytest

from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    LuongAttention,
    ResidualCell,
)
from tests.layers.number_checks import (
    ATTENTIONS,
    OTHER_MASKS,
    SCORES,
    VECTORS,
    assert_equal_gradients,
    assert_equal_numbers,
    call,
    each_dtype,
    layer_of,
    put_garbage,
    random,
    random_oracle,
    random_vector,
    side_by_side,
    variables_and_arrays,
    vector_arguments,
)
from tests.layers.number_checks import weights_of as weights_of_attention
from tests.reference import (
    Decoder,
    Layer,
    automatic_gradients,
    decode,
    gru_step,
    lstm_step,
    ragged_mask,
    set_weights,
    simple_rnn_step,
    why_not,
)

INPUT_DEPTH, MEMORY_DEPTH, VALUE_DEPTH, CELL_UNITS, UNITS = 2, 5, 2, 4, 3

# Full, with a hole, with a source of length 0, padded on the left, and without any target.
TARGET_MASK = np.array(
    [[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool
)
SOURCE_MASK = ragged_mask((5, 1, 0, 4, 2), 5)
SOURCE_MASK[3, 1] = False
BATCH, TARGET, SOURCE = *TARGET_MASK.shape, SOURCE_MASK.shape[1]

# Keras' cell, the reference's step, gates, states and biases.
CELLS = {
    "lstm": (keras.layers.LSTMCell, lstm_step, 4, 2, 1),
    "gru": (keras.layers.GRUCell, gru_step, 3, 1, 2),
    "simple_rnn": (keras.layers.SimpleRNNCell, simple_rnn_step, 1, 1, 1),
}
STACK = ("lstm", "lstm")
RESIDUAL_STACK = ("gru", "residual_lstm", "residual_simple_rnn")


def exact_tanh(x):
    """Hyperbolic tangent in the precision of `x`; `keras.ops.tanh` on JAX falls to float32."""
    return 2.0 * keras.ops.sigmoid(2.0 * x) - 1.0


def random_reference(
    cell="lstm",
    attention=SCORES["general"],
    vector=VECTORS["plain"],
    input_feeding=True,
    cell_units=CELL_UNITS,
    memory_depth=MEMORY_DEPTH,
    value_depth=None,
):
    """The reference decoder with random weights, from rows of the tables.

    A stack's lower layer is one unit narrower, unless the upper one is residual. Memories of
    several sources are one deeper each; keys are `memory_depth` deep, and so are values by default.
    """
    names = (cell,) if isinstance(cell, str) else cell
    sources = len(attention) if isinstance(attention, list) else 1
    value_depth = memory_depth if value_depth is None else value_depth
    context_depth = sum(value_depth + i for i in range(sources))
    vector = {"units": UNITS, **vector}
    depth = INPUT_DEPTH
    if input_feeding:
        depth += context_depth if vector["units"] is None else vector["units"]
    layers = []
    for index, name in enumerate(names):
        _, step, gates, state_count, biases = CELLS[name.removeprefix("residual_")]
        is_narrower = len(names) == 2 and index == 0
        size = cell_units - 1 if is_narrower else cell_units
        weights = {
            "kernel": 0.7 * random(depth, gates * size, seed=index),
            "recurrent_kernel": 0.7 * random(size, gates * size, seed=index),
            "bias": random(*([biases] if biases > 1 else []), gates * size, seed=index),
        }
        layers.append(Layer(step, weights, state_count, name.startswith("residual_")))
        depth = size
    return Decoder(
        layers,
        random_oracle(attention, depth, memory_depth),
        random_vector(context_depth, depth, INPUT_DEPTH, **vector),
        input_feeding,
    )


def keras_decoder(reference, dtype="float32", inputs=None, **arguments):
    """The same decoder in Keras, built for the inputs' depths, with the reference's weights."""
    inputs = random_inputs(dtype) if inputs is None else inputs
    classes = {step: layer for layer, step, *_ in CELLS.values()}
    activation = {"activation": exact_tanh} if dtype == "float64" else {}
    cells = []
    for layer in reference.layers:
        units = len(layer.weights["recurrent_kernel"])
        cell = classes[layer.step](units, dtype=dtype, **activation)
        cells.append(ResidualCell(cell, dtype=dtype) if layer.is_residual else cell)
    vector = vector_arguments(reference.vector)
    cell = AttentionDecoderCell(
        cells[0] if len(cells) == 1 else keras.layers.StackedRNNCells(cells, dtype=dtype),
        layer_of(reference.attention, dtype),
        attention_activation=vector.pop("activation"),
        **vector,
        input_feeding=reference.input_feeding,
        dtype=dtype,
    )
    decoder = AttentionDecoder(cell, dtype=dtype, **arguments)
    shapes = {f"{name}_shape": shapes_of(inputs[name]) for name in inputs}
    decoder.build(**shapes)
    for variables, arrays in weights_of(decoder, reference):
        set_weights(variables, arrays)
    return decoder


def shapes_of(array):
    return [one.shape for one in array] if isinstance(array, list) else array.shape


def weights_of(decoder, reference):
    """Pairs of the decoder's variables and the reference's arrays by name, part by part."""
    cell = decoder.cell
    cells = cell.cell.cells if len(reference.layers) > 1 else [cell.cell]
    parts = [
        (keras_cell.trainable_weights, layer.weights)
        for keras_cell, layer in zip(cells, reference.layers, strict=True)
    ]
    parts += weights_of_attention(cell.attention, reference.attention)
    parts.append((cell.attention_vector.trainable_weights, reference.vector.weights))
    assert sum(len(part) for part, _ in parts) == len(decoder.trainable_weights)
    return parts


def random_inputs(
    dtype,
    memory_depth=MEMORY_DEPTH,
    batch=BATCH,
    target=TARGET,
    source=SOURCE,
    sources=1,
    with_key=False,
):
    """Sequences and memory, several of them for several sources."""
    lengths = [source, 4, 3][:sources]
    depth = VALUE_DEPTH if with_key else memory_depth
    memories = [random(batch, length, depth + i) for i, length in enumerate(lengths)]
    inputs = {
        "sequences": random(batch, target, INPUT_DEPTH),
        "memory": memories if sources > 1 else memories[0],
    }
    if with_key:
        keys = [random(batch, one, memory_depth + i, seed=1) for i, one in enumerate(lengths)]
        inputs["memory_key"] = keys if sources > 1 else keys[0]
    return keras.tree.map_structure(lambda array: array.astype(dtype), inputs)


def random_states(reference, dtype, batch=BATCH):
    """Initial states in the wrapped cell's structure, from a cell that did not start at zero."""
    states = [
        [
            random(batch, len(layer.weights["recurrent_kernel"]), seed=20 + 2 * index + state)
            for state in range(layer.state_count)
        ]
        for index, layer in enumerate(reference.layers)
    ]
    states = keras.tree.map_structure(lambda state: state.astype(dtype), states)
    return states if len(states) > 1 else states[0]


def both_masks(sources=1):
    several = [SOURCE_MASK, *OTHER_MASKS][:sources]
    return {
        "sequences_mask": TARGET_MASK,
        "memory_mask": several if sources > 1 else SOURCE_MASK,
    }


def expected_outputs(reference, inputs, masks, initial_state=None):
    """Vectors, scores and states in the order of the layer, from the reference."""
    decoded = decode(
        reference,
        inputs["sequences"],
        inputs["memory"],
        inputs.get("memory_key"),
        None if initial_state is None else keras.tree.flatten(initial_state),
        masks.get("sequences_mask"),
        masks.get("memory_mask"),
    )
    fed_back = [decoded.last_vector] if reference.input_feeding else []
    attended = [decoded.attention_state] if reference.attention.has_state else []
    steps = np.full(len(decoded.vectors), decoded.vectors.shape[1], "int32")  # masked ones too
    position = [steps] if reference.attention.needs_position else []
    return [decoded.vectors, decoded.scores, *decoded.states, *fed_back, *attended, *position]


# ---------------------------------------------------------------------------------------------
# Worked by hand
# ---------------------------------------------------------------------------------------------


# A location score of zeros gives both source states the weight 1/2: the context is (2 + 4) / 2 = 3.
# The cell is linear, h_t = [x_t; v_(t-1)] [1, 2]^T + h_(t-1), so is v_t = [c_t; h_t] [1, 10]^T, and
# x is 1 at each of three steps, the middle one masked.
# With input feeding:   h_1 = 1 + 2 0 + 0 = 1,     v_1 = 3 + 10 1 = 13;
#                       h_3 = 1 + 2 13 + 1 = 28,   v_3 = 3 + 10 28 = 283.
# Without:              h_1 = 1 + 0 = 1,           v_1 = 13;
#                       h_3 = 1 + 1 = 2,           v_3 = 3 + 10 2 = 23.
@pytest.mark.parametrize(
    ("input_feeding", "expected", "states"),
    [(True, [13.0, 0.0, 283.0], [28.0, 283.0]), (False, [13.0, 0.0, 23.0], [2.0])],
)
def test_example_worked_by_hand(input_feeding, expected, states):
    cell = AttentionDecoderCell(
        keras.layers.SimpleRNNCell(1, activation="linear", use_bias=False),
        LuongAttention("location", max_source_length=2),
        units=1,
        attention_activation="linear",
        input_feeding=input_feeding,
    )
    decoder = AttentionDecoder(cell, return_state=True)
    decoder.build((1, 3, 1), (1, 2, 1))
    kernel = np.array([[1.0], [2.0]] if input_feeding else [[1.0]])
    set_weights(
        cell.cell.trainable_weights, {"kernel": kernel, "recurrent_kernel": np.ones((1, 1))}
    )
    set_weights(cell.attention.trainable_weights, {"kernel": np.zeros((1, 2))})
    cell.attention_vector.kernel.assign([[1.0], [10.0]])

    vectors, *last_states = decoder(
        np.ones((1, 3, 1), "float32"),
        np.array([[[2.0], [4.0]]], "float32"),
        sequences_mask=np.array([[True, False, True]]),
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(vectors)[0, :, 0], expected, rtol=1e-6)
    for state, wanted in zip(last_states, states, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(state), [[wanted]], rtol=1e-6)


# ---------------------------------------------------------------------------------------------
# Against the reference
# ---------------------------------------------------------------------------------------------

# Every cell, two of them without masks and initial state too; then every kind of attention and of
# vector, in pairs. Attention with a state, and every cell, with input feeding on and off, the rest
# in turn.
PAIRS = [
    ("lstm", "dot_scale", "plain", False),
    ("gru", "concat_bias", "linear", False),
    ("lstm", "location_scale_bias", "bias", False),
    (STACK, "concat", "none", False),
    ("gru", "general", "plain", True),
    ("gru", "tutorial", "two_layer", False),
    ("lstm", "local_m", "gate_context", False),
    ("simple_rnn", "local_p", "gate_source", True),
    ("gru", "sparsemax", "gate_target", False),
    ("gru", "hardmax", "gate_both", False),
    ("simple_rnn", "normalize", "gate_both_linear", False),
    ("gru", "two_windows", "gate_target", False),
    ("gru", "local_m", "none", True),
]
PAIRS_WITH_STATE = [
    (STACK, "coverage", "plain", False),
    ("gru", "coverage_local_m_hardmax", "none", True),
    ("gru", "coverage_everything", "gate_context_two_layer", False),
    ("gru", "normalize_coverage_sparsemax", "gate_source", False),
    (RESIDUAL_STACK, "monotonic", "gate_context_none", False),
    ("lstm", "monotonic_hard", "plain", False),
    ("gru", "monotonic_location", "two_layer_linear", True),
    ("gru", "state_beside_none", "none", True),
    ("lstm", "three_states", "gate_context_bias", False),
]


def pair(row):
    return dict(zip(("cell", "attention", "vector", "key"), row, strict=True))


CASES = [
    *(
        ({"cell": cell}, True, on)
        for cell in [*CELLS, STACK, RESIDUAL_STACK]
        for on in (True, False)
    ),
    *(({"cell": cell}, False, on) for cell in ("lstm", STACK) for on in (True, False)),
    *((pair(row), True, index % 2 == 0) for index, row in enumerate(PAIRS)),
    *((pair(row), True, on) for row in PAIRS_WITH_STATE for on in (True, False)),
]


def check_decoder(dtype, both, input_feeding, cell, attention="general", vector="plain", key=False):
    row = ATTENTIONS[attention]
    sources = len(row) if isinstance(row, list) else 1
    memory_depth = CELL_UNITS if attention.startswith("dot") else MEMORY_DEPTH
    reference = random_reference(
        cell,
        row,
        VECTORS[vector],
        input_feeding=input_feeding,
        memory_depth=memory_depth,
        value_depth=VALUE_DEPTH if key else None,
    )
    masks = both_masks(sources) if both else {}
    inputs = random_inputs(dtype, memory_depth, sources=sources, with_key=key)
    decoder = keras_decoder(reference, dtype, inputs, return_state=True)
    inputs = put_garbage(inputs, masks)
    initial_state = random_states(reference, dtype) if both else None
    expected = expected_outputs(reference, inputs, masks, initial_state)
    assert all(np.isfinite(array).all() for array in expected)

    actual = call(decoder, inputs, masks, initial_state=initial_state)
    assert_equal_numbers(actual, expected, dtype)
    if both:
        vectors, scores, *states = actual
        kept = side_by_side(masks["memory_mask"])
        assert not vectors[~TARGET_MASK].any() and not scores[~TARGET_MASK].any()
        assert not scores[~np.broadcast_to(kept[:, None], scores.shape)].any()
        # The last sentence has no target: its states are the initial ones, untouched.
        for state, wanted in zip(states, keras.tree.flatten(initial_state), strict=False):
            np.testing.assert_array_equal(state[-1], wanted[-1])


@each_dtype
@pytest.mark.parametrize(("options", "both", "input_feeding"), CASES, ids=str)
def test_ragged_batch_with_garbage_in_the_padding(options, both, input_feeding, dtype):
    check_decoder(dtype, both, input_feeding, **options)


@pytest.mark.parametrize("input_feeding", [True, False])
@pytest.mark.parametrize("mask", ["sequences_mask", "memory_mask"])
def test_one_mask_alone(mask, input_feeding):
    reference = random_reference(input_feeding=input_feeding)
    decoder = keras_decoder(reference, return_state=True)
    masks = {mask: both_masks()[mask]}
    inputs = put_garbage(random_inputs("float32"), masks)
    expected = expected_outputs(reference, inputs, masks)
    assert_equal_numbers(call(decoder, inputs, masks), expected, "float32")


OUTPUTS = [(True, *flags) for flags in itertools.product((True, False), repeat=3)]


@pytest.mark.parametrize(
    ("input_feeding", "return_sequences", "return_state", "with_scores"),
    [*OUTPUTS, (False, False, True, True), (False, True, False, False)],
)
def test_outputs_and_their_order(input_feeding, return_sequences, return_state, with_scores):
    reference = random_reference(input_feeding=input_feeding)
    decoder = keras_decoder(reference, return_sequences=return_sequences, return_state=return_state)
    masks = both_masks()
    inputs = put_garbage(random_inputs("float32"), masks)
    vectors, scores, *states = expected_outputs(reference, inputs, masks)
    if not return_sequences:
        # The last kept step of each sentence; zeros where there is none.
        last = [3, 2, 2, 2, 3]
        vectors, scores = vectors[np.arange(BATCH), last], scores[np.arange(BATCH), last]
    expected = [vectors, *([scores] * with_scores), *(states * return_state)]

    outputs = decoder(**inputs, **masks, return_attention_scores=with_scores)
    outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    actual = [keras.ops.convert_to_numpy(output) for output in outputs]
    assert_equal_numbers(actual, expected, "float32")


def test_last_step_without_a_mask():
    reference = random_reference()
    inputs = random_inputs("float32")
    expected = expected_outputs(reference, inputs, {})
    actual = call(keras_decoder(reference, return_sequences=False), inputs, {})
    assert_equal_numbers(actual, [array[:, -1] for array in expected[:2]], "float32")


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("input_feeding", [True, False])
def test_source_axis_of_size_zero(input_feeding, masked):
    reference = random_reference(input_feeding=input_feeding)
    decoder = keras_decoder(reference, return_state=True)
    inputs = random_inputs("float32", source=0)
    masks = {"memory_mask": np.zeros((BATCH, 0), bool)} if masked else {}
    expected = expected_outputs(reference, inputs, masks)
    assert_equal_numbers(call(decoder, inputs, masks), expected, "float32")


# A GRU: Keras' own `LSTMCell` fails on TensorFlow when the batch is known to be empty.
@pytest.mark.parametrize("input_feeding", [True, False])
def test_batch_of_size_zero(input_feeding):
    reference = random_reference("gru", input_feeding=input_feeding)
    decoder = keras_decoder(reference, return_state=True)
    inputs = {name: array[:0] for name, array in random_inputs("float32").items()}
    masks = {name: mask[:0] for name, mask in both_masks().items()}
    shapes = [(0, TARGET, UNITS), (0, TARGET, SOURCE), (0, CELL_UNITS)]
    expected = [np.zeros(shape) for shape in [*shapes, *([(0, UNITS)] * input_feeding)]]
    assert_equal_numbers(call(decoder, inputs, masks), expected, "float32")


# What `predict` compiles, with unknown lengths, is another loop than the one that runs eagerly.
@pytest.mark.parametrize(
    "options",
    [
        {"cell": STACK},
        {"cell": "gru", "input_feeding": False},
        {"cell": "gru", "attention": ATTENTIONS["coverage"], "vector": VECTORS["gate_both"]},
        {"cell": "gru", "attention": ATTENTIONS["monotonic"]},
        {"cell": "gru", "attention": ATTENTIONS["monotonic_location"]},
        {"cell": "gru", "attention": ATTENTIONS["monotonic"], "input_feeding": False},
    ],
    ids=str,
)
def test_compiled_with_unknown_lengths(options):
    reference = random_reference(**options)
    decoder = keras_decoder(reference, return_state=True)
    tensors = {
        "sequences": keras.Input((None, INPUT_DEPTH)),
        "memory": keras.Input((None, MEMORY_DEPTH)),
        "sequences_mask": keras.Input((None,), dtype="bool"),
        "memory_mask": keras.Input((None,), dtype="bool"),
    }
    model = keras.Model(list(tensors.values()), decoder(**tensors, return_attention_scores=True))
    masks = both_masks()
    inputs = put_garbage(random_inputs("float32"), masks)
    expected = expected_outputs(reference, inputs, masks)
    actual = model.predict([*inputs.values(), *masks.values()], verbose=0)
    assert_equal_numbers(actual, expected, "float32")


# ---------------------------------------------------------------------------------------------
# Invariances
# ---------------------------------------------------------------------------------------------


@pytest.fixture(
    params=[("concat", True), ("coverage", True), ("monotonic", False), ("concat", False)], ids=str
)
def masked_call(request):
    """A decoder with random weights, its clean inputs, masks and initial state, in float32."""
    reference = random_reference(
        attention=ATTENTIONS[request.param[0]], input_feeding=request.param[1]
    )
    decoder = keras_decoder(reference, return_state=True)
    states = random_states(reference, "float32")
    return decoder, random_inputs("float32"), both_masks(), states


def test_padding_content_does_not_matter(masked_call):
    decoder, inputs, masks, states = masked_call
    zeros = put_garbage(inputs, masks, garbage=(0.0,))
    expected = call(decoder, zeros, masks, initial_state=states)
    for garbage in (np.nan, -np.inf, 1.0):
        poisoned = put_garbage(inputs, masks, garbage=(garbage,))
        actual = call(decoder, poisoned, masks, initial_state=states)
        for got, wanted in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_extra_padding_columns_do_not_matter(masked_call):
    decoder, inputs, masks, states = masked_call
    expected = call(decoder, put_garbage(inputs, masks), masks, initial_state=states)
    longer = {
        name: np.pad(array, ((0, 0), (0, 2), (0, 0)), constant_values=np.nan)
        for name, array in put_garbage(inputs, masks).items()
    }
    longer_masks = {name: np.pad(mask, ((0, 0), (0, 2))) for name, mask in masks.items()}
    actual = call(decoder, longer, longer_masks, initial_state=states)
    assert not actual[0][:, TARGET:].any()
    assert not actual[1][:, TARGET:].any() and not actual[1][..., SOURCE:].any()
    actual[:2] = actual[0][:, :TARGET], actual[1][:, :TARGET, :SOURCE]
    if decoder.cell.attention.has_state:
        assert not actual[-1][:, SOURCE:].any()
        actual[-1] = actual[-1][:, :SOURCE]
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


def test_batch_mates_do_not_matter(masked_call):
    decoder, inputs, masks, states = masked_call
    inputs = put_garbage(inputs, masks)
    together = call(decoder, inputs, masks, initial_state=states)
    for b in (0, 1, 2):
        alone = call(
            decoder,
            {name: array[b : b + 1] for name, array in inputs.items()},
            {name: mask[b : b + 1] for name, mask in masks.items()},
            initial_state=[state[b : b + 1] for state in states],
        )
        for got, wanted in zip(alone, together, strict=True):
            np.testing.assert_allclose(got[0], wanted[b], rtol=0, atol=1e-6)


# ---------------------------------------------------------------------------------------------
# Gradients
# ---------------------------------------------------------------------------------------------


# Small enough for differences: three sentences of a full, an empty and a short source, the first
# target with a hole, the last padded on the left. Depth 2 is that of memory, cell and vector.
SMALL_MASKS = {
    "sequences_mask": np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]], bool),
    "memory_mask": ragged_mask((3, 0, 1), 3),
}


def small_reference(cell, attention, vector, input_feeding):
    vector = {"units": 2, **VECTORS[vector]}
    return random_reference(cell, ATTENTIONS[attention], vector, input_feeding, 2, 2)


def check_gradients(reference, gradients):
    """Loss and gradients, for every input, state and weight, are those of the reference."""
    dtype = "float32" if why_not("float64") else "float64"
    inputs = random_inputs(dtype, 2, batch=3, target=3, source=3)
    decoder = keras_decoder(reference, dtype, inputs, return_state=True)
    inputs = put_garbage(inputs, SMALL_MASKS, garbage=(np.nan,))
    initial_state = random_states(reference, dtype, batch=3)
    states = keras.tree.flatten(initial_state)
    expected = expected_outputs(reference, inputs, SMALL_MASKS, states)
    upstream = [random(*one.shape, seed=i).astype(dtype) for i, one in enumerate(expected)]

    def reference_loss():
        outputs = expected_outputs(reference, inputs, SMALL_MASKS, states)
        return sum(np.sum(a * b) for a, b in zip(upstream, outputs, strict=True))

    def loss(sequences, memory, *flat_states):
        outputs = decoder(
            sequences,
            memory,
            initial_state=keras.tree.pack_sequence_as(initial_state, list(flat_states)),
            **SMALL_MASKS,
            return_attention_scores=True,
        )
        return sum(
            keras.ops.sum(a * keras.ops.convert_to_tensor(b))
            for a, b in zip(outputs, upstream, strict=True)
        )

    pairs = variables_and_arrays(weights_of(decoder, reference))
    variables = [variable for variable, _ in pairs]
    actual = gradients(loss, [*inputs.values(), *states], variables)
    # The differences are those of the reference, in float64, at the same point.
    inputs = {name: array.astype("float64") for name, array in inputs.items()}
    states = [state.astype("float64") for state in states]
    arrays = [[*inputs.values(), *states], [array for _, array in pairs]]
    assert_equal_gradients(actual, arrays, reference_loss, dtype)
    assert not actual[0][0][~SMALL_MASKS["sequences_mask"]].any()
    assert not actual[0][1][~SMALL_MASKS["memory_mask"]].any()


@pytest.mark.parametrize(
    ("cell", "attention", "vector", "input_feeding"),
    [
        ("lstm", "general_scale", "plain", True),
        ("gru", "concat", "bias", False),
        (STACK, "location_bias", "none", True),
        ("simple_rnn", "dot", "plain", False),
        ("gru", "local_p", "gate_context", True),
        ("gru", "sparsemax", "gate_source", True),
        ("simple_rnn", "tutorial", "gate_target", False),
        ("gru", "normalize", "gate_both", True),
        ("gru", "coverage", "two_layer", True),
        ("simple_rnn", "coverage", "plain", False),
        ("gru", "monotonic", "plain", True),
        ("gru", "monotonic_normalize", "gate_both", False),
        (RESIDUAL_STACK, "monotonic_location", "none", True),
    ],
    ids=str,
)
def test_gradients_are_the_central_differences(cell, attention, vector, input_feeding):
    check_gradients(small_reference(cell, attention, vector, input_feeding), automatic_gradients)


def xla_gradients(loss, inputs, variables):
    """As `automatic_gradients`, in one XLA program, whose forward pass is the loss itself."""
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def run(tensors):
        values = [variable.value for variable in variables]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = loss(*tensors)
        return tape.gradient(result, [tensors, values], unconnected_gradients="zero")

    groups = run([tf.constant(array) for array in inputs])
    return [[keras.ops.convert_to_numpy(one) for one in group] for group in groups]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compiles with TensorFlow")
@pytest.mark.parametrize("attention", ["coverage", "monotonic"])
def test_gradients_through_xla(attention):
    check_gradients(small_reference("gru", attention, "plain", True), xla_gradients)
