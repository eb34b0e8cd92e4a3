"""`Seq2Seq`: the model against full forward passes, saving, live weights, bad input."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    CopyMechanism,
    LuongAttention,
    MonotonicAttention,
    Seq2Seq,
)
from keras_luong.ids import END_ID, PADDING_ID, START_ID
from keras_luong.models import rnn_encoder
from keras_luong.search import BeamSearch, SearchResult
from tests.layers.layer_checks import to_numpy

SOURCE_IDS, TARGET_IDS, UNITS, MAX_LENGTH = 9, 11, 6, 7
JAX = keras.backend.backend() == "jax"
# A full row, padded ones, a source of one id.
SOURCE = np.array([[4, 5, 6, 7, 3], [8, 6, 3, 0, 0], [5, 7, 8, 3, 0], [3, 0, 0, 0, 0]], "int32")


def build(cell=None, attention=None, tied=True, input_feeding=True, units=UNITS, **options):
    cell = keras.layers.LSTMCell(UNITS) if cell is None else cell
    step = AttentionDecoderCell(
        cell, attention or LuongAttention(), units, input_feeding=input_feeding
    )
    embedding = keras.layers.ReversibleEmbedding if tied else keras.layers.Embedding
    sizes = step.state_size[:-1] if input_feeding else step.state_size
    return Seq2Seq(
        rnn_encoder(SOURCE_IDS, 5, 4, state_sizes=sizes),
        embedding(TARGET_IDS, UNITS if tied else 4),
        AttentionDecoder(step),
        None if tied else keras.layers.Dense(TARGET_IDS),
        **options,
    )


def stacked_cells():
    return keras.layers.StackedRNNCells([keras.layers.LSTMCell(5), keras.layers.GRUCell(UNITS)])


MODELS = {
    "tied": {},
    "untied": {"tied": False},
    "stacked": {"cell": stacked_cells},
    "gru_no_feeding": {"cell": lambda: keras.layers.GRUCell(UNITS), "input_feeding": False},
    "location": {"attention": lambda: LuongAttention("location", max_source_length=8)},
    "context_only": {"tied": False, "units": None},
    # What a step must carry: its position, what was attended to, where the reader stands.
    "local_m": {"attention": lambda: LuongAttention(window="local_m", window_size=1)},
    "coverage": {"attention": lambda: LuongAttention("concat", use_coverage=True)},
    "monotonic": {"attention": lambda: MonotonicAttention(LuongAttention())},
    "copying": {"copy_mechanism": lambda: CopyMechanism(TARGET_IDS)},
    # Source ids from 6 on are unknown words.
    "unknown_words": {
        "tied": False,
        "copy_mechanism": lambda: CopyMechanism(
            TARGET_IDS, [-1, 1, 2, 3, 7, 5], max_unknown_words=3
        ),
    },
}


def fresh(name):
    """A model by name, with weights that make it say different things for different sources."""
    options = {key: value() if callable(value) else value for key, value in MODELS[name].items()}
    model = build(**options)
    randomize(model)
    return model


# For tests that change nothing: what was compiled for one serves the others.
made = functools.cache(fresh)


def randomize(model, seed=3):
    for index, variable in enumerate(model.trainable_variables):
        values = 1.5 * np.random.default_rng([seed, index]).normal(size=variable.shape)
        variable.assign(values.astype("float32"))
    # Padding gets the logit 0 and so is never the best: in a target it would be masked.
    if model.head is None:
        table = ops.convert_to_numpy(model.target_embedding.embeddings).copy()
        table[PADDING_ID] = 0.0
        model.target_embedding.embeddings.assign(table)
    else:
        kernel, bias = model.head.get_weights()
        kernel[:, PADDING_ID] = bias[PADDING_ID] = 0.0
        model.head.set_weights([kernel, bias])


def numpy_result(result):
    return SearchResult(
        *(None if field is None else ops.convert_to_numpy(field) for field in result)
    )


def generate(model, source=SOURCE, **options):
    return numpy_result(model.generate(source, **{"max_length": MAX_LENGTH, **options}))


def looped(model, source, max_length=MAX_LENGTH):
    """Greedy decoding by one whole forward pass a token: ids, lengths and log-probabilities."""
    target = np.full((len(source), max_length + 1), PADDING_ID, "int32")
    target[:, 0] = START_ID
    log_probs, ended = np.zeros(len(source)), np.zeros(len(source), bool)
    for t in range(max_length):
        logits = forward(model, [source, target[:, :max_length]])[:, t].astype("float64")
        best = np.where(ended, END_ID, logits.argmax(axis=-1))
        normalized = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        log_probs += np.where(ended, 0.0, normalized.max(axis=-1))
        ended |= best == END_ID
        target[:, t + 1] = best
    ids = target[:, 1:]
    assert not (ids == PADDING_ID).any()
    ends = ids == END_ID
    lengths = np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, max_length)
    return ids, lengths, log_probs


def forward(model, inputs):
    # An eager call on JAX compiles every loop anew.
    return model.predict_on_batch(inputs) if JAX else to_numpy(model(inputs, training=False))[0]


# ---------------------------------------------------------------------------------------------
# generate against full forward passes
# ---------------------------------------------------------------------------------------------


@pytest.mark.traced
@pytest.mark.parametrize("name", MODELS)
def test_generate_equals_a_loop_of_forward_passes(name):
    model = made(name)
    result = generate(model)
    ids, lengths, log_probs = looped(model, SOURCE)
    assert len({tuple(row) for row in ids.tolist()}) > 1
    np.testing.assert_array_equal(result.ids[:, 0], ids)
    np.testing.assert_array_equal(result.lengths[:, 0], lengths)
    np.testing.assert_allclose(result.log_probs[:, 0], log_probs, atol=1e-4)
    np.testing.assert_array_equal(result.scores, result.log_probs)
    assert result.ids.dtype == result.lengths.dtype == "int32"


def test_attention_scores_are_over_kept_positions_until_the_end():
    result = generate(made("tied"))
    assert result.attention_scores.shape == (4, 1, MAX_LENGTH, 5)
    generated = np.arange(MAX_LENGTH) < result.lengths
    np.testing.assert_allclose(result.attention_scores[:, 0].sum(axis=-1), generated, atol=1e-5)
    padding = np.broadcast_to((SOURCE == PADDING_ID)[:, None], (4, MAX_LENGTH, 5))
    assert not result.attention_scores[:, 0][padding].any()


@pytest.mark.parametrize("name", ["tied", "gru_no_feeding"])
def test_neither_batch_mates_nor_padding_columns_matter(name):
    model = made(name)
    together = generate(model)
    padded = generate(model, np.pad(SOURCE, ((0, 0), (0, 3))))
    for row, length in enumerate((SOURCE > 0).sum(axis=1)):
        alone = generate(model, SOURCE[row : row + 1, :length])
        for name in ("ids", "lengths", "log_probs"):
            one = getattr(alone, name)[0]
            np.testing.assert_allclose(getattr(together, name)[row], one, atol=1e-4)
            np.testing.assert_allclose(getattr(padded, name)[row], one, atol=1e-4)
        scores = alone.attention_scores[0]
        np.testing.assert_allclose(together.attention_scores[row][..., :length], scores, atol=1e-5)
        np.testing.assert_allclose(padded.attention_scores[row][..., :length], scores, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["tied", "stacked", "local_m", "coverage", "monotonic", "unknown_words"]
)
def test_beams_carry_what_belongs_to_them(name):
    model = made(name)
    search = BeamSearch(4, n_best=4, length_penalty="gnmt", beta=0.3)
    result = generate(model, search=search)
    assert (np.diff(result.scores, axis=1) <= 1e-6).all()
    for n in range(4):
        # What the whole model says of the hypothesis when it is forced on it.
        ids, lengths = result.ids[:, n], result.lengths[:, n]
        target = np.concatenate([np.full((len(ids), 1), START_ID), ids[:, :-1]], axis=1)
        logits = forward(model, [SOURCE, target.astype("int32")]).astype("float64")
        log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        of_tokens = np.take_along_axis(log_probs, ids[..., None], axis=-1)[..., 0]
        kept = np.arange(MAX_LENGTH) < lengths[:, None]
        np.testing.assert_allclose(result.log_probs[:, n], (of_tokens * kept).sum(1), atol=1e-3)
        assert not result.attention_scores[:, n][~kept].any()
        # The score, from the attention scores that came with the hypothesis.
        coverage = np.minimum(result.attention_scores[:, n].sum(axis=1), 1.0)
        logs = np.log(np.maximum(coverage, 2.0**-126)) * (SOURCE != PADDING_ID)
        expected = result.log_probs[:, n] / ((5 + lengths) / 6) ** 0.6 + 0.3 * logs.sum(axis=1)
        np.testing.assert_allclose(result.scores[:, n], expected, rtol=1e-3)


def test_beam_by_name():
    model = made("tied")
    one, other = generate(model, search="beam"), generate(model, search=BeamSearch())
    np.testing.assert_array_equal(one.ids, other.ids)
    assert one.ids.shape == (4, 1, MAX_LENGTH)


def test_start_and_end_ids_are_arguments():
    model = made("tied")
    ids = generate(model).ids[0, 0].tolist()
    other = next(one for one in ids if one not in (ids[0], END_ID))
    at = ids.index(other)
    result = generate(model, end_id=other)
    assert result.ids[0, 0].tolist() == ids[:at] + [other] * (MAX_LENGTH - at)
    assert result.lengths[0, 0] == at + 1
    assert (generate(model, start_id=5).log_probs != generate(model).log_probs).any()


def test_no_rows_give_no_rows():
    result = generate(made("tied"), np.zeros((0, 4), "int32"))
    assert result.ids.shape == (0, 1, MAX_LENGTH)
    assert result.lengths.shape == result.log_probs.shape == (0, 1)
    assert result.attention_scores.shape == (0, 1, MAX_LENGTH, 4)


def test_a_row_of_padding_is_harmless():
    model = made("tied")
    source = SOURCE[:2].copy()
    source[1] = PADDING_ID
    result = generate(model, source)
    assert np.isfinite(result.log_probs).all()
    np.testing.assert_array_equal(result.ids[0], generate(model, SOURCE[:1]).ids[0])
    assert not result.attention_scores[1].any()


@pytest.mark.parametrize("dtype", ["int64", "uint8"])
def test_other_integers_and_lists_are_sources_too(dtype):
    model = made("tied")
    expected = generate(model).ids
    np.testing.assert_array_equal(generate(model, SOURCE.astype(dtype)).ids, expected)
    np.testing.assert_array_equal(generate(model, SOURCE.tolist()).ids, expected)


# ---------------------------------------------------------------------------------------------
# Forced decoding
# ---------------------------------------------------------------------------------------------

TARGETS = np.array([[4, 5, 6, 3], [8, 3, 0, 0], [10, 1, 3, 0], [3, 0, 0, 0]], "int32")
TARGETS_IN = np.where(TARGETS == PADDING_ID, 0, np.pad(TARGETS[:, :-1], ((0, 0), (1, 0))))
TARGETS_IN[:, 0] = START_ID


@pytest.mark.parametrize("name", ["tied", "coverage", "copying"])
def test_scores_of_given_targets_equal_a_loop_over_the_logits(name):
    model = made(name)
    scored = model.score(SOURCE, TARGETS_IN, TARGETS)
    log_probs, of_tokens, attention_scores = map(ops.convert_to_numpy, scored)
    logits = forward(model, [SOURCE, TARGETS_IN]).astype("float64")
    expected = np.zeros(TARGETS.shape)
    for row, place in np.argwhere(TARGETS != PADDING_ID):
        of_place = logits[row, place]
        expected[row, place] = of_place[TARGETS[row, place]] - np.log(np.exp(of_place).sum())
    np.testing.assert_allclose(of_tokens, expected, atol=1e-4)
    np.testing.assert_allclose(log_probs, expected.sum(axis=1), atol=1e-4)
    assert not of_tokens[TARGETS == PADDING_ID].any()
    # Over kept source positions, of the steps that there are.
    assert attention_scores.shape == (4, 4, 5)
    np.testing.assert_allclose(attention_scores.sum(axis=-1), TARGETS != PADDING_ID, atol=1e-5)
    padding = np.broadcast_to((SOURCE == PADDING_ID)[:, None], attention_scores.shape)
    assert not attention_scores[padding].any()


def test_what_a_search_found_is_scored_as_the_search_scored_it():
    model = made("tied")
    result = generate(model, search=BeamSearch(3))
    ids = np.where(np.arange(MAX_LENGTH) < result.lengths, result.ids[:, 0], PADDING_ID)
    start = np.full((len(ids), 1), START_ID)
    before = np.where(ids == PADDING_ID, PADDING_ID, np.concatenate([start, ids[:, :-1]], axis=1))
    scored = model.score(SOURCE, before.astype("int32"), ids)
    log_probs, _, attention_scores = map(ops.convert_to_numpy, scored)
    np.testing.assert_allclose(log_probs, result.log_probs[:, 0], atol=1e-4)
    np.testing.assert_allclose(attention_scores, result.attention_scores[:, 0], atol=1e-5)


# ---------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------


def test_padding_is_masked_on_both_sides():
    model = made("untied")
    target = np.array([[2, 4, 5, 0, 0]] * 4, "int32")
    (logits,) = to_numpy(model([SOURCE, target]))
    (longer,) = to_numpy(model([np.pad(SOURCE, ((0, 0), (0, 2))), target]))
    (shorter,) = to_numpy(model([SOURCE, target[:, :3]]))
    np.testing.assert_allclose(longer, logits, atol=1e-5)
    np.testing.assert_allclose(shorter, logits[:, :3], atol=1e-5)
    # A masked step has a vector of zeros: what is left of the logits is the bias.
    np.testing.assert_allclose(logits[:, 3:], np.broadcast_to(model.head.bias, (4, 2, 11)))


def test_inputs_by_name_and_in_order():
    model, target = made("tied"), np.array([[2, 4, 5]] * 4, "int32")
    in_order = to_numpy(model([SOURCE, target]))
    np.testing.assert_array_equal(to_numpy(model((SOURCE, target))), in_order)
    np.testing.assert_array_equal(to_numpy(model({"source": SOURCE, "target": target})), in_order)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_score_in_mixed_precision_is_float32(policy):
    keras.config.set_dtype_policy(policy)
    model = fresh("untied")
    inputs = [SOURCE, TARGETS_IN]
    scored = model.score(*inputs, TARGETS)
    for one in (scored.log_probs, scored.token_log_probs):
        assert keras.backend.standardize_dtype(one.dtype) == "float32"
    # The logits have 8 or 11 bits; what is made of them has 24.
    logits, _ = to_numpy(model.with_attention_scores()(inputs, training=False))
    logits = logits.astype("float64")
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = np.take_along_axis(expected, TARGETS[..., None], axis=-1)[..., 0] * (TARGETS != 0)
    (of_tokens, log_probs) = to_numpy([scored.token_log_probs, scored.log_probs])
    np.testing.assert_allclose(of_tokens, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(log_probs, expected.sum(axis=-1), rtol=0, atol=1e-4)


def test_dropout_in_training_only():
    model = build(dropout=0.5)
    inputs = [SOURCE, np.array([[2, 4, 5]] * 4, "int32")]
    first, second = (to_numpy(model(inputs, training=True))[0] for _ in range(2))
    assert (first != second).any()
    first, second = (to_numpy(model(inputs, training=False))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name, tmp_path):
    model = made(name)
    expected = generate(model)  # what generate keeps must not stand in the way of saving
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is Seq2Seq
    # As text: what was read from a file has lists where there were tuples.
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    inputs = [SOURCE, np.array([[2, 4, 5, 6]] * 4, "int32")]
    np.testing.assert_array_equal(*(forward(one, inputs) for one in (model, loaded)))
    for one, other in zip(generate(loaded), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def shared_embedding_model():
    """One vocabulary: the source, the target and the head use one embedding."""
    embedding = keras.layers.ReversibleEmbedding(TARGET_IDS, UNITS, name="words")
    source = keras.Input((None,), dtype="int32")
    memory = keras.layers.RNN(keras.layers.GRUCell(5), return_sequences=True)(embedding(source))
    cell = AttentionDecoderCell(keras.layers.GRUCell(UNITS), LuongAttention(), UNITS)
    return Seq2Seq(keras.Model(source, memory), embedding, AttentionDecoder(cell))


def test_an_embedding_of_both_sides_stays_shared(tmp_path):
    model = shared_embedding_model()
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == len(model.trainable_variables) == 9
    assert loaded.encoder.get_layer("words") is loaded.target_embedding
    for one, other in zip(generate(loaded), generate(model), strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------------------------------------
# Options and precision
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [{"dropuot": 0.3}, {"dtype": "mixed_float16"}], ids=str)
def test_arguments_that_keras_would_drop_are_refused(option):
    with pytest.raises(TypeError, match=next(iter(option))):
        build(**option)


def test_a_config_can_be_used_twice():
    config = build().get_config()
    one, other = (Seq2Seq.from_config(config) for _ in range(2))
    assert one.get_config() == other.get_config() == config


@pytest.mark.parametrize("tied", [True, False])
def test_logits_have_the_dtype_of_the_head(tied):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(tied=tied)
    logits = model((SOURCE, np.array([[2, 4]] * len(SOURCE), "int32")))
    dtypes = {keras.backend.standardize_dtype(one.dtype) for one in (logits, model.output)}
    assert dtypes == {"bfloat16"}


# ---------------------------------------------------------------------------------------------
# Weights that change
# ---------------------------------------------------------------------------------------------


def test_generate_sees_weights_that_changed():
    model = fresh("tied")
    before = generate(model)
    randomize(model, seed=1)
    after = generate(model)
    assert (after.ids != before.ids).any()
    np.testing.assert_array_equal(after.ids[:, 0], looped(model, SOURCE)[0])


@pytest.mark.traced
def test_generate_sees_training_and_serves_during_it():
    model = fresh("untied")
    before = generate(model).log_probs
    target = np.array([[2, 4, 5, 6]] * 4, "int32")
    labels = np.array([[4, 5, 6, 3]] * 4, "int32")
    during = []

    class Generate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            during.append(generate(self.model).log_probs)

    model.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=JAX,
    )
    inputs = {"source": SOURCE, "target": target}
    model.fit(inputs, labels, epochs=2, callbacks=[Generate()], verbose=0)
    assert (during[0] != before).any() and (during[1] != during[0]).any()
    np.testing.assert_array_equal(generate(model).log_probs, during[1])
    np.testing.assert_allclose(during[1][:, 0], looped(model, SOURCE)[2], atol=1e-4)


# ---------------------------------------------------------------------------------------------
# Parts of one's own
# ---------------------------------------------------------------------------------------------


def test_an_encoder_that_gives_the_memory_alone():
    source = keras.Input((None,), dtype="int32")
    encoder = keras.Model(source, keras.layers.Embedding(SOURCE_IDS, 5)(source))
    cell = AttentionDecoderCell(stacked_cells(), LuongAttention("concat"), UNITS)
    model = Seq2Seq(
        encoder,
        keras.layers.ReversibleEmbedding(TARGET_IDS, UNITS),
        AttentionDecoder(cell),
    )
    randomize(model)
    result = generate(model)
    ids, lengths, _ = looped(model, SOURCE)
    np.testing.assert_array_equal(result.ids[:, 0], ids)
    np.testing.assert_array_equal(result.lengths[:, 0], lengths)


def test_a_layer_of_ones_own_as_an_encoder():
    class Encoder(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.Embedding(SOURCE_IDS, UNITS)

        def call(self, source):
            memory = self.embedding(source)
            return [memory, ops.tanh(ops.sum(memory, axis=1))]

    cell = AttentionDecoderCell(keras.layers.GRUCell(UNITS), LuongAttention("dot"), UNITS)
    embedding = keras.layers.ReversibleEmbedding(TARGET_IDS, UNITS)
    model = Seq2Seq(Encoder(), embedding, AttentionDecoder(cell))
    randomize(model)
    np.testing.assert_array_equal(generate(model).ids[:, 0], looped(model, SOURCE)[0])


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (SOURCE.astype("float32"), ["integer ids", "(batch, source length)", "float32"]),
        (SOURCE[0], ["integer ids", "(batch, source length)", "(5,)"]),
        (SOURCE[None], ["integer ids", "(batch, source length)", "(1, 4, 5)"]),
        (np.zeros((2, 0), "int32"), ["at least the end id", "(2, 0)"]),
        (SOURCE > 0, ["integer ids", "bool"]),
    ],
    ids=["float", "rank_1", "rank_3", "no_column", "bool"],
)
def test_refused_sources(source, parts):
    with pytest.raises(ValueError) as error:
        build().generate(source)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("search", ["greedy", BeamSearch(2, beta=0.1)], ids=["greedy", "beam"])
def test_a_model_without_numbers_generates_nothing(search):
    model = build()
    model.target_embedding.embeddings.assign(np.full((TARGET_IDS, UNITS), np.nan))
    with pytest.raises(ValueError, match=r"log-probabilities .* NaN.*weights hold NaN"):
        model.generate(SOURCE, search, max_length=3)


@pytest.mark.parametrize("search", ["beams", "", None, {"beam_width": 5}])
def test_an_unknown_search_is_refused(search):
    with pytest.raises(ValueError, match=rf"search must be one of .*'greedy'.*{search!r}"):
        build().generate(SOURCE, search)


@pytest.mark.parametrize("max_length", [0, -3])
def test_max_length_below_one_is_refused(max_length):
    with pytest.raises(ValueError, match=rf"at least 1\. Received: {max_length}"):
        build().generate(SOURCE, max_length=max_length)


def test_location_names_the_longest_source():
    model = made("location")
    assert model.max_source_length == 8 and made("tied").max_source_length is None
    with pytest.raises(ValueError, match=r"at most 8 ids\. Received 9"):
        model.generate(np.full((1, 9), 4))
    assert generate(model, np.full((1, 8), 4)).ids.shape == (1, 1, MAX_LENGTH)


@pytest.mark.parametrize(
    "options", [{"return_state": True}, {"return_sequences": False}, None], ids=str
)
def test_a_decoder_that_gives_something_else_is_refused(options):
    cell = AttentionDecoderCell(keras.layers.GRUCell(UNITS), LuongAttention(), UNITS)
    decoder = AttentionDecoder(cell, **options) if options else keras.layers.GRU(UNITS)
    embedding = keras.layers.ReversibleEmbedding(TARGET_IDS, UNITS)
    with pytest.raises(ValueError, match=r"return_sequences=True and return_state=False"):
        Seq2Seq(rnn_encoder(SOURCE_IDS, 4, 4), embedding, decoder)


@pytest.mark.parametrize(
    ("embedding", "received"),
    [
        (keras.layers.Embedding(TARGET_IDS, UNITS), f"of depth {UNITS}"),
        (keras.layers.ReversibleEmbedding(TARGET_IDS, 5), "of depth 5"),
        (keras.layers.Dense(4), "of depth None"),
    ],
    ids=["embedding", "depth", "dense"],
)
def test_a_head_is_tied_to_a_reversible_embedding_of_its_depth_only(embedding, received):
    cell = AttentionDecoderCell(keras.layers.GRUCell(UNITS), LuongAttention(), UNITS)
    with pytest.raises(ValueError) as error:
        Seq2Seq(rnn_encoder(SOURCE_IDS, 4, 4), embedding, AttentionDecoder(cell))
    for part in ("head=None", "ReversibleEmbedding", f"({UNITS})", received):
        assert part in str(error.value)
