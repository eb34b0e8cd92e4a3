"""`luong_seq2seq`: the model of the paper from a few sizes."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import AttentionDecoder, Seq2Seq, WordDropout, luong_seq2seq
from tests.layers.layer_checks import to_numpy

SOURCE = np.array([[4, 5, 6, 3], [7, 3, 0, 0]], "int32")
TARGET = np.array([[2, 8, 9], [2, 5, 0]], "int32")
LABELS = np.array([[8, 9, 3], [5, 3, 0]], "int32")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.traced),
        {"cell": "gru", "num_layers": 2, "residual": True, "dropout": 0.2},
        {
            "bidirectional": "first",
            "num_layers": 2,
            "cell": "layer_norm_lstm",
            "dropout": 0.2,
            "recurrent_dropout": 0.2,
            "variational_dropout": True,
        },
        {"bidirectional": False, "input_feeding": False, "score_mode": "dot"},
        {"tie_embeddings": False, "embedding_dim": 5, "score_mode": "concat"},
        {"score_mode": "location", "max_source_length": 6, "cell": "gru"},
        {"score_mode": "dot", "window": "local_p", "window_size": 1},
        pytest.param({"copy": True, "cell": "gru", "dropout": 0.2}, marks=pytest.mark.traced),
        {"embeddings_in_memory": True, "dropout": 0.2},
    ],
    ids=str,
)
def test_a_training_step_and_a_search(options):
    model = luong_seq2seq(10, 12, units=8, **options)
    assert isinstance(model, Seq2Seq) and tuple(model.output.shape) == (None, None, 12)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Adam, since untrained embeddings give the attention gradients that floats would lose.
    model.compile(
        keras.optimizers.Adam(0.1), loss=loss, jit_compile=keras.backend.backend() == "jax"
    )
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    history = model.fit({"source": SOURCE, "target": TARGET}, LABELS, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for variable, old in zip(model.trainable_variables, before, strict=True):
        new = keras.ops.convert_to_numpy(variable)
        assert np.isfinite(new).all() and (new != old).any(), variable.path
    assert tuple(model.generate(SOURCE, max_length=5).ids.shape) == (2, 1, 5)


def test_what_the_options_build():
    model = luong_seq2seq(10, 12, units=8, num_layers=2, dropout=0.3, embedding_dim=8)
    wrapped = model.decoder.cell.cell
    assert isinstance(wrapped, keras.layers.StackedRNNCells)
    # The input of the first cell is dropped before the loop.
    assert [one.dropout for one in wrapped.cells] == [0.0, 0.3]
    assert model.dropout == 0.3 and model.head is None
    assert model.decoder.cell.units == 8 and model.decoder.cell.input_feeding
    assert tuple(model.encoder.output[0].shape) == (None, None, 8)
    # A bridge to h and c of both decoder cells.
    assert [tuple(one.shape) for one in model.encoder.output[1:]] == [(None, 8)] * 4
    assert tuple(model.target_embedding.embeddings.shape) == (12, 8)


def test_a_window_hides_what_is_outside():
    model = luong_seq2seq(10, 12, units=8, window="local_m", window_size=1)
    attention_scores = ops.convert_to_numpy(model.score(SOURCE, TARGET, LABELS).attention_scores)
    assert (attention_scores[0] > 0).tolist() == [
        [True, True, False, False],
        [True, True, True, False],
        [False, True, True, True],
    ]


def test_units_of_the_encoder_of_gnmt():
    # An odd number may be, since it is not halved.
    model = luong_seq2seq(10, 12, units=7, num_layers=2, bidirectional="first")
    assert tuple(model.encoder.output[0].shape) == (None, None, 7)
    lower, upper = (model.encoder.get_layer(name) for name in ("both_lstm_0", "lstm_1"))
    assert tuple(lower.output[0].shape) == (None, None, 14)
    assert tuple(upper.cell.kernel.shape) == (14, 28)


def test_embedding_dim_without_tied_embeddings():
    model = luong_seq2seq(10, 12, units=8, embedding_dim=5, tie_embeddings=False)
    assert tuple(model.target_embedding.embeddings.shape) == (12, 5)
    assert tuple(model.encoder.get_layer("source_embedding").embeddings.shape) == (10, 5)
    assert tuple(model.head.kernel.shape) == (8, 12)


@pytest.mark.filterwarnings("error:.*mask:UserWarning")
@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
def test_one_embedding_of_both_sides(tie_embeddings, in_memory, tmp_path):
    options = {"units": 8, "tie_embeddings": tie_embeddings, "embeddings_in_memory": in_memory}
    model = luong_seq2seq(12, 12, share_embeddings=True, **options)
    apart = luong_seq2seq(12, 12, **options)
    assert len(model.weights) == len(apart.weights) - 1
    # Told apart, with the same numbers in both, it says the same: of padded sources, too.
    embeddings = ops.convert_to_numpy(model.target_embedding.embeddings)
    apart.encoder.get_layer("source_embedding").set_weights([embeddings])
    apart.target_embedding.set_weights([embeddings])
    for part in ("decoder", *(() if tie_embeddings else ("head",))):
        getattr(apart, part).set_weights(getattr(model, part).get_weights())
    for layer in apart.encoder.layers:
        if layer.weights and layer.name != "source_embedding":
            layer.set_weights(model.encoder.get_layer(layer.name).get_weights())
    expected = to_numpy(apart([SOURCE, TARGET]))
    np.testing.assert_allclose(to_numpy(model([SOURCE, TARGET])), expected, rtol=1e-5, atol=1e-6)
    ids, others = (one.generate(SOURCE, max_length=5).ids for one in (model, apart))
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (ids, others)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.encoder.get_layer("embedding") is loaded.target_embedding
    np.testing.assert_array_equal(
        *map(to_numpy, (loaded([SOURCE, TARGET]), model([SOURCE, TARGET])))
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = luong_seq2seq(10, 12, units=8)
    (logits,) = to_numpy(model([SOURCE, TARGET]))
    assert np.isfinite(logits).all()
    result = model.generate(SOURCE, max_length=5)
    assert keras.backend.standardize_dtype(result.log_probs.dtype) == "float32"
    assert np.isfinite(keras.ops.convert_to_numpy(result.log_probs)).all()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"cell": "rnn"}, ["cell", "gru", "lstm", "'rnn'"]),
        ({"cell": keras.layers.LSTMCell(8)}, ["cell", "gru", "lstm", "LSTMCell"]),
        ({"cell": keras.layers.LSTM}, ["cell", "gru", "lstm", "LSTM"]),
        ({"units": -1}, ["`units`", "at least 1", "-1"]),
        ({"units": 2.5}, ["`units`", "integer", "2.5"]),
        ({"embedding_dim": 8.0}, ["`embedding_dim`", "integer", "8.0"]),
        ({"units": 7}, ["units", "even", "bidirectional", "7"]),
        ({"embedding_dim": 5}, ["`tie_embeddings=True`", "embedding_dim=5", "units=8"]),
        ({"score_mode": "location"}, ["max_source_length", "location", "None"]),
        ({"window": "local"}, ["window", "local_m", "local_p", "'local'"]),
        ({"share_embeddings": True}, ["share_embeddings", "one vocabulary", "=10", "=12"]),
        ({"copy": True, "target_vocabulary_size": 9}, ["`copy`", "one vocabulary", "=10", "=9"]),
        ({"units": -1}, ["`units`", "at least 1", "-1"]),
        ({"source_vocabulary_size": 0}, ["`source_vocabulary_size`", "at least 1"]),
        ({"target_vocabulary_size": "9"}, ["`target_vocabulary_size`", "integer", "'9'"]),
        ({"bidirectional": 1}, ["`bidirectional`", "True, False", "1"]),
        ({"residual": True}, ["`residual=True`", "`num_layers` of at least 2", "num_layers=1"]),
        ({"dropout": "0.3"}, ["`dropout`", "0 to below 1", "'0.3'"]),
        ({"recurrent_dropout": None}, ["`recurrent_dropout`", "0 to below 1", "None"]),
        ({"word_dropout": -0.1}, ["`word_dropout`", "0 to below 1", "-0.1"]),
        ({"window_size": 3}, ["window_size", "local", "3"]),
        ({"num_layers": 0}, ["num_layers", "at least 1", "0"]),
    ],
    ids=str,
)
def test_refused_options(options, parts):
    sizes = {"source_vocabulary_size": 10, "target_vocabulary_size": 12, "units": 8}
    with pytest.raises(ValueError) as error:
        luong_seq2seq(**{**sizes, **options})
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "residual",
        "input_feeding",
        "tie_embeddings",
        "share_embeddings",
        "embeddings_in_memory",
        "copy",
        "variational_dropout",
    ],
)
def test_what_is_on_or_off_is_true_or_false(name):
    with pytest.raises(TypeError, match=f"`{name}` must be True or False. Received: 'no'"):
        luong_seq2seq(10, 12, units=8, **{name: "no"})


def test_numbers_of_numpy_are_kept_as_those_of_python():
    numbers = {"units": np.int64(8), "num_layers": np.int32(2), "dropout": np.float32(0.25)}
    model = luong_seq2seq(np.int64(10), np.int64(12), consistency=np.float64(0.5), **numbers)
    json.dumps(model.get_config())
    assert type(model.dropout) is type(model.consistency) is float and model.dropout == 0.25


def test_word_dropout_replaces_words_on_both_sides_in_training_only():
    model = luong_seq2seq(10, 12, units=8, word_dropout=0.5)
    source, target = np.array([[5, 6, 7, 8, 9, 3, 0]]), np.array([[2, 5, 6, 7, 8, 9, 10]])
    quiet, noisy = (
        [model((source, target), training=on) for _ in range(2)] for on in (False, True)
    )
    quiet, noisy = ([ops.convert_to_numpy(one) for one in both] for both in (quiet, noisy))
    np.testing.assert_array_equal(*quiet)
    assert np.abs(noisy[0] - noisy[1]).max() > 1e-4
    loaded = type(model).from_config(model.get_config())
    assert loaded.word_dropout == 0.5
    assert [one.rate for one in loaded.encoder.layers if isinstance(one, WordDropout)] == [0.5]


@pytest.mark.parametrize("variational", [True, False])
def test_variational_dropout_has_one_mask_a_sequence(variational, monkeypatch):
    model = luong_seq2seq(
        10, 12, units=8, dropout=0.5, recurrent_dropout=0.3, variational_dropout=variational
    )
    seen, call = [], AttentionDecoder.call

    @functools.wraps(call)  # Keras reads the names of the arguments
    def spy(self, sequences, *arguments, **named):
        seen.append(ops.convert_to_numpy(sequences))
        return call(self, sequences, *arguments, **named)

    monkeypatch.setattr(AttentionDecoder, "call", spy)
    model((SOURCE, np.array([[2, 8, 9, 5, 6], [2, 5, 7, 8, 9]])), training=True)
    zero = seen[0] == 0
    assert (zero == zero[:, :1]).all() == variational
    assert (zero[0] != zero[1]).any()
    assert model.decoder.cell.cell.recurrent_dropout == 0.3
    loaded = type(model).from_config(model.get_config())
    assert loaded.get_config() == model.get_config()
    assert loaded.variational_dropout == variational
    assert loaded.decoder.cell.cell.recurrent_dropout == 0.3
