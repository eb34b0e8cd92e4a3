"""What `compile` says of layers that XLA cannot compile; here one says so without a GPU."""

import warnings

import keras
import pytest

from keras_luong import AttentionDecoder, AttentionDecoderCell, LuongAttention, Seq2Seq

pytestmark = pytest.mark.traced

WORDS, UNITS = 9, 4


def build(hindered=True):
    source = keras.Input((None,), dtype="int32")
    lstm = keras.layers.LSTM(2, return_sequences=True, name="reader")
    both = keras.layers.Bidirectional(lstm)
    memory = both(keras.layers.Embedding(WORDS, 3)(source))
    # What Keras sets on a GPU, with TensorFlow, unless there is `use_cudnn=False`.
    both.backward_layer.supports_jit = not hindered
    cell = AttentionDecoderCell(keras.layers.GRUCell(UNITS), LuongAttention(), UNITS)
    words = keras.layers.ReversibleEmbedding(WORDS, UNITS)
    return Seq2Seq(keras.Model(source, memory), words, AttentionDecoder(cell))


def test_a_layer_that_takes_xla_away_is_named_with_what_to_write_instead():
    model = build()
    with pytest.warns(UserWarning) as caught:
        model.compile("sgd", jit_compile=True)
    (warning,) = caught
    for part in ("`jit_compile=True`", "'backward_reader' (LSTM)", "FastRNN(", "`use_cudnn=False`"):
        assert part in str(warning.message)
    assert "forward_reader" not in str(warning.message) and model.jit_compile is False


@pytest.mark.parametrize(("hindered", "jit_compile"), [(False, True), (True, False)])
def test_nothing_is_said_where_nothing_is_lost(hindered, jit_compile):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(hindered).compile("sgd", jit_compile=jit_compile)


def test_a_compiled_model_is_compiled_when_it_is_loaded(tmp_path):
    model = build(hindered=False)
    model.compile("sgd", "mse", jit_compile=False)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").compiled
