"""`Ensemble`: against averages in NumPy of what whole forward passes say."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import luong_seq2seq
from keras_luong.ids import END_ID, PADDING_ID, START_ID
from keras_luong.models import Ensemble
from keras_luong.search import BeamSearch, SamplingSearch
from tests.layers.layer_checks import dtype_of
from tests.search.running import to_numpy

SOURCE_IDS, TARGET_IDS, MAX_LENGTH = 8, 9, 5
SOURCE = np.random.default_rng(0).integers(4, SOURCE_IDS, size=(12, 4)).astype("int32")
SOURCE[4:8, 2:] = SOURCE[8:, 1:] = PADDING_ID


def fresh(seed, **options):
    """A model that says different things for different sources; other seeds, other things."""
    model = luong_seq2seq(SOURCE_IDS, TARGET_IDS, **{"units": 4, **options})
    for index, variable in enumerate(model.trainable_variables):
        values = np.random.default_rng([seed, index]).normal(size=variable.shape)
        variable.assign(values.astype("float32"))
    # Padding has no logit, so that it is never the best: in a target it would be masked.
    (table,) = model.target_embedding.get_weights()
    table[PADDING_ID] = 0.0
    model.target_embedding.set_weights([table])
    return model


@functools.cache
def members():
    """Of two sizes, cells and scores."""
    return fresh(1), fresh(2, units=6, cell="gru", score_mode="dot")


@functools.cache
def ensemble():
    return Ensemble(members())


def generate(model, search="greedy", source=SOURCE, **options):
    return to_numpy(model.generate(source, search, **{"max_length": MAX_LENGTH, **options}))


def averaged(models, target_in):
    """Logarithms of the mean of the models' probabilities, `(b, t, v)`, in float64."""
    probabilities = []
    for model in models:
        logits = np.asarray(model.predict_on_batch([SOURCE, target_in]), "float64")
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities.append(weights / weights.sum(axis=-1, keepdims=True))
    return np.log(sum(probabilities) / len(models))


def with_start(ids):
    return np.concatenate([np.full((len(ids), 1), START_ID), ids[:, :-1]], axis=1).astype("int32")


def test_greedy_takes_the_largest_of_the_averaged_probabilities():
    ids, log_probs = np.full((len(SOURCE), MAX_LENGTH), PADDING_ID), np.zeros(len(SOURCE))
    for place in range(MAX_LENGTH):
        of_place = averaged(members(), with_start(ids))[:, place]
        ended = (ids == END_ID).any(axis=1)
        ids[:, place] = np.where(ended, END_ID, of_place.argmax(axis=-1))
        log_probs += np.where(ended, 0.0, of_place.max(axis=-1))
    result = generate(ensemble())
    np.testing.assert_array_equal(result.ids[:, 0], ids)
    np.testing.assert_allclose(result.log_probs[:, 0], log_probs, atol=1e-4)
    # It is none of its members.
    for model in members():
        assert (generate(model).ids != result.ids).any()


@pytest.mark.traced
def test_beams_carry_averages_of_probabilities_and_of_attention_scores():
    result = generate(ensemble(), BeamSearch(3, 3, length_penalty="average"))
    for n in range(3):
        ids, lengths = result.ids[:, n].astype("int32"), result.lengths[:, n]
        kept = np.arange(MAX_LENGTH) < lengths[:, None]
        log_probs = averaged(members(), with_start(ids))
        of_tokens = np.take_along_axis(log_probs, ids[..., None], axis=-1)[..., 0] * kept
        np.testing.assert_allclose(result.log_probs[:, n], of_tokens.sum(axis=1), atol=1e-3)
        np.testing.assert_allclose(result.scores[:, n], of_tokens.sum(1) / lengths, atol=1e-3)
        target = np.where(kept, ids, PADDING_ID)
        target_in = np.where(kept, with_start(ids), PADDING_ID)
        scores = [
            ops.convert_to_numpy(model.score(SOURCE, target_in, target).attention_scores)
            for model in members()
        ]
        mean = np.mean(scores, axis=0)
        np.testing.assert_allclose(result.attention_scores[:, n], mean, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_a_model_with_itself_is_the_model(count):
    model = members()[0]
    search = BeamSearch(3, 3, length_penalty="gnmt", beta=0.2)
    result, expected = generate(Ensemble([model] * count), search), generate(model, search)
    np.testing.assert_array_equal(result.ids, expected.ids)
    np.testing.assert_array_equal(result.lengths, expected.lengths)
    for name in ("scores", "log_probs", "attention_scores"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), atol=1e-4)


def test_models_of_two_policies():
    wide = fresh(1)
    keras.config.set_dtype_policy("mixed_bfloat16")
    models = wide, fresh(2)
    both = Ensemble(models)
    memories, states = both.encode(SOURCE)
    start = np.full((len(SOURCE), 1), START_ID, "int32")
    log_probs, _, scores = both.step(start, both.initial_state(states, memories), memories)
    assert dtype_of(log_probs) == dtype_of(scores) == "float32"
    # Bfloat16 has three digits, and a step rounds elsewhere than a whole pass.
    expected = averaged(models, start)
    np.testing.assert_allclose(ops.convert_to_numpy(log_probs), expected, rtol=0.05, atol=0.05)


def test_sampling_of_an_ensemble_repeats_itself_by_its_seed():
    search = SamplingSearch(num_samples=3)
    one, other = (generate(ensemble(), search, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.ids, other.ids)


def test_weights_of_any_member_that_change_are_seen():
    models = fresh(1), fresh(2)
    both = Ensemble(models)
    before = generate(both)
    for index, variable in enumerate(models[1].trainable_variables):
        values = np.random.default_rng([7, index]).normal(size=variable.shape)
        variable.assign(values.astype("float32"))
    after = generate(both)
    assert (after.log_probs != before.log_probs).all()
    np.testing.assert_allclose(after.log_probs, generate(Ensemble(models)).log_probs, atol=1e-5)


def test_no_rows_give_no_rows():
    result = generate(ensemble(), source=np.zeros((0, 4), "int32"))
    assert result.ids.shape == (0, 1, MAX_LENGTH)


def test_the_shortest_of_the_longest_sources_is_the_limit():
    models = [
        luong_seq2seq(8, 9, units=4, score_mode="location", max_source_length=length)
        for length in (6, 5)
    ]
    both = Ensemble([*models, members()[0]])
    assert both.max_source_length == 5 and ensemble().max_source_length is None
    assert both.vocabulary_size == TARGET_IDS
    with pytest.raises(ValueError, match=r"at most 5 ids\. Received 6"):
        both.generate(np.full((1, 6), 4))


@pytest.mark.parametrize(
    ("models", "part"),
    [
        (lambda: members()[0], "Received: <Seq2Seq"),
        (lambda: [], r"Received: \[\]"),
        (lambda: [members()[0], keras.layers.Dense(9)], "Received: .*Dense"),
        (lambda: [members()[0], luong_seq2seq(8, 10, units=4)], r"Received sizes: \[9, 10\]"),
        (lambda: [ensemble()], "Received: .*Ensemble"),
    ],
    ids=["no_list", "none", "layer", "vocabularies", "ensemble"],
)
def test_refused_models(models, part):
    with pytest.raises(ValueError, match=r"`models` must (be|have) .*" + part):
        Ensemble(models())
