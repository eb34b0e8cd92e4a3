"""Heads and target embeddings other than `Dense` and `Embedding`: they decode, or raise."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    Ensemble,
    LuongAttention,
    ScheduledSampling,
    Seq2Seq,
    Shortlist,
)
from keras_luong.models import rnn_encoder

WORDS, UNITS = 9, 4
SOURCE = np.array([[4, 5, 6, 3], [8, 3, 0, 0]], "int32")
TARGET = np.array([[2, 5, 6], [2, 7, 4]], "int32")
OTHER = np.array([[2, 8, 1], [2, 4, 4]], "int32")


def functional_head():
    vectors = keras.Input((None, UNITS))
    normal = keras.layers.LayerNormalization()(vectors)
    return keras.Model(vectors, keras.layers.Dense(WORDS)(normal))


HEADS = {
    "time_distributed": lambda: keras.layers.TimeDistributed(keras.layers.Dense(WORDS)),
    "sequential": lambda: keras.Sequential(
        [keras.layers.Dropout(0.5), keras.layers.Dense(3, "relu"), keras.layers.Dense(WORDS)]
    ),
    "functional": functional_head,
    "einsum": lambda: keras.layers.EinsumDense("btd,dv->btv", (None, WORDS)),
}


def build(head, embedding=None, **options):
    cell = AttentionDecoderCell(keras.layers.GRUCell(UNITS), LuongAttention(), UNITS)
    encoder = rnn_encoder(WORDS, 3, 2, cell="gru", state_sizes=[UNITS])
    embedding = embedding or keras.layers.Embedding(WORDS, 3)
    model = Seq2Seq(encoder, embedding, AttentionDecoder(cell), head, **options)
    for index, variable in enumerate(model.trainable_variables):
        values = 1.5 * np.random.default_rng(index).normal(size=variable.shape)
        variable.assign(values.astype("float32"))
    return model


def assert_steps_are_those_of_training(model):
    """Two hypotheses per sentence, step by step, against one forward pass over each."""
    prepared, states = model.encode(SOURCE)
    state = [ops.repeat(one, 2, axis=1) for one in model.initial_state(states, prepared)]
    expected = [model([SOURCE, target], training=False) for target in (TARGET, OTHER)]
    for t in range(TARGET.shape[1]):
        ids = np.stack([TARGET[:, t], OTHER[:, t]], axis=1)
        logits, state, _ = model.step(ids, state, prepared)
        for k, of_training in enumerate(expected):
            step, whole = map(ops.convert_to_numpy, (logits[:, k], of_training[:, t]))
            np.testing.assert_allclose(step, whole, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_treats_steps_by_themselves_decodes_and_comes_back_from_a_file(name, tmp_path):
    model = build(HEADS[name]())
    assert_steps_are_those_of_training(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.head) is type(model.head)
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_heads_are_quantized_and_decode_together():
    models = [build(HEADS[name]()) for name in ("time_distributed", "sequential")]
    models[0].quantize("int8")
    assert any(one.dtype == "int8" for one in models[0].head.variables)
    together = Ensemble(models)
    prepared, states = together.encode(SOURCE)
    log_probs, *_ = together.step(TARGET[:, :1], together.initial_state(states, prepared), prepared)
    sums = np.exp(ops.convert_to_numpy(log_probs)).sum(axis=-1)
    np.testing.assert_allclose(sums, np.ones((2, 1)), rtol=1e-5)


def test_a_target_embedding_of_several_layers_decodes():
    embedding = keras.Sequential([keras.layers.Embedding(WORDS, 3), keras.layers.Dense(2, "tanh")])
    assert_steps_are_those_of_training(build(keras.layers.Dense(WORDS), embedding))


@pytest.mark.parametrize("together", [False, True])
def test_a_shortlist_needs_a_dense_kernel_and_says_so_before_the_search(together):
    model = build(HEADS["time_distributed"]())
    shortlist = Shortlist(np.full((WORDS, 1), -1), np.arange(WORDS))
    with pytest.raises(ValueError, match=r"shortlist needs a head.*Dense.*TimeDistributed"):
        (Ensemble([model]) if together else model).generate(SOURCE, shortlist=shortlist)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (lambda: keras.layers.Conv1D(WORDS, 3, padding="causal"), "`head` must treat every step"),
        (lambda: keras.layers.GRU(WORDS, return_sequences=True), "`head` must treat every step"),
        (lambda: keras.layers.Conv1D(WORDS, 2), r"`head` must return one vector.*\(1, 2, 9\)"),
    ],
    ids=["causal", "recurrent", "shorter"],
)
def test_a_head_that_looks_at_other_steps_raises(head, message):
    with pytest.raises(ValueError, match=message):
        build(head())


class Positions(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.words, self.places = (keras.layers.Embedding(WORDS, 3) for _ in range(2))

    def call(self, ids):
        return self.words(ids) + 9.0 * self.places(ops.arange(ops.shape(ids)[1]))


def test_a_target_embedding_that_knows_the_position_raises():
    with pytest.raises(ValueError, match="`target_embedding` must treat every step by itself"):
        build(keras.layers.Dense(WORDS), Positions())


class Recorder(keras.layers.Dense):
    """A head that keeps how it was called; a subclass is tried like any other layer."""

    modes: list = []

    def call(self, inputs, training=None):
        self.modes.append(training)
        return super().call(inputs)


def test_what_a_model_reads_of_its_own_is_written_without_dropout():
    sampling = ScheduledSampling(0.5)
    model = build(Recorder(WORDS), scheduled_sampling=sampling)
    Recorder.modes.clear()
    model([SOURCE, TARGET], training=True)
    assert Recorder.modes == [False, True]
