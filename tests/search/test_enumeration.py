"""A beam as wide as the space against enumeration, under penalties, rules and phrases."""

import itertools

import numpy as np
import pytest

from keras_luong.search import BeamSearch
from tests.search.oracles import END, enumerated
from tests.search.running import check_distinct, check_result, hypotheses, random_tables, searched

BATCH, MAX_LENGTH, VOCABULARY = 12, 4, 4
# Every hypothesis: three tokens that go on, ended after 1 to 4 tokens, or not ended after 4.
SPACE = 1 + 3 + 9 + 27 + 81

RANDOM = np.random.default_rng(0)
# Some of no token, some with holes, some of all there may be; no end, which has a test of its own.
PREFIX = RANDOM.integers(-1, VOCABULARY, size=(BATCH, 3)).astype("int32")
PREFIX[PREFIX == END] = -1
ALPHA = np.linspace(0.0, 2.0, BATCH).astype("float32")

GNMT = {"length_penalty": "gnmt", "alpha": 1.3}
CASES = {
    "none": ({}, {}),
    "gnmt_banned_2grams": ({**GNMT, "banned_ids": (2,), "no_repeat_ngram_size": 2}, {}),
    "coverage_min": ({**GNMT, "beta": 0.7, "min_length": 3}, {}),
    "average_coverage_repetition": (
        {"length_penalty": "average", "beta": 0.4, "repetition_penalty": 1.7, "min_length": 2},
        {},
    ),
    "1grams_prefix": ({"length_penalty": "average", "no_repeat_ngram_size": 1}, {"prefix": PREFIX}),
    "3grams_repetition_factor": (
        {"no_repeat_ngram_size": 3, "repetition_penalty": 0.6, "max_length_factor": 0.75},
        {},
    ),
    "alphas_factor_prefix": (
        {**GNMT, "beta": 0.3, "max_length_factor": 1.5},
        {"prefix": PREFIX, "alpha": ALPHA},
    ),
    "banned_repetition_prefix_min": (
        {"banned_ids": (3,), "repetition_penalty": 2.0, "min_length": 3},
        {"prefix": np.where(PREFIX == 3, 1, PREFIX)},
    ),
    "2grams_repetition_factor_min": (
        {
            "length_penalty": "average",
            "no_repeat_ngram_size": 2,
            "repetition_penalty": 1.3,
            "max_length_factor": 1.25,
            "min_length": 2,
        },
        {},
    ),
}


def check_equals_enumeration(search, result, tables, max_length, least=1, **inputs):
    """All of the space, in order, and nothing else; what each is worth is checked as well."""
    sizes = set()
    for row in range(len(tables)):
        expected = enumerated(search, tables.sentence(row, max_length, **inputs))
        assert hypotheses(result, row) == [ids for _, _, ids in expected]
        sizes.add(len(expected))
    assert least <= min(sizes) and 1 < max(sizes) <= search.n_best
    check_result(search, result, tables, max_length, **inputs)


@pytest.mark.parametrize("name", CASES)
def test_a_beam_as_wide_as_the_space_finds_every_hypothesis_in_order(name):
    options, inputs = CASES[name]
    search, tables = BeamSearch(SPACE + 2, SPACE + 2, **options), random_tables(1, BATCH)
    result = searched(search, tables, MAX_LENGTH, **inputs)
    # A prefix may repeat what must not be repeated: then nothing comes back.
    least = 0 if name == "1grams_prefix" else 1
    check_equals_enumeration(search, result, tables, MAX_LENGTH, least, **inputs)


# Two phrases of at most three tokens a sentence: one or two, of one to three tokens; that overlap,
# hold each other, begin with their own end; none at all.
PHRASES = [
    [[1], []],
    [[2, 1], []],
    [[1, 1, 2], []],
    [[1, 2, 1], [1, 2]],
    [[1, 2], [2, 1]],
    [[2, 2, 1], [1, 2]],
    [[1, 1], [1, 1, 1]],
    [[1], [2]],
    [[], [2, 1, 2]],
    [[2, 1, 2], [1, 2, 2]],
    [[], []],
    [[1, 2], [1, 2]],
]
CONSTRAINTS = np.array([[(one + [-1] * 3)[:3] for one in pair] for pair in PHRASES], "int32")
LENGTH_OF_THREE, SPACE_OF_THREE = 5, 1 + 2 + 4 + 8 + 16 + 32
CONSTRAINED = {
    "none": ({}, {}, 1),
    "coverage_min": ({**GNMT, "beta": 0.7, "min_length": 4}, {}, 1),
    # Where the rules and the phrases leave nothing, nothing comes back.
    "2grams_repetition_factor": (
        {
            "length_penalty": "average",
            "no_repeat_ngram_size": 2,
            "repetition_penalty": 1.7,
            "max_length_factor": 1.5,
        },
        {},
        0,
    ),
    "prefix": ({}, {"prefix": np.array([[-1, 2], [1, -1], [2, 2]] * 4, "int32")}, 0),
}


@pytest.mark.parametrize("name", CONSTRAINED)
def test_every_hypothesis_with_its_phrases_is_found(name):
    options, inputs, least = CONSTRAINED[name]
    search = BeamSearch(SPACE_OF_THREE, SPACE_OF_THREE, **options)
    tables, inputs = random_tables(2, BATCH, 3), {**inputs, "constraints": CONSTRAINTS}
    result = searched(search, tables, LENGTH_OF_THREE, **inputs)
    check_equals_enumeration(search, result, tables, LENGTH_OF_THREE, least, **inputs)


def test_enumeration_is_complete():
    tables = random_tables(1, 1)
    found = {tuple(ids) for _, _, ids in enumerated(BeamSearch(), tables.sentence(0, MAX_LENGTH))}
    going_on = range(1, VOCABULARY)
    expected = {
        (*ids, last)
        for length in range(MAX_LENGTH)
        for ids in itertools.product(going_on, repeat=length)
        for last in (range(VOCABULARY) if length == MAX_LENGTH - 1 else [END])
    }
    assert found == expected and len(found) == SPACE


def test_groups_as_wide_as_the_space_find_it_once():
    search = BeamSearch(2 * SPACE, 2 * SPACE, num_groups=2, diversity=0.3)
    tables = random_tables(3, 4)
    result = searched(search, tables, MAX_LENGTH)
    check_distinct(result)
    check_equals_enumeration(search, result, tables, MAX_LENGTH)


@pytest.mark.traced
@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_best_does_not_depend_on_how_much_more_comes_back(jit_compile):
    # Here `early_stopping` has something to do.
    search, tables = BeamSearch(SPACE, 2, **GNMT), random_tables(1, BATCH)
    result = searched(search, tables, MAX_LENGTH, jit_compile)
    for row in range(BATCH):
        expected = enumerated(search, tables.sentence(row, MAX_LENGTH))[:2]
        assert hypotheses(result, row) == [ids for _, _, ids in expected]
