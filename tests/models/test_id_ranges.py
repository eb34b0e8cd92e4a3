"""How many ids a model reads, as far as it can be seen."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import CopyMechanism, Ensemble, Seq2Seq, luong_seq2seq
from keras_luong.functional import IdRange
from keras_luong.models.id_ranges import embedded_ids
from tests.models.test_seq2seq import SOURCE, TARGETS_IN, build

pytestmark = pytest.mark.traced


def with_positions(source):
    words = keras.layers.Embedding(50, 4)(source)
    return words + keras.layers.Embedding(8, 4)(ops.cumsum(ops.ones_like(source), axis=1))


def behind_a_layer(source):
    return keras.layers.Embedding(8, 4)(keras.layers.Lambda(lambda ids: ids // 10)(source))


@pytest.mark.parametrize(("read", "size"), [(with_positions, 50), (behind_a_layer, None)])
def test_the_embedding_that_reads_the_source_counts(read, size):
    source = keras.Input((None,), dtype="int32")
    assert embedded_ids(keras.Model(source, read(source))) == size


def test_sequential_encoders_are_seen_and_layers_of_ones_own_are_not():
    layers = [keras.Input((None,), dtype="int32"), keras.layers.Embedding(9, 4)]
    assert embedded_ids(keras.Sequential(layers)) == 9
    assert embedded_ids(keras.layers.Embedding(9, 4)) is None


@pytest.mark.parametrize("options", [{}, {"word_dropout": 0.1}, {"share_embeddings": True}])
def test_both_sides_of_a_model(options):
    model = luong_seq2seq(9, 9, units=4, **options)
    assert model.id_ranges == (IdRange("source", 9), IdRange("target", 9))
    assert model.source_vocabulary_size == 9


def test_the_ids_of_unknown_words_are_read_too():
    copying = CopyMechanism(11, list(range(9)), max_unknown_words=2)
    assert [one.size for one in build(copy_mechanism=copying).id_ranges] == [11, 13]


def test_a_target_embedding_has_a_row_for_all_that_is_generated():
    model = build(tied=False)
    small = keras.layers.Embedding(10, 4)
    with pytest.raises(ValueError, match=r"a row for every id.*logits for, 11\..*input_dim=10"):
        Seq2Seq(model.encoder, small, model.decoder, model.head)


# Values are known: an error that names them, whatever the backend makes of such an id.
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda model: model.generate(np.array([[4, 9]])), "source"),
        (lambda model: model.generate(np.array([[-4, 3]])), "source"),
        (lambda model: Ensemble([model]).generate(np.array([[4, 9]])), "source"),
        (lambda model: model((SOURCE + 1, TARGETS_IN)), "source"),
        (lambda model: model((SOURCE, TARGETS_IN + 5)), "target"),
        (
            lambda model: model.score(
                *map(ops.convert_to_tensor, (SOURCE, TARGETS_IN, TARGETS_IN + 5))
            ),
            "target_out",
        ),
    ],
    ids=["generate", "negative", "ensemble", "call", "target", "score"],
)
def test_ids_outside_are_named(call, name):
    with pytest.raises(ValueError, match=rf"`{name}` must hold integers from 0 to (8|10)\. Rec"):
        call(build())
