"""The fast loop against the general one: the same numbers, and the layer alone says which runs."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import AttentionDecoder, AttentionDecoderCell, LuongAttention
from keras_luong.layers import (
    BahdanauAttention,
    LayerNormLSTMCell,
    ResidualCell,
    attention_decoder,
)
from keras_luong.layers.cells import flat_state_size
from tests.reference import automatic_gradients, ragged_mask, why_not

BATCH, TARGET, SOURCE = 4, 5, 6
INPUT_DEPTH, MEMORY_DEPTH, UNITS, VECTOR = 3, 7, 4, 5
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
# Full, with a hole, short and empty.
TARGET_MASK = ragged_mask((5, 5, 2, 0), TARGET)
TARGET_MASK[1, 2] = False
SOURCE_MASK = ragged_mask((6, 1, 0, 4), SOURCE)

LSTMCell, GRUCell = keras.layers.LSTMCell, keras.layers.GRUCell


def stack(**options):
    cells = [LSTMCell(6, **options), GRUCell(3, **options), LSTMCell(UNITS, **options)]
    return keras.layers.StackedRNNCells(cells)


# Each is made anew for every test: (cell, options of the attention, of the decoder's cell).
FAST = {
    "lstm": lambda: (LSTMCell(UNITS), {}, {}),
    "gru": lambda: (GRUCell(UNITS), {}, {}),
    "stack": lambda: (stack(), {"use_scale": True}, {"use_bias": True}),
    "no biases": lambda: (stack(use_bias=False), {}, {}),
    "dot": lambda: (LSTMCell(MEMORY_DEPTH), {"score_mode": "dot"}, {}),
    "linear": lambda: (GRUCell(UNITS), {}, {"attention_activation": None}),
    "sigmoid": lambda: (LSTMCell(UNITS), {}, {"attention_activation": "sigmoid"}),
    "dropout": lambda: (stack(dropout=0.3), {"dropout": 0.4}, {}),
    "dropout of one": lambda: (GRUCell(UNITS, dropout=0.5), {}, {}),
}


class OwnLSTMCell(LSTMCell):
    """Might compute something else."""


class OwnAttention(LuongAttention):
    """Might compute something else."""


GENERAL = {
    "another cell": lambda: (keras.layers.SimpleRNNCell(UNITS), {}, {}),
    "a cell of one's own": lambda: (OwnLSTMCell(UNITS), {}, {}),
    "a normalized cell": lambda: (LayerNormLSTMCell(UNITS), {}, {}),
    "another activation": lambda: (LSTMCell(UNITS, activation="relu"), {}, {}),
    "another gate": lambda: (GRUCell(UNITS, recurrent_activation="hard_sigmoid"), {}, {}),
    "reset before": lambda: (GRUCell(UNITS, reset_after=False), {}, {}),
    "recurrent dropout": lambda: (LSTMCell(UNITS, recurrent_dropout=0.1), {}, {}),
    "a residual cell": lambda: (
        keras.layers.StackedRNNCells([LSTMCell(UNITS), ResidualCell(LSTMCell(UNITS))]),
        {},
        {},
    ),
    "another precision": lambda: (LSTMCell(UNITS, dtype="mixed_bfloat16"), {}, {}),
    "another precision of the scores": lambda: (LSTMCell(UNITS), {"dtype": "mixed_bfloat16"}, {}),
    "another score": lambda: (LSTMCell(UNITS), {"score_mode": "concat"}, {}),
    "a window": lambda: (LSTMCell(UNITS), {"window": "local_p"}, {}),
    "no softmax": lambda: (LSTMCell(UNITS), {"probability_fn": "sparsemax"}, {}),
    "no vector": lambda: (LSTMCell(UNITS), {}, {"units": None}),
    "another vector": lambda: (LSTMCell(UNITS), {}, {"attention_activation": "relu"}),
    "two layers": lambda: (LSTMCell(UNITS), {}, {"two_layer": True}),
    "a gate": lambda: (LSTMCell(UNITS), {}, {"gate": "source"}),
    "no input feeding": lambda: (LSTMCell(UNITS), {}, {"input_feeding": False}),
}


def decoder_of(make, dtype="float32", attention=LuongAttention, **options):
    """A built decoder with large random weights, at which a wrong gradient shows."""
    with_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        cell, of_attention, of_cell = make()
        cell = AttentionDecoderCell(cell, attention(**of_attention), **{"units": VECTOR, **of_cell})
        decoder = AttentionDecoder(cell, **options)
    finally:
        keras.config.set_dtype_policy(with_policy)
    decoder.build((BATCH, TARGET, INPUT_DEPTH), (BATCH, SOURCE, MEMORY_DEPTH))
    numbers = np.random.default_rng(3)
    for variable in decoder.trainable_variables:
        variable.assign(0.7 * numbers.normal(size=variable.shape))
    return decoder


def inputs_of(decoder, dtype="float32"):
    """Sequences, memory and initial states."""
    numbers = np.random.default_rng(4)
    shapes = [(TARGET, INPUT_DEPTH), (SOURCE, MEMORY_DEPTH)]
    shapes += [(size,) for size in flat_state_size(decoder.cell.cell)]
    return [numbers.normal(size=(BATCH, *shape)).astype(dtype) for shape in shapes]


MASKS = {
    "both": {"sequences_mask": TARGET_MASK, "memory_mask": SOURCE_MASK},
    "target": {"sequences_mask": TARGET_MASK},
    "source": {"memory_mask": SOURCE_MASK},
    "none": {},
}


def results(decoder, masks, dtype, monkeypatch, fast):
    """Vectors, and the gradients of a sum of them with random weights, of one of the loops."""
    with monkeypatch.context() as patch:
        if not fast:
            patch.setattr(attention_decoder, "is_fast", lambda _: False)
        inputs = inputs_of(decoder, dtype)
        upstream = np.random.default_rng(5).normal(size=(BATCH, TARGET, VECTOR)).astype(dtype)

        def vectors(sequences, memory, *states):
            return decoder(sequences, memory, initial_state=list(states), training=True, **masks)

        def loss(*inputs):
            reset_seeds(decoder)
            return ops.sum(ops.cast(vectors(*inputs), dtype) * ops.convert_to_tensor(upstream))

        groups = automatic_gradients(loss, inputs, decoder.trainable_variables)
        reset_seeds(decoder)
        out = ops.convert_to_numpy(ops.cast(vectors(*map(ops.convert_to_tensor, inputs)), dtype))
        return [out, *groups[0], *groups[1]]


def reset_seeds(decoder):
    # Dropout of Keras on torch draws from torch's own generator.
    keras.utils.set_random_seed(5)
    for layer in decoder._flatten_layers():
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(ops.convert_to_tensor([5, 6], generator.state.dtype))


def distance(ones, others):
    """The largest difference of two lists of arrays, each as a share of the largest number."""
    pairs = zip(ones, others, strict=True)
    return max(np.abs(one - other).max() / max(np.abs(other).max(), 1e-3) for one, other in pairs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FAST)
def test_numbers_and_gradients_equal_those_of_the_general_loop(name, dtype, monkeypatch):
    if why_not(dtype):
        pytest.skip(why_not(dtype))
    decoder = decoder_of(FAST[name], dtype)
    fast = results(decoder, MASKS["both"], dtype, monkeypatch, fast=True)
    general = results(decoder, MASKS["both"], dtype, monkeypatch, fast=False)
    # Keras' cells round float64 on JAX to float32 in their tanh; the fast loop does not.
    is_rounded = keras.backend.backend() == "jax" and dtype == "float64"
    assert distance(fast, general) < (1e-5 if is_rounded else TOLERANCE[dtype])


@pytest.mark.parametrize("masks", ["target", "source", "none"])
def test_each_mask_may_be_missing(masks, monkeypatch):
    dtype = "float32" if why_not("float64") else "float64"
    decoder = decoder_of(FAST["stack"], dtype)
    fast = results(decoder, MASKS[masks], dtype, monkeypatch, fast=True)
    general = results(decoder, MASKS[masks], dtype, monkeypatch, fast=False)
    assert distance(fast, general) < 1e-5


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_16_bits_lose_about_as_much_as_in_the_general_loop(policy, monkeypatch):
    if why_not("float32"):
        pytest.skip(why_not("float32"))
    exact = results(decoder_of(FAST["stack"]), MASKS["both"], "float32", monkeypatch, fast=True)
    decoder = decoder_of(FAST["stack"], policy)
    fast = results(decoder, MASKS["both"], "float32", monkeypatch, fast=True)
    general = results(decoder, MASKS["both"], "float32", monkeypatch, fast=False)
    pairs = list(zip(fast, general, exact, strict=True))
    lost = [(np.abs(a - c).mean(), np.abs(b - c).mean()) for a, b, c in pairs]
    # Single roundings fall differently: over seeds the ratio lies between 0.8 and 1.8.
    assert sum(one for one, _ in lost) < 2.5 * sum(other for _, other in lost)


@pytest.mark.skipif(why_not("float32") is not None, reason="float64 alone is tested")
def test_vectors_have_the_precision_of_the_decoder():
    def make():
        # Of 16 bits each, inside a decoder of 32.
        low = {"dtype": "mixed_bfloat16"}
        return LSTMCell(UNITS, **low), low, low

    decoder = decoder_of(make)
    assert keras.backend.standardize_dtype(called(decoder).dtype) == decoder.compute_dtype


def spied(monkeypatch):
    """Counts the runs of the fast loop."""
    runs = []
    run_fast = attention_decoder.run_fast

    def spy(*arguments):
        runs.append(arguments)
        return run_fast(*arguments)

    monkeypatch.setattr(attention_decoder, "run_fast", spy)
    return runs


def called(decoder, **arguments):
    sequences, memory, *states = map(ops.convert_to_tensor, inputs_of(decoder))
    return decoder(sequences, memory, initial_state=states, **MASKS["both"], **arguments)


@pytest.mark.parametrize("name", FAST)
def test_the_fast_loop_runs(name, monkeypatch):
    runs = spied(monkeypatch)
    called(decoder_of(FAST[name]), training=True)
    assert len(runs) == 1


@pytest.mark.parametrize("name", GENERAL)
def test_the_general_loop_runs(name, monkeypatch):
    runs = spied(monkeypatch)
    called(decoder_of(GENERAL[name]), training=True)
    assert not runs


@pytest.mark.parametrize("attention", [OwnAttention, BahdanauAttention])
def test_the_general_loop_runs_for_another_attention(attention, monkeypatch):
    runs = spied(monkeypatch)

    def make():
        return LSTMCell(UNITS), ({"units": 3} if attention is BahdanauAttention else {}), {}

    called(decoder_of(make, attention=attention))
    assert not runs


def test_the_general_loop_runs_where_more_than_vectors_is_asked_for(monkeypatch):
    runs = spied(monkeypatch)
    called(decoder_of(FAST["lstm"]), return_attention_scores=True)
    called(decoder_of(FAST["lstm"], return_state=True))
    called(decoder_of(FAST["lstm"], coverage_loss=1.0))
    assert not runs
    called(decoder_of(FAST["lstm"], return_sequences=False))
    assert len(runs) == 1
