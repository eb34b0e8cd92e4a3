"""`rnn_encoder`: shapes, masks, residual layers, dropout, the bridge to the decoder, errors."""

import itertools

import keras
import numpy as np
import pytest

from keras_luong.layers import fast_rnn
from keras_luong.models import rnn_encoder
from tests.layers.layer_checks import to_numpy

VOCABULARY, EMBEDDING, UNITS = 10, 3, 4
# A full row, a padded one, and a single id.
SOURCE = np.array([[4, 5, 6, 7], [8, 9, 0, 0], [3, 0, 0, 0]], "int32")


def encoder(**options):
    return rnn_encoder(VOCABULARY, EMBEDDING, UNITS, **options)


def randomize(model):
    """Weights large enough that what differs is seen."""
    for index, variable in enumerate(model.trainable_variables):
        values = np.random.default_rng(index).normal(size=variable.shape)
        variable.assign(values.astype("float32"))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(
    ("num_layers", "residual"), [(1, False), (2, False), (3, True)], ids=["1", "2", "3_residual"]
)
@pytest.mark.parametrize("state_sizes", [(), (5,), (6, 6, 2)], ids=str)
def test_shapes(cell, bidirectional, num_layers, residual, state_sizes):
    model = encoder(
        cell=cell,
        bidirectional=bidirectional,
        num_layers=num_layers,
        residual=residual,
        state_sizes=state_sizes,
    )
    depth = 2 * UNITS if bidirectional else UNITS
    memory, *states = model.output if state_sizes else keras.tree.flatten(model.output)
    assert tuple(memory.shape) == (None, None, depth)
    assert [tuple(state.shape) for state in states] == [(None, size) for size in state_sizes]
    gates = {"lstm": 4, "gru": 3}[cell]
    directions = 2 if bidirectional else 1
    kernels = [v for v in model.trainable_variables if v.path.endswith("/recurrent_kernel")]
    assert [tuple(v.shape) for v in kernels] == [(UNITS, gates * UNITS)] * directions * num_layers


@pytest.mark.parametrize(("cell", "bidirectional"), [("lstm", True), ("gru", False)])
@pytest.mark.parametrize("embeddings_in_memory", [False, True])
def test_neither_padding_columns_nor_batch_mates_matter(cell, bidirectional, embeddings_in_memory):
    model = rnn_encoder(
        VOCABULARY,
        2 * UNITS if bidirectional else UNITS,
        UNITS,
        cell=cell,
        bidirectional=bidirectional,
        num_layers=2,
        state_sizes=[5, 2],
        embeddings_in_memory=embeddings_in_memory,
    )
    randomize(model)
    memory, *states = to_numpy(model(SOURCE))
    longer, *longer_states = to_numpy(model(np.pad(SOURCE, ((0, 0), (0, 3)))))
    kept = SOURCE > 0
    np.testing.assert_allclose(longer[:, :4][kept], memory[kept], atol=1e-5)
    for row, length in enumerate(kept.sum(axis=1)):
        alone, *own_states = to_numpy(model(SOURCE[row : row + 1, :length]))
        np.testing.assert_allclose(alone[0], memory[row, :length], atol=1e-5)
        for own, state, longer_state in zip(own_states, states, longer_states, strict=True):
            np.testing.assert_allclose(own[0], state[row], atol=1e-5)
            np.testing.assert_allclose(own[0], longer_state[row], atol=1e-5)


def test_the_bridge_reads_the_last_layers_final_state():
    model = encoder(bidirectional=False, num_layers=2, state_sizes=[UNITS])
    randomize(model)
    # The first UNITS of the final states [h, c] are what the last kept step put out.
    kernel = np.concatenate([np.eye(UNITS), np.zeros((UNITS, UNITS))])
    model.get_layer("bridge_0").set_weights([kernel, np.full(UNITS, 0.25)])
    memory, state = to_numpy(model(SOURCE))
    last = memory[np.arange(3), (SOURCE > 0).sum(axis=1) - 1]
    np.testing.assert_allclose(state, np.tanh(last + 0.25), atol=1e-5)


@pytest.mark.parametrize("direction", [0, 1])
def test_the_bridge_reads_both_directions(direction):
    model = encoder(cell="gru", state_sizes=[UNITS])
    randomize(model)
    kernel = np.zeros((2 * UNITS, UNITS))
    kernel[direction * UNITS : (direction + 1) * UNITS] = np.eye(UNITS)
    model.get_layer("bridge_0").set_weights([kernel, np.zeros(UNITS)])
    memory, state = to_numpy(model(SOURCE[:1]))
    # Forwards the last step is the last id's, backwards it is the first id's.
    final = memory[0, -1, :UNITS] if direction == 0 else memory[0, 0, UNITS:]
    np.testing.assert_allclose(state[0], np.tanh(final), atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("bidirectional", "units"), [(True, 4), (False, 8)])
def test_embeddings_in_memory_are_added_to_it(cell, bidirectional, units):
    options = {"cell": cell, "bidirectional": bidirectional, "num_layers": 2, "state_sizes": [5]}
    plain = rnn_encoder(VOCABULARY, 8, units, **options)
    summed = rnn_encoder(VOCABULARY, 8, units, embeddings_in_memory=True, **options)
    randomize(plain)
    summed.set_weights(plain.get_weights())
    memory, state = to_numpy(plain(SOURCE))
    sums, same_state = to_numpy(summed(SOURCE))
    embeddings = keras.ops.convert_to_numpy(plain.get_layer("source_embedding").embeddings)
    np.testing.assert_allclose(sums, memory + embeddings[SOURCE], atol=1e-6)
    np.testing.assert_array_equal(same_state, state)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_residual_layer_adds_its_input(cell):
    shallow = encoder(cell=cell, num_layers=1)
    deep = encoder(cell=cell, num_layers=2, residual=True)
    plain = encoder(cell=cell, num_layers=2)
    randomize(shallow)
    shared = shallow.get_weights()
    for model in (deep, plain):
        # The second layer puts out zeros.
        zeros = [np.zeros(weight.shape) for weight in model.get_weights()[len(shared) :]]
        model.set_weights(shared + zeros)
    shallow, deep, plain = (to_numpy(model(SOURCE))[0] for model in (shallow, deep, plain))
    kept = SOURCE > 0
    np.testing.assert_allclose(deep[kept], shallow[kept], atol=1e-6)
    assert not plain[kept].any()


def plain_gnmt_encoder(cell, num_layers, state_sizes):
    """The same of Keras' own layers alone, with their weights in the same order."""
    cell = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell}[cell]

    def rnn():
        return keras.layers.RNN(cell(UNITS), return_sequences=True, return_state=True)

    source = keras.Input((None,), dtype="int32")
    words = keras.layers.Embedding(VOCABULARY, EMBEDDING, mask_zero=True)(source)
    first, *states = keras.layers.Bidirectional(rnn())(words)
    memory, *states = rnn()(first)  # as deep as the first layer is not: nothing is added
    for _ in range(2, num_layers):
        outputs, *states = rnn()(memory)
        memory = keras.layers.Add()([memory, outputs])
    final = states[0] if len(states) == 1 else keras.layers.Concatenate()(states)
    bridge = [keras.layers.Dense(size, activation="tanh")(final) for size in state_sizes]
    return keras.Model(source, [memory, *bridge])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_encoder_of_gnmt_equals_its_plain_composition(cell):
    options = {"cell": cell, "num_layers": 4, "state_sizes": [5, 2]}
    model = encoder(**options, bidirectional="first", residual=True)
    plain = plain_gnmt_encoder(**options)
    randomize(plain)
    model.set_weights(plain.get_weights())
    memory, *states = to_numpy(model(SOURCE))
    expected_memory, *expected_states = to_numpy(plain(SOURCE))
    assert memory.shape == (3, 4, UNITS)
    assert [state.shape for state in states] == [(3, 5), (3, 2)]
    np.testing.assert_allclose(memory, expected_memory, atol=1e-5)
    for state, expected in zip(states, expected_states, strict=True):
        np.testing.assert_allclose(state, expected, atol=1e-5)


def test_dropout_in_training_only():
    model = encoder(dropout=0.5)
    randomize(model)
    first, second = (to_numpy(model(SOURCE, training=True))[0] for _ in range(2))
    assert (first != second).any()
    first, second = (to_numpy(model(SOURCE, training=False))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def is_same_over_time(dropped):
    """Of each row `(t, d)`, whether the same is zero at every step."""
    zero = dropped == 0
    return np.array([(row == row[0]).all() for row in zero])


@pytest.mark.parametrize("variational", [True, False])
def test_variational_dropout_has_one_mask_a_sequence(variational):
    model = encoder(dropout=0.5, variational_dropout=variational)
    randomize(model)
    inner = model.get_layer("dropout_0").output
    both = keras.Model(model.input, [inner, *keras.tree.flatten(model.output)])
    source = np.tile(SOURCE[:1], (20, 1))
    for dropped in to_numpy(both(source, training=True)):
        assert is_same_over_time(dropped).all() == variational
        zero = dropped == 0
        assert (zero != zero[:1]).any()  # of each sentence another
        assert 0.25 < zero.mean() < 0.75


# One unit and a mask for each of the four gates: 16 runs are possible, and a row must be one of
# them as a whole. With masks drawn anew at each step it would be one of 16^6.
def test_recurrent_dropout_has_one_mask_a_sequence():
    model = rnn_encoder(VOCABULARY, EMBEDDING, 1, bidirectional=False, recurrent_dropout=0.5)
    randomize(model)
    source = np.tile(np.array([[4, 5, 6, 7, 8, 9]]), (12, 1))
    (memory,) = to_numpy(model(source, training=True))
    embedding, kernel, recurrent, bias = (one.astype("float64") for one in model.get_weights())

    def run(masks):
        h, c, outputs = 0.0, 0.0, []
        for id_ in source[0]:
            gates = embedding[id_] @ kernel + h * masks * recurrent[0] + bias
            i, f, _, o = 1 / (1 + np.exp(-gates))
            c = f * c + i * np.tanh(gates[2])
            h = o * np.tanh(c)
            outputs.append(h)
        return outputs

    runs = np.array([run(np.array(masks)) for masks in itertools.product((0, 2), repeat=4)])
    distances = np.abs(memory[:, None, :, 0] - runs).max(axis=-1)
    assert distances.min(axis=1).max() < 1e-5
    assert len(set(distances.argmin(axis=1))) > 1
    (quiet,) = to_numpy(model(source[:1]))
    np.testing.assert_allclose(quiet[0, :, 0], run(np.ones(4)), atol=1e-5)


def test_the_fast_loop_runs_with_variational_dropout_and_not_with_recurrent(monkeypatch):
    runs = []
    recurrent_loop = fast_rnn.recurrent_loop
    monkeypatch.setattr(
        fast_rnn, "recurrent_loop", lambda *args: runs.append(args) or recurrent_loop(*args)
    )
    # Both directions have a loop.
    for options, count in (
        ({"variational_dropout": True}, 2),
        ({"recurrent_dropout": 0.1}, 0),
        ({"cell": "layer_norm_lstm"}, 0),
    ):
        model = encoder(dropout=0.5, **options)
        runs.clear()
        model(SOURCE, training=True)
        assert len(runs) == count


def test_no_layer_that_may_use_cudnn_even_after_loading(tmp_path):
    for cell, bidirectional in (("lstm", True), ("gru", False)):
        model = encoder(cell=cell, bidirectional=bidirectional, state_sizes=[4])
        randomize(model)
        model.save(tmp_path / "encoder.keras")
        loaded = keras.saving.load_model(tmp_path / "encoder.keras")
        layers = keras.tree.flatten(
            [
                [getattr(layer, "forward_layer", layer), getattr(layer, "backward_layer", layer)]
                for one in (model, loaded)
                for layer in one.layers
            ]
        )
        assert not any(isinstance(one, keras.layers.LSTM | keras.layers.GRU) for one in layers)
        for one, other in zip(to_numpy(model(SOURCE)), to_numpy(loaded(SOURCE)), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"cell": "rnn"}, ["cell", "gru", "lstm", "'rnn'"]),
        ({"vocabulary_size": 0}, ["vocabulary_size", "at least 1", "0"]),
        ({"embedding_dim": 0}, ["embedding_dim", "at least 1", "0"]),
        ({"units": -2}, ["units", "at least 1", "-2"]),
        ({"num_layers": 0}, ["num_layers", "at least 1", "0"]),
        (
            {"embedding": keras.layers.Embedding(VOCABULARY, EMBEDDING)},
            [
                "mask_zero",
                f"({VOCABULARY}, {EMBEDDING}, True)",
                f"({VOCABULARY}, {EMBEDDING}, False)",
            ],
        ),
        ({"embedding": keras.layers.Dense(3)}, ["embedding layer", "Dense", "None"]),
        (
            {"embeddings_in_memory": True},
            ["embeddings_in_memory", "deep", f"embedding_dim={EMBEDDING}", f"depth {2 * UNITS}"],
        ),
        ({"dropout": 1.5}, ["`dropout`", "0 to below 1", "1.5"]),
        (
            {"residual": True, "num_layers": 2, "bidirectional": "first"},
            ["`residual=True`", "at least 3", "num_layers=2"],
        ),
        ({"recurrent_dropout": 1.0}, ["recurrent_dropout", "0 to below 1", "1.0"]),
        ({"bidirectional": "last"}, ["bidirectional", '"first"', "'last'"]),
        ({"bidirectional": "first"}, ['"first"', "num_layers", "at least 2", "num_layers=1"]),
    ],
    ids=str,
)
def test_refused_options(options, parts):
    sizes = {"vocabulary_size": VOCABULARY, "embedding_dim": EMBEDDING, "units": UNITS}
    with pytest.raises(ValueError) as error:
        rnn_encoder(**{**sizes, **options})
    for part in parts:
        assert part in str(error.value)
