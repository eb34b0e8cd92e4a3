"""Which positions of an encoder's memory a model reads, and which encoders it does not take."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import AttentionDecoder, AttentionDecoderCell, LuongAttention, Seq2Seq
from keras_luong.layers import CopyMechanism, FastRNN
from keras_luong.models import Ensemble
from keras_luong.models.memory_mask import memory_length
from keras_luong.search import BeamSearch

IDS, DEPTH = 9, 4
SOURCE = np.array([[5, 6, 7, 8, 6, 3], [6, 7, 3, 0, 0, 0]], "int32")
TARGET = np.array([[2, 4, 5], [2, 6, 0]], "int32")


class Pyramid(keras.layers.Layer):
    """Joins every two positions; one is kept where its first is."""

    def __init__(self, masks=True, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = self.masks = masks

    def call(self, inputs):
        batch, length = ops.shape(inputs)[:2]
        return ops.reshape(inputs, (batch, length // 2, 2 * inputs.shape[-1]))

    def compute_output_shape(self, shape):
        return shape[0], None if shape[1] is None else shape[1] // 2, 2 * shape[2]

    def compute_mask(self, inputs, previous_mask=None):
        return previous_mask[:, ::2] if self.masks else None


class WithoutSixes(keras.layers.Embedding):
    def compute_mask(self, inputs, mask=None):
        return ops.logical_and(inputs != 0, inputs != 6)


def encoder(*layers, embedding=keras.layers.Embedding, batch_size=None):
    source = keras.Input((None,), batch_size=batch_size, dtype="int32")
    memory = embedding(IDS, DEPTH, mask_zero=True)(source)
    for layer in layers:
        memory = layer(memory)
    return keras.Model(source, memory)


def model(encoder, **options):
    cell = AttentionDecoderCell(keras.layers.LSTMCell(DEPTH), LuongAttention(), DEPTH)
    embedding, head = keras.layers.Embedding(IDS, DEPTH), keras.layers.Dense(IDS)
    return Seq2Seq(encoder, embedding, AttentionDecoder(cell), head, **options)


def lstm(layer=keras.layers.LSTM, **options):
    cell = keras.layers.LSTMCell(DEPTH) if layer is FastRNN else DEPTH
    return layer(cell, return_sequences=True, **options)


def test_a_shorter_memory_is_read_by_the_mask_that_it_carries():
    pyramid = model(encoder(lstm(), Pyramid()))
    kept = np.array([[1, 1, 1], [1, 1, 0]], bool)
    memory = pyramid.encoder(SOURCE)
    expected = pyramid.head(
        pyramid.decoder(
            pyramid.target_embedding(TARGET), memory, sequences_mask=TARGET > 0, memory_mask=kept
        )
    )
    np.testing.assert_allclose(
        *map(ops.convert_to_numpy, (pyramid((SOURCE, TARGET)), expected)), atol=1e-6
    )
    # Run as it is: to compile it would take most of a minute.
    result = pyramid.run_search(SOURCE, BeamSearch(2, beta=0.3), max_length=4)
    scores = ops.convert_to_numpy(result.attention_scores)
    assert scores.shape[-1] == 3 and not scores[1, ..., 2].any()


def test_the_mask_of_an_encoder_leaves_words_out():
    scored = model(encoder(lstm(), embedding=WithoutSixes)).score(SOURCE, TARGET, TARGET)
    scores = ops.convert_to_numpy(scored.attention_scores)
    assert (scores[:, 0] > 0).tolist() == ((SOURCE != 0) & (SOURCE != 6)).tolist()


@pytest.mark.parametrize(
    "layer",
    [Pyramid(masks=False), keras.layers.Conv1D(DEPTH, 3, strides=2, padding="same")],
    ids=["pyramid", "strided"],
)
@pytest.mark.filterwarnings("ignore:.*destroy the mask")
def test_a_shorter_memory_needs_a_mask(layer):
    with pytest.raises(ValueError, match="carry a Keras mask.*32 positions of 64 ids.*shape None"):
        model(encoder(layer))


def test_a_copy_mechanism_needs_a_memory_as_long_as_the_source():
    with pytest.raises(ValueError, match="position for each source id.*32 positions of 64"):
        model(encoder(Pyramid()), copy_mechanism=CopyMechanism(IDS))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras.layers.GRU(DEPTH), r"\(None, 4\)"),
        (keras.layers.GRU(DEPTH, return_state=True), r"\(None, 4\)"),
        (lambda memory: memory[:, None], r"\(None, 1, None, 4\)"),
    ],
    ids=["last", "last and state", "rank 4"],
)
def test_a_memory_has_a_vector_for_each_position(layer, shape):
    with pytest.raises(ValueError, match=rf"`return_sequences=True`.*has the shape {shape}: <Func"):
        model(encoder(layer))


class Halved(keras.layers.Layer):
    """Of a length that only a run shows."""

    def call(self, inputs):
        return inputs[:, ::2]

    def compute_output_shape(self, shape):
        return shape[0], None, shape[2]


@pytest.mark.filterwarnings("ignore:.*destroy the mask")
def test_a_length_that_no_shape_shows_is_tried_out():
    assert memory_length(encoder(Halved())) == 32 and memory_length(encoder()) == 64
    with pytest.raises(ValueError, match="carry a Keras mask.*32 positions of 64 ids"):
        model(encoder(Halved()))


class Inside(keras.layers.Layer):
    """An encoder of one's own with a layer inside."""

    def __init__(self, layer):
        super().__init__()
        self.embedding, self.layer = keras.layers.Embedding(IDS, DEPTH), layer

    def call(self, source):
        return self.layer(self.embedding(source))


STATEFUL = {
    "lstm": lambda: encoder(lstm(stateful=True), batch_size=2),
    "fast": lambda: encoder(lstm(FastRNN, stateful=True), batch_size=2),
    "both ways": lambda: encoder(keras.layers.Bidirectional(lstm(stateful=True)), batch_size=2),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_stateful_encoder_is_an_error(name):
    with pytest.raises(ValueError, match="must not be stateful.*stateful=True"):
        model(STATEFUL[name]())


def flipped(inputs):
    return ops.flip(inputs, axis=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: encoder(lstm(go_backwards=True)),
        lambda: encoder(lstm(FastRNN, go_backwards=True), keras.layers.Dropout(0.5)),
        lambda: Inside(lstm(go_backwards=True)),
    ],
    ids=["lstm", "fast", "own"],
)
def test_a_memory_in_reverse_is_an_error(make):
    with pytest.raises(ValueError, match=r"order of the source.*keras\.ops\.flip.*Bidirectional"):
        model(make())


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [lstm(go_backwards=True), flipped],
        lambda: [keras.layers.Bidirectional(lstm())],
    ],
    ids=["flipped", "both ways"],
)
def test_a_layer_that_reads_backwards_may_be_turned(layers):
    assert model(encoder(*layers()))((SOURCE, TARGET)).shape == (2, 3, IDS)


def test_models_with_memories_of_two_lengths_are_no_ensemble():
    plain, pyramid = (model(encoder(*layers)) for layers in ([], [Pyramid()]))
    message = r"memories of one length.*same source: \[64, 32\]"
    with pytest.raises(ValueError, match=message):
        Ensemble([plain, pyramid])
    assert Ensemble([pyramid, pyramid]).models == [pyramid, pyramid]


def test_lengths_that_are_known_late_raise_at_the_first_call():
    both = Ensemble([model(encoder()) for _ in range(2)])
    both.models[1] = model(encoder(Pyramid()))
    with pytest.raises(ValueError, match=r"memories of one length.*same source: \[6, 3\]"):
        both.encode(SOURCE)


@pytest.mark.parametrize("turn", [1, -1])
def test_an_ensemble_covers_what_all_its_models_may_attend_to(turn):
    models = [model(encoder()), model(encoder(embedding=WithoutSixes))][::turn]
    both = Ensemble(models)
    kept = ops.convert_to_numpy(both.attended_mask(both.encode(SOURCE)[0]))
    assert kept.tolist() == ((SOURCE != 0) & (SOURCE != 6)).tolist()


def test_a_layer_in_a_list_in_a_dictionary_is_found():
    class Held(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.read = {"words": [keras.layers.Embedding(IDS, DEPTH), lstm(go_backwards=True)]}

        def call(self, source):
            words, reader = self.read["words"]
            return reader(words(source))

    with pytest.raises(ValueError, match="order of the source"):
        model(Held())
