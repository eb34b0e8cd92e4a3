"""`AttentionDecoder` as a Keras layer: errors, masks, states, dropout, threads, saving, training.

Its numbers are held in `test_attention_decoder_numbers.py`.
"""

import concurrent.futures
import threading

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.layers import AttentionDecoder, AttentionDecoderCell, LuongAttention
from tests.layers.layer_checks import (
    POLICIES,
    OwnCell,
    check_config,
    check_precision,
    check_saved,
    check_symbolic,
    check_training,
    functional_model,
    stacked_cells,
    symbolic_inputs,
    to_numpy,
)

BATCH, TARGET, SOURCE = 2, 3, 4
INPUT_DEPTH, MEMORY_DEPTH, CELL_UNITS, UNITS = 3, 5, 4, 6

without_torch = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="torch runs eagerly: nothing is compiled"
)


# The wrapped cell and its states in its own structure, as depths.
CELLS = {
    "lstm": (lambda: keras.layers.LSTMCell(CELL_UNITS), [4, 4]),
    "gru": (lambda: keras.layers.GRUCell(CELL_UNITS), [4]),
    "simple_rnn": (lambda: keras.layers.SimpleRNNCell(CELL_UNITS), [4]),
    "stacked": (stacked_cells, [[3, 3], [4]]),
    "own": (lambda: OwnCell(CELL_UNITS), [4, 2]),
}
each_cell = pytest.mark.parametrize(("make_cell", "sizes"), CELLS.values(), ids=CELLS)
each_feeding = pytest.mark.parametrize("input_feeding", [True, False])


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def make(cell=None, attention=None, units=UNITS, input_feeding=True, use_bias=False, **options):
    cell = keras.layers.LSTMCell(CELL_UNITS) if cell is None else cell
    attention = LuongAttention() if attention is None else attention
    return AttentionDecoder(
        AttentionDecoderCell(
            cell, attention, units, input_feeding=input_feeding, use_bias=use_bias
        ),
        **options,
    )


def arrays(sizes=None):
    """Call arguments with both masks, and states in the structure of `sizes` if given."""
    sequences_mask, memory_mask = np.ones((BATCH, TARGET), bool), np.ones((BATCH, SOURCE), bool)
    sequences_mask[0, 2] = memory_mask[1, 1:] = False
    named = {
        "sequences": random(BATCH, TARGET, INPUT_DEPTH),
        "memory": random(BATCH, SOURCE, MEMORY_DEPTH),
        "sequences_mask": sequences_mask,
        "memory_mask": memory_mask,
    }
    if sizes is not None:
        named["initial_state"] = keras.tree.map_structure(lambda n: random(BATCH, n), sizes)
    return named


# ---------------------------------------------------------------------------------------------
# What every layer does
# ---------------------------------------------------------------------------------------------


@each_cell
def test_config(make_cell, sizes):
    decoder = make(make_cell(), return_sequences=False, return_state=True, name="decoder")
    check_config(decoder)


@each_cell
@each_feeding
def test_symbolic_shapes(make_cell, sizes, input_feeding):
    decoder = make(make_cell(), input_feeding=input_feeding, return_state=True)
    check_symbolic(decoder, arrays(sizes), return_attention_scores=True)


def test_symbolic_shapes_of_other_options():
    last = make(return_sequences=False, return_state=True)
    check_symbolic(last, arrays(), return_attention_scores=True)
    check_symbolic(make(units=None), arrays())


@each_cell
@each_feeding
def test_saved_and_loaded(make_cell, sizes, input_feeding, tmp_path):
    decoder = make(make_cell(), input_feeding=input_feeding, use_bias=True, return_state=True)
    check_saved(decoder, arrays(sizes), tmp_path, return_attention_scores=True)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("score_mode", "options"),
    [
        ("general", {"return_state": True}),
        ("general", {"return_state": True, "input_feeding": False}),
        ("concat", {"units": None}),
    ],
    ids=str,
)
def test_precision(score_mode, options, policy):
    def made():
        return make(stacked_cells(), LuongAttention(score_mode), **options)

    check_precision(made, arrays([[3, 3], [4]]), policy, return_attention_scores=True)


@each_cell
@each_feeding
def test_a_training_step(make_cell, sizes, input_feeding):
    decoder = make(make_cell(), input_feeding=input_feeding, use_bias=True)
    check_training(decoder, arrays(sizes), jit_compile=keras.backend.backend() == "jax")


@without_torch
def test_a_training_step_the_other_way():
    # Compiled on TensorFlow, where that takes long, and eagerly on JAX, where that does.
    decoder = make(keras.layers.GRUCell(CELL_UNITS), input_feeding=False)
    check_training(decoder, arrays(), jit_compile=keras.backend.backend() != "jax")


# ---------------------------------------------------------------------------------------------
# Outputs
# ---------------------------------------------------------------------------------------------


@each_feeding
@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("training", [None, False, True])
def test_scores_do_not_change_the_other_outputs(input_feeding, return_sequences, training):
    decoder = make(
        input_feeding=input_feeding, return_sequences=return_sequences, return_state=True
    )
    plain = decoder(**arrays(), training=training)
    vectors, scores, *states = decoder(**arrays(), training=training, return_attention_scores=True)
    assert len(plain) == 1 + len(states) == (4 if input_feeding else 3)
    steps = (BATCH, TARGET) if return_sequences else (BATCH,)
    assert tuple(vectors.shape) == (*steps, UNITS) and tuple(scores.shape) == (*steps, SOURCE)
    for one, other in zip(to_numpy(plain), to_numpy([vectors, *states]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(
        to_numpy(scores)[0].sum(axis=-1),
        arrays()["sequences_mask"] if return_sequences else 1.0,
        atol=1e-6,
    )


def test_a_single_output_is_a_tensor_and_several_are_a_tuple():
    assert tuple(make()(**arrays()).shape) == (BATCH, TARGET, UNITS)
    assert isinstance(make(return_state=True)(**arrays()), tuple)


@pytest.mark.parametrize("training", [False, True])
def test_a_model_with_scores_equals_the_eager_call(training):
    decoder = make(return_state=True)
    inputs = symbolic_inputs(arrays([4, 4]))
    model = keras.Model(inputs, decoder(**inputs, return_attention_scores=True))
    eager = decoder(**arrays([4, 4]), return_attention_scores=True)
    for one, other in zip(
        to_numpy(model(arrays([4, 4]), training=training)), to_numpy(eager), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [keras.layers.LSTMCell(4), "lstm", None], ids=str)
def test_a_cell_without_attention_is_refused(cell):
    with pytest.raises(ValueError, match=r"must be an AttentionDecoderCell.*Received: "):
        AttentionDecoder(cell)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"sequences": random(BATCH, INPUT_DEPTH)}, ["sequences", "rank 3", "(2, 3)"]),
        ({"sequences": random(BATCH, 1, 2, 3)}, ["sequences", "rank 3", "(2, 1, 2, 3)"]),
        ({"memory": random(BATCH, MEMORY_DEPTH)}, ["memory", "rank 3", "(2, 5)"]),
        ({"sequences_mask": np.ones((BATCH, 4), bool)}, ["sequences_mask", "(2, 3)", "(2, 4)"]),
        ({"sequences_mask": np.ones((BATCH,), bool)}, ["sequences_mask", "(2, 3)", "(2,)"]),
        ({"memory_mask": np.ones((BATCH, TARGET), bool)}, ["memory_mask", "(2, 4)", "(2, 3)"]),
        (
            {"memory_mask": np.ones((BATCH, SOURCE, 1), bool)},
            ["memory_mask", "(2, 4)", "(2, 4, 1)"],
        ),
    ],
    ids=str,
)
def test_refused_calls(changes, parts, symbolic):
    inputs = {**arrays(), **changes}
    inputs = symbolic_inputs(inputs, known=True) if symbolic else inputs
    with pytest.raises(ValueError) as error:
        make()(**inputs)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("cell", "state"),
    [
        ("lstm", random(BATCH, 4)),
        ("lstm", [random(BATCH, 4)]),
        ("lstm", [random(BATCH, 4), random(BATCH, 5)]),
        ("lstm", [random(BATCH, 4), random(BATCH, 4), random(BATCH, UNITS + 1)]),
        ("lstm", [random(BATCH, 1, 4), random(BATCH, 1, 4)]),
        ("gru", [random(BATCH, 4), random(BATCH, 4)]),
        ("stacked", [random(BATCH, 4), [random(BATCH, 3), random(BATCH, 3)]]),
        ("stacked", []),
    ],
    ids=["bare", "short", "depth", "with_vector", "rank", "long", "order", "empty"],
)
def test_an_initial_state_of_another_structure_is_refused(cell, state, symbolic):
    make_cell, sizes = CELLS[cell]
    inputs = {**arrays(), "initial_state": state}
    inputs = symbolic_inputs(inputs, known=True) if symbolic else inputs
    with pytest.raises(ValueError) as error:
        make(make_cell())(**inputs)
    shapes = [tuple(one.shape) for one in keras.tree.flatten(state)]
    for part in ("initial_state", str(keras.tree.flatten(sizes)), f"Received shapes: {shapes}"):
        assert part in str(error.value)


def test_a_position_is_no_float():
    # A float of 16 bits would stop counting.
    states = [random(BATCH, 4), random(BATCH, 4), random(BATCH, UNITS), np.zeros(BATCH, "float32")]
    decoder = make(attention=LuongAttention(window="local_m", window_size=1))
    with pytest.raises(ValueError, match=r"position .* integers\. Received dtype: float32"):
        decoder(**arrays(), initial_state=states)


@pytest.mark.parametrize("input_feeding", [True, False])
def test_sentences_of_the_two_sides_must_be_as_many(input_feeding):
    # Six sequences over two memories are not three beams each: those are a search's.
    with pytest.raises(ValueError, match=r"as many rows of memory.* 6\. Received 2\."):
        make(input_feeding=input_feeding)(
            random(6, TARGET, INPUT_DEPTH), random(2, SOURCE, MEMORY_DEPTH)
        )


@pytest.mark.parametrize("rows", [1, 3])
def test_as_many_initial_states_as_sentences(rows):
    states = [random(rows, CELL_UNITS)] * 2
    with pytest.raises(ValueError, match=rf"as many rows of initial_state.* 2\. Received {rows}\."):
        make()(**arrays(), initial_state=states)


@pytest.mark.parametrize("name", ["sequences_mask", "memory_mask"])
def test_a_list_is_no_mask(name):
    inputs = {**arrays(), name: arrays()[name].tolist()}
    with pytest.raises(TypeError, match=rf"takes a tensor or array for {name}. Received a list"):
        make()(**inputs)


def test_list_form_is_refused():
    with pytest.raises(TypeError) as error:
        make()([arrays()["sequences"], arrays()["memory"]])
    for part in ("AttentionDecoder", "layer(sequences, memory", "list of 2"):
        assert part in str(error.value)


def test_mask_argument_is_refused():
    inputs = {name: arrays()[name] for name in ("sequences", "memory")}
    with pytest.raises(TypeError) as error:
        make()(**inputs, mask=arrays()["sequences_mask"])
    for part in ("AttentionDecoder", "sequences_mask", "memory_mask", "mask="):
        assert part in str(error.value)


@pytest.mark.parametrize("symbolic", [False, True])
def test_location_refuses_a_longer_source(symbolic):
    decoder = make(attention=LuongAttention("location", max_source_length=SOURCE - 1))
    inputs = symbolic_inputs(arrays(), known=True) if symbolic else arrays()
    with pytest.raises(ValueError, match=r"max_source_length=3 was given a source of length 4"):
        decoder(**inputs)


# ---------------------------------------------------------------------------------------------
# Masks that tensors carry
# ---------------------------------------------------------------------------------------------


TARGET_IDS = np.array([[3, 4, 0], [5, 0, 0]], "int32")
SOURCE_IDS = np.array([[1, 2, 3, 0], [4, 0, 0, 0]], "int32")


@each_feeding
@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("in_a_model", [True, False])
def test_implicit_masks_equal_explicit_ones(input_feeding, with_state, in_a_model):
    embedding = keras.layers.Embedding(6, INPUT_DEPTH, mask_zero=True)
    decoder = make(input_feeding=input_feeding, return_state=True)
    state = [random(BATCH, CELL_UNITS)] * 2 if with_state else None

    def implicit(target_ids, source_ids, state):
        vectors, *states = decoder(
            embedding(target_ids), embedding(source_ids), initial_state=state
        )
        # The vectors carry the target's mask: pooling leaves the padding out.
        return [vectors, keras.layers.GlobalAveragePooling1D()(vectors), *states]

    if in_a_model:
        inputs = [
            keras.Input((None,), dtype="int32"),
            keras.Input((None,), dtype="int32"),
            [keras.Input((CELL_UNITS,)), keras.Input((CELL_UNITS,))] if with_state else None,
        ]
        given = [tensor for tensor in inputs if tensor is not None]
        values = [one for one in (TARGET_IDS, SOURCE_IDS, state) if one is not None]
        actual = keras.Model(given, implicit(*inputs))(values)
    else:
        actual = implicit(TARGET_IDS, SOURCE_IDS, state)
    actual, pooled = [actual[0], *actual[2:]], to_numpy(actual[1])[0]

    tensors = [ops.take(embedding.embeddings, ids, axis=0) for ids in (TARGET_IDS, SOURCE_IDS)]
    explicit = decoder(
        *tensors,
        initial_state=state,
        sequences_mask=TARGET_IDS > 0,
        memory_mask=SOURCE_IDS > 0,
    )
    for one, other in zip(to_numpy(actual), to_numpy(explicit), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    kept = (TARGET_IDS > 0).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pooled, to_numpy(explicit)[0].sum(axis=1) / kept, atol=1e-6)
    unmasked = to_numpy(decoder(*tensors, initial_state=state))[0]
    assert np.abs(unmasked[TARGET_IDS == 0]).min() > 0  # the zeros above are the masks' doing


class MaskWatcher(keras.layers.Layer):
    """Tells `watch` the shape of the mask that its input carries, if any."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch
        self.supports_masking = True

    def call(self, inputs, mask=None):
        self.watch(None if mask is None else tuple(mask.shape))
        return inputs


@pytest.mark.parametrize("return_state", [True, False])
def test_only_sequences_carry_the_mask(return_state):
    embedding = keras.layers.Embedding(6, INPUT_DEPTH, mask_zero=True)
    seen = []
    for return_sequences in (True, False):
        decoder = make(return_sequences=return_sequences, return_state=return_state)
        outputs = decoder(embedding(TARGET_IDS), embedding(SOURCE_IDS))
        MaskWatcher(seen.append)(keras.tree.flatten(outputs)[0])
    assert seen == [TARGET_IDS.shape, None]


# ---------------------------------------------------------------------------------------------
# Where the attention runs
# ---------------------------------------------------------------------------------------------


class WatchedAttention(LuongAttention):
    """Tells `watch` the shape of every query that it attends with."""

    def __init__(self, watch, **kwargs):
        super().__init__(**kwargs)
        self.watch = watch

    def attend(self, query, *args, **kwargs):
        self.watch(tuple(query.shape))
        return super().attend(query, *args, **kwargs)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=without_torch)])
def test_without_input_feeding_one_product_serves_all_steps(compiled):
    shapes = []
    decoder = make(attention=WatchedAttention(shapes.append), input_feeding=False)
    run_watched(decoder, compiled)
    assert shapes == [(BATCH, TARGET, CELL_UNITS)]


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=without_torch)])
def test_with_input_feeding_every_query_is_one_step(compiled):
    shapes = []
    run_watched(make(attention=WatchedAttention(shapes.append)), compiled)
    assert set(shapes) == {(BATCH, 1, CELL_UNITS)}


def run_watched(decoder, compiled):
    inputs = [arrays()[name] for name in ("sequences", "memory")]
    if not compiled:
        decoder(*inputs)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        decoder.build(*[array.shape for array in inputs])
        tf.function(decoder)(*[tf.constant(array) for array in inputs])
    else:
        import jax

        decoder.build(*[array.shape for array in inputs])
        jax.jit(decoder)(*inputs)


# ---------------------------------------------------------------------------------------------
# Dropout: one mask a sequence, another one a call, none in inference
# ---------------------------------------------------------------------------------------------

# Cells that put their dropped inputs out: gates wide open or shut, identities for kernels.
WIDE, OPEN, SHUT = 8, 50.0, -50.0


def eye(inputs, columns=1, at=0):
    """`(inputs, columns x WIDE)`, an identity in block `at` and zeros elsewhere."""
    kernel = np.zeros((inputs, columns * WIDE), "float32")
    kernel[:WIDE, at * WIDE : (at + 1) * WIDE] = np.eye(WIDE)
    return kernel


def revealing_lstm(inputs, **dropout):
    cell = keras.layers.LSTMCell(WIDE, activation="linear", **dropout)
    bias = np.repeat([OPEN, SHUT, 0.0, OPEN], WIDE)
    return cell, [eye(inputs, 4, at=2), np.zeros((WIDE, 4 * WIDE)), bias]


def revealing_gru(inputs, **dropout):
    cell = keras.layers.GRUCell(WIDE, activation="linear", **dropout)
    bias = np.stack([np.repeat([SHUT, 0.0, 0.0], WIDE), np.zeros(3 * WIDE)])
    return cell, [eye(inputs, 3, at=2), np.zeros((WIDE, 3 * WIDE)), bias]


def revealing_rnn(inputs, **dropout):
    cell = keras.layers.SimpleRNNCell(WIDE, activation="linear", **dropout)
    return cell, [eye(inputs), np.zeros((WIDE, WIDE)), np.zeros(WIDE)]


def revealing_stack(inputs, **dropout):
    first, weights = revealing_rnn(inputs)
    second, more = revealing_rnn(WIDE, **dropout)
    return keras.layers.StackedRNNCells([first, second]), weights + more


REVEALING = {
    "lstm": revealing_lstm,
    "gru": revealing_gru,
    "simple_rnn": revealing_rnn,
    "stacked": revealing_stack,
}


def revealing_decoder(reveal, input_feeding=True, **dropout):
    """A decoder whose vectors are its cell's outputs: the inputs, with what dropout did to them."""
    cell, weights = reveal(WIDE + (WIDE if input_feeding else 0), **dropout)
    decoder = AttentionDecoder(
        AttentionDecoderCell(
            cell,
            LuongAttention(),
            WIDE,
            attention_activation="linear",
            input_feeding=input_feeding,
        )
    )
    decoder.build((None, None, WIDE), (None, None, MEMORY_DEPTH))
    cell.set_weights(weights)
    decoder.cell.attention_vector.kernel.assign(
        np.concatenate([np.zeros((MEMORY_DEPTH, WIDE)), np.eye(WIDE)])
    )
    return decoder


def vectors_of_ones(decoder, training, mask=None, steps=5):
    sequences, memory = np.ones((3, steps, WIDE), "float32"), random(3, SOURCE, MEMORY_DEPTH)
    return to_numpy(decoder(sequences, memory, sequences_mask=mask, training=training))[0]


@each_feeding
@pytest.mark.parametrize("reveal", REVEALING.values(), ids=REVEALING)
def test_cell_dropout_is_drawn_once_a_sequence(reveal, input_feeding):
    decoder = revealing_decoder(reveal, input_feeding, dropout=0.5)
    masks = []
    for _ in range(2):
        vectors = vectors_of_ones(decoder, training=True)
        assert set(vectors.round(3).flat) == {0.0, 2.0}
        np.testing.assert_array_equal(vectors, vectors[:, :1].repeat(5, axis=1))
        masks.append(vectors[:, 0])
    assert (masks[0] != masks[1]).any()
    assert (masks[0][0] != masks[0][1]).any()  # sentences have masks of their own
    np.testing.assert_allclose(vectors_of_ones(decoder, training=False), 1.0, atol=1e-5)


def test_recurrent_dropout_is_drawn_once_a_sequence():
    decoder = revealing_decoder(revealing_rnn, recurrent_dropout=0.5)
    # h_t = r h_(t-1) from ones: 2^t where r keeps, 0 elsewhere, if r stays what it was.
    decoder.cell.cell.set_weights([np.zeros((2 * WIDE, WIDE)), np.eye(WIDE), np.zeros(WIDE)])
    ones = np.ones((3, 1, WIDE), "float32")
    vectors = decoder(
        ones.repeat(4, axis=1),
        random(3, SOURCE, MEMORY_DEPTH),
        initial_state=[ones[:, 0]],
        training=True,
    )
    (vectors,) = to_numpy(vectors)
    assert set(vectors[:, 0].flat) == {0.0, 2.0}
    np.testing.assert_array_equal(vectors, (vectors[:, :1] > 0) * 2.0 ** np.arange(1, 5)[:, None])


@each_feeding
def test_attention_dropout_is_drawn_once_a_sequence(input_feeding):
    # Equal logits, one-hot values and no attention vector: the vectors are weights of 1 / 8.
    attention = LuongAttention("location", max_source_length=8, dropout=0.5)
    decoder = make(attention=attention, units=None, input_feeding=input_feeding)
    sequences = random(3, 5, INPUT_DEPTH)
    memory = np.broadcast_to(np.eye(8, dtype="float32"), (3, 8, 8))
    decoder.build(sequences.shape, memory.shape)
    attention.set_weights([np.zeros((CELL_UNITS, 8))])
    first, second = (to_numpy(decoder(sequences, memory, training=True))[0] for _ in range(2))
    np.testing.assert_array_equal(first, first[:, :1].repeat(5, axis=1))
    assert set(first.flat) == {0.0, 0.25}
    assert (first != second).any()
    np.testing.assert_allclose(to_numpy(decoder(sequences, memory, training=False))[0], 1 / 8)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=without_torch)])
def test_fit_draws_other_masks_at_every_step(jit_compile):
    decoder = revealing_decoder(revealing_lstm, dropout=0.5)
    x = {"sequences": np.ones((3, 4, WIDE), "float32"), "memory": random(3, SOURCE, MEMORY_DEPTH)}
    model = functional_model(decoder, x)

    def change_over_time(y_true, y_pred):
        return ops.mean(ops.abs(y_pred - y_pred[:, :1]), axis=(1, 2))

    def fingerprint(y_true, y_pred):
        return ops.mean(y_pred * y_true, axis=(1, 2))

    model.compile(
        keras.optimizers.SGD(0.0),
        loss=fingerprint,
        metrics=[change_over_time],
        jit_compile=jit_compile,
    )
    history = model.fit(x, random(3, 4, WIDE), epochs=4, verbose=0).history
    assert len(set(history["loss"])) == 4
    assert history["change_over_time"] == [0.0] * 4


@keras.saving.register_keras_serializable(package="tests")
class FailingCell(keras.layers.SimpleRNNCell):
    """Fails in training, with a dropout mask already drawn."""

    def call(self, sequence, states, training=False):
        if training:
            raise RuntimeError("the cell failed")
        return super().call(sequence, states, training=training)


@pytest.mark.parametrize("fails", [False, True])
def test_dropout_masks_are_forgotten_after_the_call(fails):
    cell = (FailingCell if fails else keras.layers.SimpleRNNCell)(
        CELL_UNITS, dropout=0.5, recurrent_dropout=0.5
    )
    decoder = make(cell)
    if fails:
        with pytest.raises(RuntimeError, match="the cell failed"):
            decoder(**arrays(), training=True)
    else:
        decoder(**arrays(), training=True)
    assert held_tensors(decoder) == []
    # A call with another batch size, which masks that were held would not fit.
    assert make_finite(decoder, batch=5)


def make_finite(decoder, batch):
    sequences, memory = random(batch, TARGET, INPUT_DEPTH), random(batch, SOURCE, MEMORY_DEPTH)
    (vectors,) = to_numpy(decoder(sequences, memory))
    return vectors.shape == (batch, TARGET, UNITS) and np.isfinite(vectors).all()


# ---------------------------------------------------------------------------------------------
# Nothing of a call stays
# ---------------------------------------------------------------------------------------------


def held_tensors(layer):
    """Paths of all tensors that the attributes of a layer and of its parts hold."""
    found, seen = [], set()

    def look(thing, path):
        if id(thing) in seen or isinstance(thing, keras.Variable):
            return
        seen.add(id(thing))
        if ops.is_tensor(thing) or isinstance(thing, keras.KerasTensor):
            found.append(path)
        elif isinstance(thing, dict):
            for name, one in thing.items():
                look(one, f"{path}[{name}]")
        elif isinstance(thing, list | tuple | set):
            for index, one in enumerate(thing):
                look(one, f"{path}[{index}]")
        elif isinstance(thing, keras.layers.Layer):
            for name, one in vars(thing).items():
                # What Keras keeps of a functional graph is no data of a call.
                if name != "_inbound_nodes":
                    look(one, f"{path}.{name}")

    look(layer, "layer")
    return found


def test_held_tensors_finds_one():
    decoder = make()
    decoder.cell.attention.left_over = {"memory": [ops.zeros((1,))]}
    assert len(held_tensors(decoder)) == 1


@each_feeding
@pytest.mark.parametrize("training", [False, True])
def test_no_tensor_stays_on_the_layer(input_feeding, training):
    cell = keras.layers.LSTMCell(CELL_UNITS, dropout=0.5, recurrent_dropout=0.5)
    attention = LuongAttention(dropout=0.5)
    decoder = make(cell, attention, input_feeding=input_feeding, return_state=True)
    decoder(**arrays([4, 4]), training=training, return_attention_scores=True)
    assert held_tensors(decoder) == []


class MeetingAttention(LuongAttention):
    """Waits, once its memory is prepared, for the call in the other thread to be as far."""

    def __init__(self, barrier, **kwargs):
        super().__init__(**kwargs)
        self.barrier = barrier

    def prepare(self, *args, **kwargs):
        memory = super().prepare(*args, **kwargs)
        self.barrier.wait(timeout=30)
        return memory


@each_feeding
def test_two_threads_do_not_mix_their_memories(input_feeding):
    calls = [
        (random(2, 3, INPUT_DEPTH, seed=n), random(2, 4, MEMORY_DEPTH, seed=n)) for n in (1, 2)
    ]
    alone = threading.Barrier(1)
    decoder = make(attention=MeetingAttention(alone), input_feeding=input_feeding)
    expected = [to_numpy(decoder(*call))[0] for call in calls]
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    decoder.cell.attention.barrier = threading.Barrier(2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        actual = list(pool.map(lambda call: to_numpy(decoder(*call))[0], calls))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


# ---------------------------------------------------------------------------------------------
# Coverage loss
# ---------------------------------------------------------------------------------------------


def overlap(scores, mask):
    """The mean over kept steps of `sum_s min(a_t(s), c_t(s))`, step by step."""
    total = 0.0
    for b in range(len(scores)):
        coverage = np.zeros(scores.shape[-1])
        for t in range(scores.shape[1]):
            if mask[b, t]:
                total += np.minimum(scores[b, t], coverage).sum()
                coverage += scores[b, t]
    return total / mask.sum()


@each_feeding
def test_coverage_loss_is_added_to_the_loss_of_the_model(input_feeding):
    decoder = make(input_feeding=input_feeding, coverage_loss=0.7)
    given = arrays()
    _, scores = to_numpy(decoder(**given, return_attention_scores=True))
    (loss,) = decoder.losses
    expected = 0.7 * overlap(scores.astype("float64"), given["sequences_mask"])
    assert expected > 0.1
    np.testing.assert_allclose(to_numpy(loss)[0], expected, rtol=1e-5)

    model = functional_model(decoder, given)
    outputs = to_numpy(model(given))[0]
    model.compile(keras.optimizers.SGD(0.0), loss="mse", jit_compile=False)
    # The labels are the outputs: what is left of the loss is the coverage's.
    np.testing.assert_allclose(model.evaluate(given, outputs, verbose=0), expected, rtol=1e-5)


def test_without_a_weight_nothing_is_added():
    decoder = make()
    decoder(**arrays())
    assert decoder.losses == []


# ---------------------------------------------------------------------------------------------
# Options of `keras.layers.RNN` that a decoder does not have
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("stateful", "initial_state"),
        ("go_backwards", "keras.ops.flip"),
        ("unroll", "runs slower"),
    ],
)
def test_options_of_rnn_are_refused_with_a_reason(option, reason):
    with pytest.raises(ValueError) as error:
        make(**{option: True})
    for part in ("AttentionDecoder", option, reason, f"{option}=True"):
        assert part in str(error.value)
    make(**{option: False})  # what a config of `RNN` may hold


@pytest.mark.parametrize("shape", [(BATCH, SOURCE + 1, 3), (BATCH, 3)], ids=str)
def test_a_key_of_another_shape_is_refused_by_its_name(shape):
    with pytest.raises(ValueError) as error:
        make()(random(BATCH, TARGET, 3), random(BATCH, SOURCE, 5), memory_key=random(*shape))
    for part in ("AttentionDecoder", "memory_key", str(shape)):
        assert part in str(error.value)


def test_a_negative_coverage_loss_is_refused():
    with pytest.raises(
        ValueError, match=r"`coverage_loss` must be a finite number of at least 0. Received: -1"
    ):
        make(coverage_loss=-1)


# ---------------------------------------------------------------------------------------------
# Training: a model learns to copy
# ---------------------------------------------------------------------------------------------


def copying_batch(vocabulary=9, batch=32, longest=5):
    """Random sentences of ids 1..v-2 and their copies, padded; v-1 starts a target."""
    rng = np.random.default_rng(0)
    labels = rng.integers(1, vocabulary - 1, size=(batch, longest))
    labels[np.arange(longest) >= rng.integers(2, longest + 1, size=(batch, 1))] = 0
    starts = np.full((batch, 1), vocabulary - 1)
    targets = np.where(labels > 0, np.concatenate([starts, labels[:, :-1]], axis=1), 0)
    return [labels, targets], labels


def copying_model(with_state, vocabulary=9, units=16):
    """What a user writes, the encoder with or without a bridge to the decoder's state."""
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")

    words = keras.layers.Embedding(vocabulary, units, mask_zero=True)(source)
    state = None
    if with_state:
        memory, *state = keras.layers.LSTM(units, return_sequences=True, return_state=True)(words)
    else:
        recurrent = keras.layers.LSTM(units // 2, return_sequences=True)
        memory = keras.layers.Bidirectional(recurrent)(words)

    cell = AttentionDecoderCell(
        keras.layers.LSTMCell(units), LuongAttention(score_mode="general"), units=units
    )
    words_out = keras.layers.Embedding(vocabulary, units, mask_zero=True)(target)
    vectors = AttentionDecoder(cell)(words_out, memory, initial_state=state)
    return keras.Model([source, target], keras.layers.Dense(vocabulary)(vectors))


@pytest.mark.parametrize(
    ("policy", "with_state"),
    [
        ("float32", True),
        ("mixed_bfloat16", True),
        pytest.param("float32", False, marks=pytest.mark.long),
        pytest.param("mixed_float16", True, marks=pytest.mark.long),
    ],
)
def test_learns_to_copy(policy, with_state):
    keras.config.set_dtype_policy(policy)
    model = copying_model(with_state)
    model.compile(
        keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() != "torch",
    )
    inputs, labels = copying_batch()
    losses = model.fit(inputs, labels, epochs=20, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]
    assert [variable.dtype for variable in model.trainable_variables] == ["float32"] * len(
        model.trainable_variables
    )
