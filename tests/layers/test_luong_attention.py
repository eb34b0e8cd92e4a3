"""`LuongAttention` as a Keras layer: options, errors, masks, dropout, saving, precision, training.

Its numbers are held in `test_luong_attention_numbers.py`.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.layers import AttentionDecoder, AttentionDecoderCell, LuongAttention
from tests.layers.layer_checks import (
    POLICIES,
    check_config,
    check_precision,
    check_saved,
    check_symbolic,
    check_training,
    symbolic_inputs,
    to_numpy,
)

BATCH, TARGET, SOURCE, DEPTH = 2, 3, 5, 4

# Every score and every option, `dot` with the only weight that it can have.
OPTIONS = {
    "dot": {"score_mode": "dot", "use_scale": True},
    "general": {"score_mode": "general"},
    "concat": {"score_mode": "concat", "units": 6, "use_bias": True, "use_scale": True},
    "concat_default_units": {"score_mode": "concat"},
    "location": {"score_mode": "location", "max_source_length": 7, "use_bias": True},
    "dropout": {"score_mode": "general", "dropout": 0.3, "seed": 5},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def random(*shape):
    return np.random.default_rng(shape).normal(size=shape).astype("float32")


def arrays(one_step=False, key=False):
    """Call arguments with both masks; every sentence keeps something."""
    query_shape = (BATCH, DEPTH) if one_step else (BATCH, TARGET, DEPTH)
    query_mask = np.ones(query_shape[:-1], bool)
    value_mask = np.ones((BATCH, SOURCE), bool)
    value_mask[1, 2:] = False
    if not one_step:
        query_mask[0, 2] = False
    named = {"query": random(*query_shape), "value": random(BATCH, SOURCE, DEPTH)}
    if key:
        named["key"] = random(BATCH, SOURCE, DEPTH)[..., ::-1].copy()
    return {**named, "query_mask": query_mask, "value_mask": value_mask}


# ---------------------------------------------------------------------------------------------
# What every layer does
# ---------------------------------------------------------------------------------------------


@each_option
def test_config(options):
    check_config(LuongAttention(**options, name="attention"))


@each_option
@pytest.mark.parametrize("one_step", [False, True])
def test_symbolic_shapes(options, one_step):
    layer = LuongAttention(**options)
    check_symbolic(layer, arrays(one_step, key=True), return_attention_scores=True)
    check_symbolic(layer, arrays(one_step))


@each_option
def test_saved_and_loaded(options, tmp_path):
    check_saved(LuongAttention(**options), arrays(), tmp_path, return_attention_scores=True)


@pytest.mark.parametrize("policy", POLICIES)
@each_option
def test_precision(options, policy):
    def make():
        return LuongAttention(**options)

    check_precision(make, arrays(), policy, return_attention_scores=True)


@each_option
def test_a_training_step(options):
    check_training(
        LuongAttention(**options),
        arrays(),
        keras.backend.backend() == "jax",
        return_attention_scores=True,
    )


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch runs eagerly")
def test_a_training_step_the_other_way():
    # Compiled on TensorFlow, where that takes long, and eagerly on JAX, where that does.
    layer, jit_compile = LuongAttention(**OPTIONS["concat"]), keras.backend.backend() != "jax"
    check_training(layer, arrays(key=True), jit_compile, return_attention_scores=True)


# ---------------------------------------------------------------------------------------------
# Options that do not go together
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {"score_mode": "luong"},
            ["score_mode", "dot", "general", "concat", "location", "'luong'"],
        ),
        ({"score_mode": None}, ["score_mode", "dot", "general", "concat", "location", "None"]),
        ({"score_mode": "general", "units": 8}, ["units", "concat", "'general'"]),
        ({"score_mode": "concat", "units": 0}, ["units", "at least 1", "0"]),
        ({"score_mode": "location"}, ["max_source_length", "location", "None"]),
        (
            {"score_mode": "dot", "max_source_length": 9},
            ["max_source_length", "location", "'dot'", "9"],
        ),
        (
            {"score_mode": "location", "max_source_length": 0},
            ["max_source_length", "at least 1", "0"],
        ),
        ({"score_mode": "dot", "use_bias": True}, ["use_bias", "concat", "location", "'dot'"]),
        (
            {"score_mode": "general", "use_bias": True},
            ["use_bias", "concat", "location", "'general'"],
        ),
        ({"score_mode": "tutorial"}, ["max_source_length", "tutorial", "None"]),
        ({"window": "local"}, ["window", "global", "local_m", "local_p", "'local'"]),
        ({"window_size": 3}, ["window_size", "local_m", "local_p", "3"]),
        ({"window": "local_m", "window_size": 0.5}, ["window_size", "at least 1", "0.5"]),
        ({"window": "local_p", "window_size": float("nan")}, ["window_size", "at least 1", "nan"]),
        ({"probability_fn": "max"}, ["probability_fn", "softmax", "hardmax", "sparsemax", "'max'"]),
        ({"use_coverage": True}, ["use_coverage", "concat", "'general'"]),
        ({"score_activation": "tanh"}, ["score_activation", "tutorial", "'general'"]),
        ({"dropout": 1.0}, ["dropout", "from 0 to below 1", "1.0"]),
        ({"dropout": -0.1}, ["dropout", "from 0 to below 1", "-0.1"]),
    ],
    ids=str,
)
def test_refused_options(options, parts):
    with pytest.raises(ValueError) as error:
        LuongAttention(**options)
    for part in parts:
        assert part in str(error.value)


# ---------------------------------------------------------------------------------------------
# Calls that cannot be
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"query": random(BATCH, TARGET, 1, DEPTH)}, ["query", "rank 2 or 3", "(2, 3, 1, 4)"]),
        ({"query": random(DEPTH)}, ["query", "rank 2 or 3", "(4,)"]),
        ({"value": random(BATCH, DEPTH)}, ["value", "rank 3", "(2, 4)"]),
        ({"key": random(BATCH, DEPTH)}, ["key", "rank 3", "(2, 4)"]),
        ({"value_mask": np.ones((BATCH, 6), bool)}, ["value_mask", "(2, 5)", "(2, 6)"]),
        ({"value_mask": np.ones((BATCH, SOURCE, 1), bool)}, ["value_mask", "(2, 5)", "(2, 5, 1)"]),
        ({"value_mask": np.ones((3, SOURCE), bool)}, ["value_mask", "(2, 5)", "(3, 5)"]),
        ({"query_mask": np.ones((BATCH, 2), bool)}, ["query_mask", "(2, 3)", "(2, 2)"]),
        ({"query_mask": np.ones((BATCH,), bool)}, ["query_mask", "(2, 3)", "(2,)"]),
    ],
    ids=str,
)
def test_refused_calls(changes, parts, symbolic):
    inputs = {**arrays(), **changes}
    inputs = symbolic_inputs(inputs, known=True) if symbolic else inputs
    with pytest.raises(ValueError) as error:
        LuongAttention()(**inputs)
    for part in parts:
        assert part in str(error.value)


def test_a_wrong_call_of_a_built_layer_is_refused():
    layer = LuongAttention()
    layer(**arrays())
    with pytest.raises(ValueError, match="value of rank 3"):
        layer(random(BATCH, TARGET, DEPTH), random(BATCH, DEPTH))
    with pytest.raises(ValueError, match="value_mask of shape"):
        layer(**{**arrays(), "value_mask": np.ones((BATCH, SOURCE - 1), bool)})


@pytest.mark.parametrize("key", [None, random(BATCH, SOURCE, 6)], ids=["value", "key"])
def test_dot_needs_equal_depths(key):
    value = random(BATCH, SOURCE, 6 if key is None else DEPTH)
    with pytest.raises(ValueError, match=r"equal depth.*query depth 4 and key depth 6.*general"):
        LuongAttention("dot")(random(BATCH, TARGET, DEPTH), value, key)


@pytest.mark.parametrize("symbolic", [False, True])
def test_location_refuses_a_longer_source(symbolic):
    layer = LuongAttention("location", max_source_length=SOURCE)
    layer(random(BATCH, TARGET, DEPTH), random(BATCH, SOURCE, DEPTH))  # the longest that it takes
    longer = {"query": random(BATCH, TARGET, DEPTH), "value": random(BATCH, SOURCE + 1, DEPTH)}
    longer = symbolic_inputs(longer, known=True) if symbolic else longer
    with pytest.raises(ValueError, match=r"max_source_length=5 was given a source of length 6"):
        layer(**longer)


def test_location_refuses_a_longer_source_in_a_model():
    layer = LuongAttention("location", max_source_length=SOURCE)
    inputs = {"query": random(BATCH, TARGET, DEPTH), "value": random(BATCH, SOURCE, DEPTH)}
    symbolic = symbolic_inputs(inputs)
    model = keras.Model(symbolic, layer(**symbolic))
    model.predict(inputs, verbose=0)
    longer = {**inputs, "value": random(BATCH, SOURCE + 1, DEPTH)}
    with pytest.raises(Exception, match=r"max_source_length=5 was given a source of length 6"):
        model(longer)
    # Where lengths are unknown while tracing, the backend finds out: never a silent number.
    with pytest.raises(Exception, match=r"\b6\b"):
        model.predict(longer, verbose=0)


def test_a_single_step_of_local_m_needs_its_position():
    layer = LuongAttention(window="local_m", window_size=1)
    query, value = random(BATCH, DEPTH), random(BATCH, SOURCE, DEPTH)
    with pytest.raises(ValueError, match=r"query_position of a single step.*None"):
        layer(query, value)
    assert tuple(layer(query, value, query_position=2).shape) == (BATCH, DEPTH)


def test_a_state_is_refused_where_there_is_none():
    query, value = random(BATCH, DEPTH), random(BATCH, SOURCE, DEPTH)
    with pytest.raises(ValueError, match=r"no state.*\(2, 5\)"):
        LuongAttention()(query, value, state=random(BATCH, SOURCE))
    layer = LuongAttention("concat", use_coverage=True)
    with pytest.raises(ValueError, match=r"state of shape \(2, 5\).*\(2, 4\)"):
        layer(query, value, state=random(BATCH, SOURCE - 1))


def test_memories_of_other_sentences_are_refused():
    with pytest.raises(ValueError, match=r"value.*2.*Received 3"):
        LuongAttention()(random(BATCH, TARGET, DEPTH), random(3, SOURCE, DEPTH))


def test_list_form_is_refused():
    query, value = random(BATCH, TARGET, DEPTH), random(BATCH, SOURCE, DEPTH)
    with pytest.raises(TypeError) as error:
        LuongAttention()([query, value])
    for part in ("LuongAttention", "layer(query, value", "list of 2"):
        assert part in str(error.value)


def test_mask_argument_is_refused():
    query, value = random(BATCH, TARGET, DEPTH), random(BATCH, SOURCE, DEPTH)
    with pytest.raises(TypeError) as error:
        LuongAttention()(query, value, mask=[None, np.ones((BATCH, SOURCE), bool)])
    for part in ("LuongAttention", "query_mask", "value_mask", "mask="):
        assert part in str(error.value)


# ---------------------------------------------------------------------------------------------
# Masks that tensors carry
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_a_model", [False, True])
def test_implicit_masks_equal_explicit_ones(in_a_model):
    target_ids, source_ids = (
        np.array([[3, 4, 0], [5, 0, 0]]),
        np.array([[1, 2, 3, 0], [4, 0, 0, 0]]),
    )
    embedding = keras.layers.Embedding(6, DEPTH, mask_zero=True)
    layer = LuongAttention()

    def implicit(target_ids, source_ids):
        # The mask of a context is that of its queries.
        context = layer(embedding(target_ids), embedding(source_ids))
        return context, keras.layers.GlobalAveragePooling1D()(context)

    if in_a_model:
        inputs = [keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")]
        context, pooled = keras.Model(inputs, implicit(*inputs))([target_ids, source_ids])
    else:
        context, pooled = implicit(target_ids, source_ids)
    explicit = layer(
        ops.take(embedding.embeddings, target_ids, axis=0),
        ops.take(embedding.embeddings, source_ids, axis=0),
        query_mask=target_ids > 0,
        value_mask=source_ids > 0,
    )
    context, pooled, explicit = to_numpy([context, pooled, explicit])
    np.testing.assert_allclose(context, explicit, atol=1e-6)
    kept = (target_ids > 0).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pooled, explicit.sum(axis=1) / kept, atol=1e-6)
    unmasked = layer(embedding.embeddings[None, :3], embedding.embeddings[None, :4])
    assert np.abs(to_numpy(unmasked)[0]).min() > 0  # the zeros above are the masks' doing


# ---------------------------------------------------------------------------------------------
# Dropout
# ---------------------------------------------------------------------------------------------


def revealing_call(layer, training, target=TARGET):
    """Contexts over one-hot values: the weights that were used; and the scores."""
    value = np.broadcast_to(np.eye(8, dtype="float32"), (BATCH, 8, 8))
    query = random(BATCH, target, DEPTH)
    return to_numpy(layer(query, value, return_attention_scores=True, training=training))


def test_dropout_drops_weights_in_training_only():
    layer = LuongAttention(dropout=0.5)
    weights, scores = revealing_call(layer, training=False)
    np.testing.assert_allclose(weights, scores, atol=1e-6)
    weights, training_scores = revealing_call(layer, training=True)
    # The scores that are returned are whole; the weights are dropped or doubled.
    np.testing.assert_allclose(training_scores, scores, atol=1e-6)
    dropped = weights == 0
    assert 0 < dropped.sum() < dropped.size
    np.testing.assert_allclose(weights[~dropped], 2.0 * scores[~dropped], atol=1e-5)
    again, _ = revealing_call(layer, training=True)
    assert ((again == 0) != dropped).any()


def agreement(dropped, axis):
    """How often neighbours along an axis are dropped alike."""
    return (np.diff(dropped.astype(int), axis=axis) == 0).mean()


@pytest.mark.parametrize("score_mode", ["general", "concat"])
def test_every_step_of_every_sentence_has_weights_of_its_own_dropped(score_mode):
    layer, rate = LuongAttention(score_mode, dropout=0.25), 0.25
    value = np.broadcast_to(np.eye(8, dtype="float32"), (40, 8, 8))
    weights, scores = to_numpy(
        layer(random(40, 10, DEPTH), value, return_attention_scores=True, training=True)
    )
    dropped = weights == 0
    np.testing.assert_allclose(weights[~dropped], scores[~dropped] / (1 - rate), rtol=1e-4)
    # 3,200 draws: four standard deviations are at most 0.035.
    assert abs(dropped.mean() - rate) < 0.035
    for axis in range(3):
        assert abs(agreement(dropped, axis) - rate**2 - (1 - rate) ** 2) < 0.035


def dropped_by_coverage(queries, memory):
    layer = LuongAttention("concat", use_coverage=True, dropout=0.25)
    return layer(queries, memory, training=True)


def dropped_by_a_decoder(queries, memory):
    cell = AttentionDecoderCell(
        keras.layers.GRUCell(4), LuongAttention(dropout=0.25), units=None, input_feeding=False
    )
    return AttentionDecoder(cell)(queries, memory, training=True)


@pytest.mark.parametrize("contexts", [dropped_by_coverage, dropped_by_a_decoder])
def test_steps_that_depend_on_each_other_share_what_is_dropped(contexts):
    memory = np.broadcast_to(np.eye(8, dtype="float32"), (100, 8, 8))
    dropped = to_numpy(contexts(random(100, 5, DEPTH), memory))[0] == 0
    assert agreement(dropped, axis=1) == 1
    # 800 draws: four standard deviations are at most 0.07.
    assert abs(dropped.mean() - 0.25) < 0.07 and abs(agreement(dropped, axis=0) - 0.625) < 0.07


def test_dropout_of_one_step():
    layer = LuongAttention(dropout=0.5)
    value = np.broadcast_to(np.eye(8, dtype="float32"), (BATCH, 8, 8))
    (weights,) = to_numpy(layer(random(BATCH, DEPTH), value, training=True))
    assert 0 < (weights == 0).sum() < weights.size


def test_seed_of_the_dropout():
    def dropped(seed):
        layer = LuongAttention("location", max_source_length=8, dropout=0.5, seed=seed)
        return revealing_call(layer, training=True)[0] == 0

    np.testing.assert_array_equal(dropped(3), dropped(3))
    assert (dropped(3) != dropped(4)).any()
