"""Layers that parts of a `Seq2Seq` share: what is loaded shares them too, or saving raises."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import AttentionDecoder, AttentionDecoderCell, LuongAttention, Seq2Seq

WORDS, UNITS = 9, 4
register = keras.saving.register_keras_serializable(package="tests.shared_layers")


def embedding():
    return keras.layers.ReversibleEmbedding(WORDS, UNITS)


def rnn(cell=None):
    return keras.layers.RNN(cell or keras.layers.GRUCell(UNITS), return_sequences=True)


def decoder(cell=None, attention=None):
    cell = cell or keras.layers.GRUCell(UNITS)
    return AttentionDecoder(AttentionDecoderCell(cell, attention or LuongAttention(), UNITS))


def encoder(*layers):
    source = outputs = keras.Input((None,))
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(source, outputs)


@register
class Own(keras.layers.Layer):
    """Makes its embedding itself: no config holds it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._words = embedding()

    def build(self, shape):
        self._words.build(shape)

    def call(self, source):
        return self._words(source)


@register
class Tied(keras.layers.Layer):
    """Is given its embedding, and has it in its config."""

    def __init__(self, words, **kwargs):
        super().__init__(**kwargs)
        self.words = words

    def call(self, vectors):
        return self.words(vectors, reverse=True)

    def get_config(self):
        words = keras.saving.serialize_keras_object(self.words)
        return {**super().get_config(), "words": words}

    @classmethod
    def from_config(cls, config):
        words = keras.saving.deserialize_keras_object(config["words"])
        return cls(**{**config, "words": words})


@register
class Secret(keras.layers.Layer):
    """Uses an embedding that its config does not hold, nor it makes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = None

    def call(self, vectors):
        return self.words(vectors, reverse=True)


def in_a_nested_model():
    words = embedding()
    return Seq2Seq(encoder(encoder(words), rnn()), words, decoder())


def in_a_sequential_model():
    words = embedding()
    return Seq2Seq(keras.Sequential([keras.Sequential([words]), rnn()]), words, decoder())


def twice_in_one_model():
    words, source = embedding(), keras.Input((None,))
    memory = rnn()(words(source) + words(source))
    return Seq2Seq(keras.Model(source, memory), words, decoder())


def made_by_a_layer():
    own = Own()
    return Seq2Seq(own, own._words, decoder())


def made_by_a_layer_and_in_a_head():
    own = Own()
    return Seq2Seq(own, own._words, decoder(), Tied(own._words))


def given_to_a_head():
    words = embedding()
    return Seq2Seq(encoder(embedding(), rnn()), words, decoder(), Tied(words))


def a_cell():
    cell = keras.layers.GRUCell(UNITS)
    source = encoder(keras.layers.Embedding(WORDS, 2 * UNITS), rnn(cell))
    return Seq2Seq(source, embedding(), decoder(cell))


def a_cell_twice_in_a_stack():
    cell, first = keras.layers.GRUCell(UNITS), keras.layers.GRUCell(UNITS)
    stack = keras.layers.StackedRNNCells([first, cell, cell])
    return Seq2Seq(encoder(embedding(), rnn()), embedding(), decoder(stack))


def an_attention():
    attention, source = LuongAttention(), keras.Input((None,))
    states = rnn()(embedding()(source))
    memory = keras.Model(source, attention(states, states))
    return Seq2Seq(memory, embedding(), decoder(attention=attention))


def a_product_in_a_sequential_head():
    product = keras.layers.Dense(WORDS)
    source = encoder(embedding(), product, rnn())
    return Seq2Seq(source, embedding(), decoder(), keras.Sequential([product]))


SHARED = [
    in_a_nested_model,
    in_a_sequential_model,
    twice_in_one_model,
    made_by_a_layer,
    made_by_a_layer_and_in_a_head,
    given_to_a_head,
    a_cell,
    a_cell_twice_in_a_stack,
    an_attention,
    a_product_in_a_sequential_head,
]


@pytest.mark.parametrize("make", SHARED, ids=lambda make: make.__name__)
def test_what_is_shared_stays_shared(make, tmp_path):
    model = make()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (one, other)))
    again = Seq2Seq.from_config(loaded.get_config())
    assert len(again.weights) == len(model.weights)


def test_what_is_not_shared_says_nothing_of_it():
    model = Seq2Seq(encoder(embedding(), rnn()), embedding(), decoder())
    assert "keras_luong>SharedLayer" not in str(model.get_config())
    assert "keras_luong_layer" not in str(model.get_config())


def at_two_levels():
    words, source = embedding(), keras.Input((None,))
    memory = rnn()(encoder(words)(source) + words(source))
    return Seq2Seq(keras.Model(source, memory), words, decoder())


def in_two_functional_parts():
    product, vectors = keras.layers.Dense(WORDS), keras.Input((None, UNITS))
    source = encoder(embedding(), product, rnn())
    return Seq2Seq(source, embedding(), decoder(), keras.Model(vectors, product(vectors)))


def in_no_config():
    own, head = Own(), Secret()
    head.words = own._words
    return Seq2Seq(own, embedding(), decoder(), head)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (at_two_levels, "called in several functional or Sequential models"),
        (in_two_functional_parts, "called in several functional or Sequential models"),
        (in_no_config, r"shared by \['encoder', 'head'\], whose configs do not hold it"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_saving_raises_where_loading_would_make_several_of_one(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make().save(tmp_path / "model.keras")
