"""`AttentionDecoder` against the equations: numbers, gradients and what must not change them."""

import itertools

import keras
import numpy as np
import pytest

from keras_luong.layers import AttentionDecoder, AttentionDecoderCell, LuongAttention
from tests.reference import (
    Decoder,
    Layer,
    automatic_gradients,
    central_differences,
    decode,
    gru_step,
    lstm_step,
    ragged_mask,
    set_weights,
    simple_rnn_step,
    why_not,
    with_garbage,
)

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
GRADIENT_TOLERANCE = {"float32": 1e-4, "float64": 1e-6}
INPUT_DEPTH, MEMORY_DEPTH, CELL_UNITS, UNITS, MAX_SOURCE_LENGTH = 2, 5, 4, 3, 8

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


@pytest.fixture(params=TOLERANCE)
def dtype(request):
    """Both precisions, where the backend at hand has them."""
    if why_not(request.param):
        pytest.skip(why_not(request.param))
    return request.param


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def exact_tanh(x):
    """Hyperbolic tangent in the precision of `x`; `keras.ops.tanh` on JAX falls to float32."""
    return 2.0 * keras.ops.sigmoid(2.0 * x) - 1.0


def random_reference(
    cell="lstm",
    score_mode="general",
    units=UNITS,
    use_scale=False,
    attention_bias=False,
    use_bias=False,
    activation="tanh",
    input_feeding=True,
    cell_units=CELL_UNITS,
    memory_depth=MEMORY_DEPTH,
):
    """The reference decoder with random weights; a stack's lower layer is one unit narrower."""
    names = (cell,) if isinstance(cell, str) else cell
    depth = INPUT_DEPTH
    if input_feeding:
        depth += memory_depth if units is None else units
    layers = []
    for index, name in enumerate(names):
        _, step, gates, state_count, biases = CELLS[name]
        size = cell_units - (len(names) - 1 - index)
        weights = {
            "kernel": 0.7 * random(depth, gates * size, seed=index),
            "recurrent_kernel": 0.7 * random(size, gates * size, seed=index),
            "bias": random(*([biases] if biases > 1 else []), gates * size, seed=index),
        }
        layers.append(Layer(step, weights, state_count))
        depth = size
    shapes = {
        "dot": {},
        "general": {"kernel": (memory_depth, depth)},
        "concat": {"query_kernel": (depth, 6), "key_kernel": (memory_depth, 6), "v": (6,)},
        "location": {"kernel": (depth, MAX_SOURCE_LENGTH)},
    }[score_mode]
    if attention_bias:
        shapes["bias"] = (6,) if score_mode == "concat" else (MAX_SOURCE_LENGTH,)
    attention_weights = {name: random(*shape, seed=7) for name, shape in shapes.items()}
    if use_scale:
        attention_weights["scale"] = np.array(1.7)
    return Decoder(
        layers,
        score_mode,
        attention_weights,
        kernel=None if units is None else random(memory_depth + depth, units, seed=8),
        bias=random(units, seed=9) if use_bias else None,
        activation=activation,
        input_feeding=input_feeding,
    )


def keras_decoder(reference, memory_depth=MEMORY_DEPTH, dtype="float32", **arguments):
    """The same decoder in Keras, built, with the reference's weights."""
    classes = {step: (layer, count) for layer, step, _, count, _ in CELLS.values()}
    activation = {"activation": exact_tanh} if dtype == "float64" else {}
    cells = [
        classes[layer.step][0](len(layer.weights["recurrent_kernel"]), dtype=dtype, **activation)
        for layer in reference.layers
    ]
    attention_weights = reference.attention_weights
    attention = LuongAttention(
        reference.score_mode,
        units=6 if reference.score_mode == "concat" else None,
        max_source_length=MAX_SOURCE_LENGTH if reference.score_mode == "location" else None,
        use_scale="scale" in attention_weights,
        use_bias="bias" in attention_weights,
        dtype=dtype,
    )
    cell = AttentionDecoderCell(
        cells[0] if len(cells) == 1 else keras.layers.StackedRNNCells(cells, dtype=dtype),
        attention,
        units=None if reference.kernel is None else reference.kernel.shape[-1],
        attention_activation=reference.activation,
        use_bias=reference.bias is not None,
        input_feeding=reference.input_feeding,
        dtype=dtype,
    )
    decoder = AttentionDecoder(cell, dtype=dtype, **arguments)
    decoder.build((BATCH, TARGET, INPUT_DEPTH), (BATCH, SOURCE, memory_depth))
    for variables, arrays in weights_of(decoder, reference):
        set_weights(variables, arrays)
    return decoder


def weights_of(decoder, reference):
    """Pairs of the decoder's variables and the reference's arrays by name, part by part."""
    cell = decoder.cell
    cells = cell.cell.cells if len(reference.layers) > 1 else [cell.cell]
    parts = [
        (keras_cell.trainable_weights, layer.weights)
        for keras_cell, layer in zip(cells, reference.layers, strict=True)
    ]
    parts.append((cell.attention.trainable_weights, reference.attention_weights))
    elsewhere = {id(variable) for variables, _ in parts for variable in variables}
    own = [variable for variable in decoder.trainable_weights if id(variable) not in elsewhere]
    arrays = {"kernel": reference.kernel, "bias": reference.bias}
    parts.append((own, {name: array for name, array in arrays.items() if array is not None}))
    return parts


def random_inputs(dtype, memory_depth=MEMORY_DEPTH, batch=BATCH, target=TARGET, source=SOURCE):
    return {
        "sequences": random(batch, target, INPUT_DEPTH).astype(dtype),
        "memory": random(batch, source, memory_depth).astype(dtype),
    }


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


def both_masks():
    return {"sequences_mask": TARGET_MASK, "memory_mask": SOURCE_MASK}


def put_garbage(inputs, masks, **garbage):
    """The inputs with garbage at every position that its mask drops."""
    return {
        name: with_garbage(array, masks[f"{name}_mask"], **garbage)
        if f"{name}_mask" in masks
        else array
        for name, array in inputs.items()
    }


def expected_outputs(reference, inputs, masks, initial_state=None):
    """Vectors, scores and states in the order of the layer, from the reference."""
    decoded = decode(
        reference,
        inputs["sequences"],
        inputs["memory"],
        None if initial_state is None else keras.tree.flatten(initial_state),
        masks.get("sequences_mask"),
        masks.get("memory_mask"),
    )
    fed_back = [decoded.last_vector] if reference.input_feeding else []
    return [decoded.vectors, decoded.scores, *decoded.states, *fed_back]


def call(decoder, inputs, masks, **arguments):
    """All outputs of a decoder with scores, as NumPy arrays."""
    outputs = decoder(**inputs, **masks, return_attention_scores=True, **arguments)
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def assert_equal_numbers(actual, expected, dtype):
    for got, wanted in zip(actual, expected, strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == dtype
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE[dtype])


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
    cell.kernel.assign([[1.0], [10.0]])

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

# Every cell with input feeding on and off, with and without masks and initial state; then the other
# options, each with input feeding on and off.
CASES = [
    (options, both)
    for options, both in itertools.product(
        [{"cell": cell} for cell in [*CELLS, STACK]], (False, True)
    )
] + [
    (options, True)
    for options in [
        {"units": None},
        {"units": None, "cell": STACK, "score_mode": "concat"},
        {"activation": "linear", "use_bias": True, "cell": "gru"},
        {"use_bias": True, "use_scale": True},
        {"score_mode": "dot", "use_scale": True},
        {"score_mode": "concat", "attention_bias": True, "cell": "gru"},
        {"score_mode": "location", "attention_bias": True, "use_scale": True},
    ]
]


@pytest.mark.parametrize("input_feeding", [True, False])
@pytest.mark.parametrize(("options", "both"), CASES, ids=str)
def test_ragged_batch_with_garbage_in_the_padding(options, both, input_feeding, dtype):
    memory_depth = CELL_UNITS if options.get("score_mode") == "dot" else MEMORY_DEPTH
    reference = random_reference(**options, input_feeding=input_feeding, memory_depth=memory_depth)
    decoder = keras_decoder(reference, memory_depth, dtype, return_state=True)
    masks = both_masks() if both else {}
    inputs = put_garbage(random_inputs(dtype, memory_depth), masks)
    initial_state = random_states(reference, dtype) if both else None
    expected = expected_outputs(reference, inputs, masks, initial_state)
    assert all(np.isfinite(array).all() for array in expected)

    actual = call(decoder, inputs, masks, initial_state=initial_state)
    assert_equal_numbers(actual, expected, dtype)
    if both:
        vectors, scores, *states = actual
        assert not vectors[~TARGET_MASK].any() and not scores[~TARGET_MASK].any()
        assert not scores[~np.broadcast_to(SOURCE_MASK[:, None], scores.shape)].any()
        # The last sentence has no target: its states are the initial ones, untouched.
        for state, wanted in zip(states, keras.tree.flatten(initial_state), strict=False):
            np.testing.assert_array_equal(state[-1], wanted[-1])


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
@pytest.mark.parametrize("options", [{"cell": STACK}, {"cell": "gru", "input_feeding": False}])
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


@pytest.fixture(params=[True, False], ids=["input_feeding", "no_input_feeding"])
def masked_call(request):
    """A decoder with random weights, its clean inputs, masks and initial state, in float32."""
    reference = random_reference(score_mode="concat", input_feeding=request.param)
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
@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "score_mode": "general", "use_scale": True},
        {"cell": "gru", "score_mode": "concat", "input_feeding": False, "use_bias": True},
        {"cell": STACK, "score_mode": "location", "attention_bias": True, "units": None},
        {"cell": "simple_rnn", "score_mode": "dot", "input_feeding": False},
    ],
    ids=str,
)
def test_gradients_are_the_central_differences(options):
    dtype = "float32" if why_not("float64") else "float64"
    reference = random_reference(**{"units": 2, **options}, cell_units=2, memory_depth=2)
    decoder = keras_decoder(reference, 2, dtype, return_state=True)
    masks = {
        "sequences_mask": np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]], bool),
        "memory_mask": ragged_mask((3, 0, 1), 3),
    }
    inputs = random_inputs(dtype, 2, batch=3, target=3, source=3)
    inputs = put_garbage(inputs, masks, garbage=(np.nan,))
    initial_state = random_states(reference, dtype, batch=3)
    states = keras.tree.flatten(initial_state)
    shapes = [array.shape for array in expected_outputs(reference, inputs, masks, states)]
    upstream = [random(*shape, seed=i).astype(dtype) for i, shape in enumerate(shapes)]

    def reference_loss():
        outputs = expected_outputs(reference, inputs, masks, states)
        return sum(np.sum(a * b) for a, b in zip(upstream, outputs, strict=True))

    def loss(sequences, memory, *flat_states):
        outputs = decoder(
            sequences,
            memory,
            initial_state=keras.tree.pack_sequence_as(initial_state, list(flat_states)),
            **masks,
            return_attention_scores=True,
        )
        return sum(
            keras.ops.sum(a * keras.ops.convert_to_tensor(b))
            for a, b in zip(outputs, upstream, strict=True)
        )

    pairs = [
        (variable, arrays[variable.name])
        for variables, arrays in weights_of(decoder, reference)
        for variable in variables
    ]
    variables = [variable for variable, _ in pairs]
    actual = automatic_gradients(loss, [*inputs.values(), *states], variables)
    # The differences are those of the reference, in float64, at the same point.
    inputs = {name: array.astype("float64") for name, array in inputs.items()}
    states = [state.astype("float64") for state in states]
    arrays = [[*inputs.values(), *states], [array for _, array in pairs]]
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
    assert not actual[0][0][~masks["sequences_mask"]].any()
    assert not actual[0][1][~masks["memory_mask"]].any()
