"""What searches refuse to be asked, before the first step, and what shortcuts stand for."""

import dataclasses

import numpy as np
import pytest
from keras import ops

from keras_luong.search import BeamSearch, GreedySearch, SamplingSearch, search_of

END, BATCH = 0, 2


def ask(search, **asked):
    """A call whose step must never run."""

    def step(ids, state, shared):
        raise AssertionError("The step ran.")

    start_ids = ops.ones((BATCH, 1), "int32")
    return search(
        step, (), None, **{"start_ids": start_ids, "end_id": END, "max_length": 5} | asked
    )


def check_refused(search, parts, **asked):
    with pytest.raises(ValueError) as error:
        ask(search, **asked)
    for part in parts:
        assert part in str(error.value), part


def ids(*rows):
    return np.array(rows, "int32")


SEARCHES = [GreedySearch(), BeamSearch(4), SamplingSearch()]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda one: type(one).__name__)
def test_refused_lengths(search):
    check_refused(search, ["max_length must be at least 1", "Received: 0"], max_length=0)
    check_refused(search, ["`max_length` must be an integer", "Received: 2.5"], max_length=2.5)
    check_refused(search, ["max_length must be at least 1", "Received: -2"], max_length=-2)


@pytest.mark.parametrize("kind", [GreedySearch, BeamSearch, SamplingSearch])
def test_a_min_length_above_max_length_is_refused(kind):
    parts = ["max_length must be at least 6", f"min_length of {kind.__name__}", "Received: 5"]
    check_refused(kind(min_length=6), parts)


@pytest.mark.parametrize("kind", [GreedySearch, BeamSearch, SamplingSearch])
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"min_length": -1}, ["min_length", "at least 0", "-1"]),
        ({"min_length": 1.5}, ["min_length", "an integer", "1.5"]),
        ({"max_length_factor": 0.0}, ["max_length_factor", "above 0", "0.0"]),
        ({"max_length_factor": float("inf")}, ["max_length_factor", "finite", "inf"]),
        ({"banned_ids": (1.5,)}, ["banned_ids", "an integer", "1.5"]),
        ({"banned_ids": (3, -1)}, ["banned_ids", "at least 0", "(3, -1)"]),
        ({"no_repeat_ngram_size": -1}, ["no_repeat_ngram_size", "at least 0", "-1"]),
        ({"repetition_penalty": 0.0}, ["repetition_penalty", "above 0", "0.0"]),
        ({"repetition_penalty": -1.2}, ["repetition_penalty", "above 0", "-1.2"]),
        ({"repetition_penalty": float("nan")}, ["repetition_penalty", "above 0", "nan"]),
    ],
    ids=str,
)
def test_refused_rules(kind, options, parts):
    with pytest.raises(ValueError) as error:
        kind(**options)
    for part in parts:
        assert part in str(error.value)


def test_numbers_of_numpy_are_kept_as_those_of_python():
    numbers = {"min_length": np.int64(2), "repetition_penalty": np.float32(1.5)}
    kept = [
        BeamSearch(
            np.int32(4), num_groups=np.uint8(2), diversity=1, banned_ids=np.array([5]), **numbers
        ),
        SamplingSearch(top_k=np.int64(3), top_p=np.float32(0.5), **numbers),
    ]
    for search in kept:
        for value in dataclasses.asdict(search).values():
            assert type(value) in (int, float, str, tuple, type(None)), value
        assert type(search.min_length) is int and type(search.repetition_penalty) is float
    assert kept[0] == BeamSearch(
        4, num_groups=2, diversity=1.0, banned_ids=(5,), min_length=2, repetition_penalty=1.5
    )


def test_a_length_by_the_source_needs_to_know_the_source():
    for kind in (GreedySearch, BeamSearch, SamplingSearch):
        check_refused(kind(max_length_factor=1.5), ["max_length_factor needs the source_mask"])


@pytest.mark.parametrize(
    ("search", "name"),
    [
        (GreedySearch(), "constraints"),
        (GreedySearch(), "alpha"),
        (GreedySearch(), "seed"),
        (BeamSearch(), "seed"),
        (SamplingSearch(), "constraints"),
        (SamplingSearch(), "alpha"),
    ],
    ids=str,
)
def test_what_a_search_does_not_take_is_refused(search, name):
    given = {"constraints": ids([[1]], [[1]]), "alpha": np.ones(2), "seed": ids(1, 2)}
    check_refused(search, [type(search).__name__, "takes prefix", name], **{name: given[name]})


PREFIXES = {
    "rank": (ids(1, 2), {}, ["prefix", "(batch, tokens)", "(2,)"]),
    "dtype": (np.ones((2, 1), "float32"), {}, ["prefix", "integer ids", "float32"]),
    "length": (ids([1] * 6, [1] * 6), {}, ["at most max_length=5", "a prefix of 6"]),
    "banned": (ids([1, 2], [3, -1]), {"banned_ids": (3, 2)}, ["prefix and banned_ids", "[2, 3]"]),
    "min": (ids([1, 2], [1, END]), {"min_length": 3}, ["after 2 tokens", "min_length=3", "[1, 0]"]),
}


@pytest.mark.parametrize("name", PREFIXES)
@pytest.mark.parametrize("kind", [GreedySearch, BeamSearch, SamplingSearch])
def test_refused_prefixes(kind, name):
    prefix, options, parts = PREFIXES[name]
    check_refused(kind(**options), parts, prefix=prefix)


CONSTRAINTS = {
    "rank": (ids([1, 2], [1, 2]), {}, ["constraints", "(batch, phrases, tokens)", "(2, 2)"]),
    "dtype": (np.ones((2, 1, 1), "float32"), {}, ["constraints", "integer ids", "float32"]),
    "length": (ids([[1] * 6], [[2] * 6]), {}, ["A phrase of 6 tokens", "max_length=5"]),
    "banned": (ids([[3]], [[1]]), {"banned_ids": (3, 2)}, ["constraints and banned_ids", "[3]"]),
    "end": (ids([[1, END]], [[1, -1]]), {}, ["cannot hold the end id 0"]),
    "holes": (ids([[1, -1, 2]], [[1, 2, 3]]), {}, ["no holes", "[1, -1, 2]"]),
    "groups": (ids([[1]], [[1]]), {"num_groups": 2}, ["num_groups=1", "num_groups=2"]),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_refused_constraints(name):
    constraints, options, parts = CONSTRAINTS[name]
    check_refused(BeamSearch(**options), parts, constraints=constraints)


@pytest.mark.parametrize("alpha", [[-0.1, 1.0], [1.0, np.nan], [np.inf, 1.0]])
def test_refused_alphas(alpha):
    check_refused(BeamSearch(), ["alpha", "at least 0 and finite"], alpha=np.array(alpha))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.9}, "`alpha` needs `length_penalty` of gnmt. Received: alpha=0.9"),
        ({"diversity": 1.0}, "`diversity` needs `num_groups` of 2 or more. Received: diversity"),
    ],
)
def test_numbers_that_would_change_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BeamSearch(4, **options)


def test_an_alpha_without_the_penalty_that_it_is_of_is_refused():
    check_refused(BeamSearch(), ["`alpha` needs a search with `length_penalty`"], alpha=1.0)


@pytest.mark.parametrize(("search", "name"), [(BeamSearch(), "alpha"), (SamplingSearch(), "seed")])
def test_one_number_a_sentence(search, name):
    parts = [f"{name} must be a number or have the shape (batch,)", "(2, 1)"]
    check_refused(search, parts, **{name: np.ones((2, 1), "int32")})


def test_shortcuts():
    assert search_of("greedy") == GreedySearch()
    assert search_of("beam") == BeamSearch()
    assert search_of("sampling") == SamplingSearch()
    search = BeamSearch(7)
    assert search_of(search) is search


@pytest.mark.parametrize("search", ["beams", "", None, 4, BeamSearch])
def test_anything_else_is_no_search(search):
    with pytest.raises(ValueError, match=r"search must be one of .*'greedy'.*Received: "):
        search_of(search)


def test_searches_are_values():
    # What was compiled for one serves its equals.
    assert BeamSearch(4, banned_ids=[1, 2]) == BeamSearch(4, banned_ids=(1, 2))
    assert hash(BeamSearch(4, banned_ids=[1, 2])) == hash(BeamSearch(4, banned_ids=(1, 2)))
    assert BeamSearch(4) != BeamSearch(5) and GreedySearch() != SamplingSearch()
