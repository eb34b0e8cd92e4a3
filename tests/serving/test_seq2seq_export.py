"""A model without tokenizers, exported on ids, in TF Serving's own loader."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    BeamSearch,
    CopyMechanism,
    LuongAttention,
    SamplingSearch,
    Seq2Seq,
    export_seq2seq,
    luong_seq2seq,
)
from keras_luong.serving import cpp_loader

SOURCES, TARGETS, LIMIT = 30, 20, 6
SEARCH = BeamSearch(3, length_penalty="gnmt", alpha=0.4)


def model_of(**arguments):
    model = luong_seq2seq(SOURCES, TARGETS, units=8, cell="gru", **arguments)
    for variable in model.trainable_variables:
        variable.assign(variable * 3)
    return model


def test_what_it_says_is_what_the_model_generates(tmp_path, cpp_runner):
    model = model_of()
    export_seq2seq(model, tmp_path / "1", SEARCH, max_length=LIMIT, scores={"BLEU": 1.5})
    rows = [[5, 9, 3, 0], [29, 30, 4, 3], [8, 3, 8, 8], [3, 0, 0, 0]]  # the last but one as padded
    read = [[5, 9, 3], [29, 1, 4, 3], [8, 3], [3]]
    by_name = {
        name: cpp_loader.run(cpp_runner, tmp_path / "1", [{"source_ids": rows}], signature=name)[0]
        for name in ("ids", "serving_default")
    }
    reply = by_name["ids"]
    for name, array in by_name["serving_default"].items():
        np.testing.assert_array_equal(array, reply[name])
    for row, ids in enumerate(read[:3]):
        found = model.generate(np.array([ids]), SEARCH, max_length=LIMIT + 1)
        length = int(found.lengths[0, 0])
        assert reply["target_length"][row] == length
        assert (
            reply["target_ids"][row, :length].tolist() == found.ids[0, 0, :length].numpy().tolist()
        )
        np.testing.assert_allclose(reply["score"][row], found.scores[0, 0], atol=1e-5)
    assert reply["target_length"][3] == 0
    card = json.loads((tmp_path / "1" / "assets.extra" / "model_card.json").read_text())
    assert card["vocabulary_sizes"] == {"source": SOURCES, "target": TARGETS}
    assert card["max_lengths"] == {"source": LIMIT, "target": LIMIT}
    assert card["scores"] == {"BLEU": 1.5} and card["parameters"] == model.count_params()


def test_all_signatures_on_ids(tmp_path, cpp_runner):
    """Lists, scores and samples, each as the model says it to Python."""
    model = model_of()
    sample = SamplingSearch(num_samples=2)
    export_seq2seq(model, tmp_path / "1", SEARCH, n_best=2, sample=sample, max_length=LIMIT)

    def reply(name, **columns):
        return cpp_loader.run(cpp_runner, tmp_path / "1", [columns], signature=name)[0]

    rows = [[5, 9, 3, 0], [8, 7, 6, 3], [3, 0, 0, 0]]
    best, light = reply("serving_default", source_ids=rows), reply("light", source_ids=rows)
    assert set(light) == {"target_ids", "target_length", "score", "log_prob", "truncated"}
    for name, array in light.items():
        np.testing.assert_allclose(array, best[name], rtol=0, atol=1e-5)

    alphas = [0.0, 3.0, 0.4]
    several = reply("n_best", source_ids=rows, alpha=alphas)
    for row, alpha in enumerate(alphas[:2]):
        search = dataclasses.replace(SEARCH, n_best=2, alpha=alpha)
        source = np.array([[one for one in rows[row] if one]])
        expected = model.generate(source, search, max_length=LIMIT + 1)
        np.testing.assert_allclose(several["score"][row], expected.scores[0], atol=1e-5)
        for place, length in enumerate(several["target_length"][row]):
            got = several["target_ids"][row, place, :length].tolist()
            assert got == expected.ids[0, place, :length].numpy().tolist()
    assert several["target_length"][2].tolist() == [0, 0]

    # What a beam found is worth as much when it is given.
    scored = reply("score", source_ids=rows, target_ids=best["target_ids"].tolist())
    np.testing.assert_allclose(scored["log_prob"], best["log_prob"], rtol=0, atol=1e-5)
    sums = scored["token_log_probs"].sum(axis=1)
    np.testing.assert_allclose(sums, scored["log_prob"], rtol=0, atol=1e-5)
    assert scored["log_prob"][0] < 0 and scored["target_length"][2] == 0
    np.testing.assert_array_equal(scored["target_ids"], best["target_ids"])
    cut = reply("score", source_ids=rows[:1], target_ids=[[5] * (LIMIT + 1)])
    assert cut["target_truncated"].tolist() == [True]

    drawn = reply("sample", source_ids=rows[:2], seed=[4, 4])
    for row in range(2):
        source = np.array([[one for one in rows[row] if one]])
        expected = model.generate(source, sample, max_length=LIMIT + 1, seed=[4])
        np.testing.assert_allclose(drawn["log_prob"][row], expected.log_probs[0], atol=1e-5)


def test_a_location_score_reads_less(tmp_path, cpp_runner):
    model = model_of(score_mode="location", max_source_length=4, tie_embeddings=False)
    export_seq2seq(model, tmp_path / "1", "greedy", max_length=LIMIT)
    batch = {"source_ids": [[5, 6, 7, 8, 9], [5, 6, 7, 3, 0]]}
    (reply,) = cpp_loader.run(cpp_runner, tmp_path / "1", [batch])
    assert reply["truncated"].tolist() == [True, False]
    np.testing.assert_array_equal(reply["target_ids"][0], reply["target_ids"][1])


def test_unknown_words_are_copied(tmp_path, cpp_runner):
    parts = model_of()
    target_ids = [max(-1, one) for one in range(-SOURCES + TARGETS, TARGETS)]
    copying = CopyMechanism(TARGETS, target_ids, max_unknown_words=2)
    cell = AttentionDecoderCell(keras.layers.GRUCell(8), LuongAttention(), 8)
    model = Seq2Seq(
        parts.encoder, parts.target_embedding, AttentionDecoder(cell), copy_mechanism=copying
    )
    copying.bias.assign([-9.0])  # nothing but copies
    export_seq2seq(model, tmp_path / "1", SEARCH, max_length=LIMIT)
    rows = [[30, 31, 30, 3], [32, 29, 3, 0]]  # 32 is beyond: the unknown id 1, which has no target
    (reply,) = cpp_loader.run(cpp_runner, tmp_path / "1", [{"source_ids": rows}])
    found = model.generate(np.array([[30, 31, 30, 3], [1, 29, 3, 0]]), SEARCH, max_length=7)
    np.testing.assert_allclose(reply["score"], found.scores[:, 0], atol=1e-4)
    for row, copied in enumerate([{20, 21}, {19}]):
        length = int(found.lengths[row, 0])
        ids = reply["target_ids"][row, :length].tolist()
        assert ids == found.ids[row, 0, :length].numpy().tolist() and copied & set(ids)
        assert set(ids) <= {*copied, 3}


class Encoder(keras.layers.Layer):
    """An encoder whose number of ids nobody sees."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.Embedding(SOURCES, 8)

    def call(self, source):
        return self.embedding(source)


def test_an_encoder_of_ones_own(tmp_path):
    cell = AttentionDecoderCell(keras.layers.GRUCell(8), LuongAttention(), 8)
    embedding = keras.layers.ReversibleEmbedding(TARGETS, 8)
    model = Seq2Seq(Encoder(), embedding, AttentionDecoder(cell))
    with pytest.raises(ValueError, match="source_vocabulary_size must be given.*reads None"):
        export_seq2seq(model, tmp_path / "1")
    export_seq2seq(model, tmp_path / "1", "greedy", source_vocabulary_size=SOURCES, max_length=3)
    assert (tmp_path / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"search": "sampling"}, "search must give the same translation every time"),
        ({"max_length": 0}, "`max_length` must be an integer of at least 1. Received: 0"),
        ({"source_vocabulary_size": 2}, "greater than 3. Received: 2"),
    ],
)
def test_what_cannot_be_exported(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        export_seq2seq(model_of(), tmp_path / "1", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="model must be a Seq2Seq"):
        export_seq2seq(keras.Sequential(), tmp_path / "1")
