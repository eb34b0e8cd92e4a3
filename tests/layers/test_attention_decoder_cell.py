"""`AttentionDecoderCell` as a Keras layer: options, errors, states, beams, saving, precision."""

import keras
import numpy as np
import pytest

from keras_luong.layers import AttentionDecoder, AttentionDecoderCell, LuongAttention
from tests.layers.layer_checks import (
    POLICIES,
    OwnCell,
    check_config,
    dtype_of,
    stacked_cells,
    to_numpy,
)

INPUT_DEPTH, MEMORY_DEPTH, CELL_UNITS, UNITS = 3, 5, 4, 6


# The wrapped cell and the depths of its states.
CELLS = {
    "lstm": (lambda: keras.layers.LSTMCell(CELL_UNITS), [4, 4]),
    "gru": (lambda: keras.layers.GRUCell(CELL_UNITS), [4]),
    "simple_rnn": (lambda: keras.layers.SimpleRNNCell(CELL_UNITS), [4]),
    "stacked": (stacked_cells, [3, 3, 4]),
    "own": (lambda: OwnCell(CELL_UNITS), [4, 2]),
}
each_cell = pytest.mark.parametrize(("make", "depths"), CELLS.values(), ids=CELLS)


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def built(cell=None, units=UNITS, attention=None, **options):
    cell = AttentionDecoderCell(
        cell or keras.layers.GRUCell(CELL_UNITS), attention or LuongAttention(), units, **options
    )
    cell.build((None, INPUT_DEPTH), memory_shape=(None, None, MEMORY_DEPTH))
    return cell


# ---------------------------------------------------------------------------------------------
# What every layer does
# ---------------------------------------------------------------------------------------------


@each_cell
def test_config(make, depths):
    check_config(
        AttentionDecoderCell(
            make(),
            LuongAttention("concat", units=7),
            units=UNITS,
            attention_activation="relu",
            use_bias=True,
            input_feeding=False,
            name="cell",
        )
    )


def test_config_without_an_attention_vector():
    check_config(AttentionDecoderCell(keras.layers.GRUCell(4), LuongAttention(), None))


@pytest.mark.parametrize("policy", POLICIES)
@each_cell
def test_precision(make, depths, policy):
    keras.config.set_dtype_policy(policy)
    cell = built(make(), use_bias=True)
    memory = cell.prepare(random(2, 5, MEMORY_DEPTH))
    states = cell.initial_states(memory)
    outputs = cell(random(2, INPUT_DEPTH), states, memory=memory, return_attention_scores=True)
    assert {dtype_of(variable) for variable in cell.trainable_variables} == {"float32"}
    compute = keras.dtype_policies.get(policy).compute_dtype
    assert {dtype_of(one) for one in keras.tree.flatten(outputs)} == {compute}
    assert all(np.isfinite(one).all() for one in to_numpy(outputs))


# ---------------------------------------------------------------------------------------------
# States
# ---------------------------------------------------------------------------------------------


@each_cell
@pytest.mark.parametrize("input_feeding", [True, False])
def test_states_are_those_of_the_cell_then_the_attention_vector(make, depths, input_feeding):
    cell = built(make(), input_feeding=input_feeding)
    expected = depths + [UNITS] * input_feeding
    assert cell.state_size == expected and cell.output_size == UNITS
    memory = cell.prepare(random(2, 5, MEMORY_DEPTH))
    states = cell.initial_states(memory)
    vector, new_states = cell(random(2, INPUT_DEPTH), states, memory=memory)
    assert tuple(vector.shape) == (2, UNITS)
    for group in (states, new_states):
        assert [tuple(state.shape) for state in group] == [(2, size) for size in expected]
    assert not any(one.any() for one in to_numpy(states))
    if input_feeding:
        np.testing.assert_array_equal(*to_numpy([new_states[-1], vector]))


def test_without_units_the_context_is_the_output():
    cell = built(units=None)
    memory = cell.prepare(random(2, 5, MEMORY_DEPTH))
    vector, states, scores = cell(
        random(2, INPUT_DEPTH),
        cell.initial_states(memory),
        memory=memory,
        return_attention_scores=True,
    )
    vector, scores, values, fed_back = to_numpy([vector, scores, memory.values, states[-1]])
    np.testing.assert_allclose(vector, np.einsum("bs,bsd->bd", scores, values), atol=1e-6)
    np.testing.assert_array_equal(fed_back, vector)


# ---------------------------------------------------------------------------------------------
# Beams: k hypotheses a sentence share its memory
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score_mode", ["dot", "general", "concat", "location"])
@pytest.mark.parametrize("units", [UNITS, None])
def test_beams_equal_calls_one_by_one(score_mode, units):
    batch, beams, source = 2, 3, 5
    longest = 7 if score_mode == "location" else None
    attention = LuongAttention(score_mode, max_source_length=longest)
    width = MEMORY_DEPTH if score_mode == "dot" else CELL_UNITS
    cell = built(keras.layers.LSTMCell(width), units, attention)
    mask = np.array([[True] * 5, [True, True, False, False, False]])
    memory = cell.prepare(random(batch, source, MEMORY_DEPTH), mask)
    inputs = random(batch, beams, INPUT_DEPTH)
    states = [random(batch, beams, size, seed=index) for index, size in enumerate(cell.state_size)]

    def call(inputs, states):
        return to_numpy(cell(inputs, states, memory=memory, return_attention_scores=True))

    together = call(
        inputs.reshape(batch * beams, -1),
        [state.reshape(batch * beams, -1) for state in states],
    )
    for k in range(beams):
        alone = call(inputs[:, k], [state[:, k] for state in states])
        for one, all_beams in zip(alone, together, strict=True):
            all_beams = all_beams.reshape(batch, beams, -1)
            np.testing.assert_allclose(all_beams[:, k], one, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbolic", [False, True])
def test_inside_a_plain_rnn_the_error_names_the_decoder(symbolic):
    sequences = keras.Input((None, INPUT_DEPTH)) if symbolic else random(2, 3, INPUT_DEPTH)
    cell = AttentionDecoderCell(keras.layers.GRUCell(CELL_UNITS), LuongAttention(), UNITS)
    with pytest.raises(ValueError, match=r"keras_luong\.AttentionDecoder\(cell\)"):
        keras.layers.RNN(cell)(sequences)


def test_a_built_cell_inside_a_plain_rnn_names_the_decoder_too():
    sequences = random(2, 3, INPUT_DEPTH)
    with pytest.raises(ValueError, match=r"keras_luong\.AttentionDecoder\(cell\)"):
        keras.layers.RNN(built())(sequences)
    # `RNN` tells its output's shape without a call of its cell: the error comes when it runs.
    inputs = keras.Input((None, INPUT_DEPTH))
    model = keras.Model(inputs, keras.layers.RNN(built())(inputs))
    with pytest.raises(ValueError, match=r"keras_luong\.AttentionDecoder\(cell\)"):
        model.predict(sequences, verbose=0)


def test_a_call_without_a_memory_is_refused():
    cell = built()
    with pytest.raises(ValueError, match=r"needs a memory.*AttentionDecoder.*cell\.prepare"):
        cell(random(2, INPUT_DEPTH), [np.zeros((2, size)) for size in cell.state_size])


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"cell": "lstm"}, ["cell", "recurrent cell", "'lstm'"]),
        ({"attention": keras.layers.Attention()}, ["attention", "LuongAttention", "Attention"]),
        ({"attention": "general"}, ["attention", "LuongAttention", "'general'"]),
        ({"units": 0}, ["units", "at least 1", "0"]),
        ({"units": None, "use_bias": True}, ["use_bias", "attention vector", "units=None"]),
    ],
    ids=["name", "keras_attention", "score", "units", "use_bias"],
)
def test_refused_options(changes, parts):
    options = {"cell": keras.layers.GRUCell(4), "attention": LuongAttention(), "units": 6}
    with pytest.raises(ValueError) as error:
        AttentionDecoderCell(**{**options, **changes})
    for part in parts:
        assert part in str(error.value)


def test_dot_names_the_depths_that_differ():
    cell = AttentionDecoderCell(keras.layers.GRUCell(CELL_UNITS), LuongAttention("dot"), UNITS)
    decoder = AttentionDecoder(cell)
    with pytest.raises(ValueError, match=r"query depth 4 and key depth 5.*general"):
        decoder(random(2, 3, INPUT_DEPTH), random(2, 4, MEMORY_DEPTH))
