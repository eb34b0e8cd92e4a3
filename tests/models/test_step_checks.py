"""Heads and target embeddings other than `Dense` and `Embedding`: they decode, or raise."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    BeamSearch,
    Ensemble,
    LuongAttention,
    ScheduledSampling,
    Seq2Seq,
    Shortlist,
)
from keras_luong.ids import PADDING_ID, START_ID
from keras_luong.models import rnn_encoder

WORDS, UNITS, MAX_LENGTH = 9, 4, 4
SOURCE = np.array([[4, 5, 6, 3], [8, 3, 0, 0]], "int32")
TARGET = np.array([[2, 5, 6], [2, 7, 0]], "int32")
# Padding in a target would be masked: it must not be found.
BEAM = BeamSearch(2, 2, banned_ids=(PADDING_ID,))


def functional_head():
    vectors = keras.Input((None, UNITS))
    hidden = keras.layers.TimeDistributed(keras.layers.Dense(3, "tanh"))(vectors)
    return keras.Model(vectors, keras.layers.Dense(WORDS)(hidden))


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


def assert_decodes_as_it_is_forced(model):
    """What a search says of the targets it found is what forced decoding says of them."""
    ids, lengths, log_probs = (
        ops.convert_to_numpy(one)[:, 0]
        for one in model.generate(SOURCE, BEAM, max_length=MAX_LENGTH)[:3]
    )
    start = np.full((len(ids), 1), START_ID)
    before = np.concatenate([start, ids[:, :-1]], axis=1).astype("int32")
    of_tokens = ops.convert_to_numpy(model.score(SOURCE, before, ids).token_log_probs)
    kept = np.arange(MAX_LENGTH) < lengths[:, None]
    np.testing.assert_allclose(log_probs, (of_tokens * kept).sum(axis=1), atol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_treats_steps_by_themselves_decodes_and_comes_back_from_a_file(name, tmp_path):
    model = build(HEADS[name]())
    assert_decodes_as_it_is_forced(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found, again = (one.generate(SOURCE, BEAM, max_length=MAX_LENGTH) for one in (model, loaded))
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (found.ids, again.ids)))


def test_other_heads_are_quantized_and_decode_together():
    models = [build(HEADS[name]()) for name in ("time_distributed", "sequential")]
    models[0].quantize("int8")
    assert any(one.dtype == "int8" for one in models[0].head.variables)
    result = Ensemble(models).generate(SOURCE, "sampling", max_length=2, seed=1)
    assert np.isfinite(ops.convert_to_numpy(result.log_probs)).all()


def test_a_target_embedding_of_several_layers_decodes():
    embedding = keras.Sequential([keras.layers.Embedding(WORDS, 3), keras.layers.Dense(2, "tanh")])
    assert_decodes_as_it_is_forced(build(keras.layers.Dense(WORDS), embedding))


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
