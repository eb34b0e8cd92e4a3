"""Phrases that must appear, in narrow beams: by hand, and slot by slot against plain Python."""

import numpy as np
import pytest

from keras_luong.search import BeamSearch
from tests.search.oracles import enumerated
from tests.search.running import (
    chain,
    check_distinct,
    check_equals_plain_python,
    check_result,
    even_tables,
    hypotheses,
    random_tables,
    searched,
    to_numpy,
)

BATCH, MAX_LENGTH, VOCABULARY = 500, 7, 6


def random_phrases(seed, count, length, vocabulary, batch=BATCH):
    """Of no to all tokens; few different ids, so that they overlap and repeat themselves."""
    rng = np.random.default_rng(seed)
    phrases = rng.integers(1, vocabulary, size=(batch, count, length))
    lengths = rng.integers(0, length + 1, size=(batch, count, 1))
    return np.where(np.arange(length) < lengths, phrases, -1).astype("int32")


def test_the_phrase_comes_though_it_is_improbable():
    # Left alone, the search goes on with 1 and ends; 3 is the least probable everywhere.
    table = [[1, 0, 0, 0], [0.5, 0.3, 0.19, 0.01], [0.5, 0.3, 0.19, 0.01], [0.9, 0.05, 0.04, 0.01]]
    tables = chain(table, start=1)
    for phrase, ids in (([3, -1], [3, 0]), ([3, 2], [3, 2, 0]), ([-1, -1], [0])):
        result = searched(BeamSearch(2), tables, 4, constraints=np.array([[phrase]], "int32"))
        assert hypotheses(result, 0) == [ids]
    # Three steps for a phrase of two tokens: a beam of one has no time to lose, and loses none.
    result = searched(BeamSearch(1), tables, 2, constraints=np.array([[[3, 2]]], "int32"))
    assert hypotheses(result, 0) == [[3, 2]]


def test_a_phrase_that_begins_with_its_own_end():
    # After 1 1 another 1 is likelier than 2: of 1 1 2, then, 1 1 is still there.
    table = [[1, 0, 0, 0], [0.01, 0.9, 0.09, 0], [1, 0, 0, 0], [0.0, 1, 0, 0]]
    phrases = np.array([[[1, 1, 2]]], "int32")
    result = searched(BeamSearch(8, 8), chain(table, start=3), 5, constraints=phrases)
    assert sorted(hypotheses(result, 0)) == [[1, 1, 1, 1, 2], [1, 1, 1, 2, 0], [1, 1, 2, 0]]


def test_without_room_for_its_phrases_nothing_comes_back():
    phrases = np.array([[[1, 2], [2, 3]], [[1, 2], [3, 4]]], "int32")
    result = searched(BeamSearch(4, 4), random_tables(0, 2, 5), 3, constraints=phrases)
    # 1 2 3 holds the two that overlap.
    assert hypotheses(result, 0) == [[1, 2, 3]] and hypotheses(result, 1) == []


CASES = {
    "none": {},
    "wide": {"beam_width": 8, "n_best": 8, "length_penalty": "average"},
    "rules": {
        "length_penalty": "gnmt",
        "beta": 0.5,
        "min_length": 3,
        "no_repeat_ngram_size": 3,
        "repetition_penalty": 1.3,
    },
    "1": {"beam_width": 1, "n_best": 1},
}


@pytest.mark.parametrize("name", CASES)
def test_equals_an_allocation_slot_by_slot(name):
    # With one hypothesis to come back, or all run until their end, early stopping changes nothing.
    search = BeamSearch(**{"beam_width": 4, "n_best": 1, **CASES[name]})
    tables = random_tables(21, BATCH, VOCABULARY)
    constraints = random_phrases(22, 2, 3, 4)
    result = searched(search, tables, MAX_LENGTH, constraints=constraints)
    check_equals_plain_python(search, result, tables, MAX_LENGTH, constraints=constraints)
    assert (result.lengths[:, 0] > 0).mean() > 0.5
    few = slice(25)
    result = to_numpy([one[few] for one in result])
    check_result(search, result, tables.rows(few), MAX_LENGTH, constraints=constraints[few])


def test_equal_scores_go_to_the_lower_slot_and_id():
    search, tables = BeamSearch(4, 4), even_tables(23, 120)
    constraints = random_phrases(24, 2, 2, 4, len(tables))
    result = searched(search, tables, 6, constraints=constraints)
    check_equals_plain_python(search, result, tables, 6, constraints=constraints)


def test_phrases_that_are_probable_do_not_crowd_out_what_has_none():
    # Three tokens of phrases are the most probable; of two slots one is for what lacks them all.
    search, tables = BeamSearch(2, 1), random_tables(25, 120, 9)
    tables.logits[..., 1:4] += 3.0
    constraints = random_phrases(26, 3, 1, 4, len(tables))
    result = searched(search, tables, MAX_LENGTH, constraints=constraints)
    check_equals_plain_python(search, result, tables, MAX_LENGTH, constraints=constraints)


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_models_keep_every_phrase_and_every_rule(seed):
    search = BeamSearch(
        3,
        3,
        length_penalty="average",
        no_repeat_ngram_size=2,
        repetition_penalty=1.2,
        max_length_factor=2.5,
        banned_ids=(5,),
        min_length=2,
    )
    tables = random_tables(30 + seed, BATCH, VOCABULARY)
    prefix = np.random.default_rng(seed).integers(-2, 4, size=(BATCH, 2)).astype("int32")
    inputs = {"constraints": random_phrases(seed, 2, 3, 5), "prefix": np.where(prefix, prefix, -1)}
    result = searched(search, tables, MAX_LENGTH, **inputs)
    check_result(search, result, tables, MAX_LENGTH, **inputs)
    check_distinct(result)
    assert (result.lengths[:, 0] > 0).mean() > 0.3


def test_the_best_with_its_phrases_is_that_of_brute_force():
    search = BeamSearch(64, length_penalty="gnmt", beta=0.2)
    tables, constraints = random_tables(41, BATCH, 3), random_phrases(42, 2, 2, 3)
    result = searched(search, tables, 5, constraints=constraints)
    for row in range(BATCH):
        (_, _, ids), *_ = enumerated(search, tables.sentence(row, 5, constraints=constraints))
        assert hypotheses(result, row) == [ids]


@pytest.mark.parametrize("shape", [(3, 0, 2), (3, 2, 0)])
def test_no_phrase_and_phrases_without_a_token_are_no_constraint(shape):
    tables = random_tables(43, 3)
    result = searched(BeamSearch(3, 3), tables, 4, constraints=np.zeros(shape, "int32"))
    expected = searched(BeamSearch(3, 3), tables, 4)
    np.testing.assert_array_equal(result.ids, expected.ids)


def test_batch_mates_do_not_matter():
    search, constraints = BeamSearch(4, 1), random_phrases(44, 2, 3, 4)
    tables = random_tables(45, BATCH, VOCABULARY)
    together = searched(search, tables, MAX_LENGTH, constraints=constraints)
    chosen = np.array([321, 8, 99])
    few = searched(search, tables.rows(chosen), MAX_LENGTH, constraints=constraints[chosen])
    for one, of_all in zip(few, together, strict=True):
        np.testing.assert_allclose(one, of_all[chosen], rtol=1e-6)
