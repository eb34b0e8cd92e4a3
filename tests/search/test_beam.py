"""Narrow beams: by hand, and slot by slot against a beam search in plain Python."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.search import BeamSearch, GreedySearch
from tests.reference import why_not
from tests.search.oracles import END, SMALLEST, beam_searched
from tests.search.running import (
    BACKEND,
    chain,
    check_distinct,
    check_equals_plain_python,
    check_result,
    compiled,
    even_tables,
    hypotheses,
    random_tables,
    searched,
    step_of,
    to_numpy,
    uncompiled,
)

# ---------------------------------------------------------------------------------------------
# Worked by hand
# ---------------------------------------------------------------------------------------------

# From the start 4: 1 (0.4), 2 (0.35), 3 (0.25). Then 1 goes on evenly, 2 ends with 0.5, 3 with 1:
# the best is 3 END with 0.25, which a beam of 2 has dropped (its best is 2 END with 0.175).
MISLEADING = [
    [1, 0, 0, 0, 0],
    [0.25, 0.25, 0.25, 0.25, 0],
    [0.5, 0.25, 0.25, 0, 0],
    [1, 0, 0, 0, 0],
    [0, 0.4, 0.35, 0.25, 0],
]


@pytest.mark.parametrize(("width", "ids", "p"), [(2, [2, 0], 0.175), (5, [3, 0], 0.25)])
def test_a_narrow_beam_misses_what_a_beam_as_wide_as_the_vocabulary_finds(width, ids, p):
    result = searched(BeamSearch(width), chain(MISLEADING, start=4), 4)
    assert result.ids[0, 0].tolist() == ids + [0, 0]
    np.testing.assert_allclose(result.log_probs, [[np.log(p)]], rtol=1e-5)


EVEN = [[1, 0, 0, 0], [0.25] * 4, [0.25] * 4, [0.25] * 4]


def test_equal_scores_go_to_the_lower_slot_and_id():
    result = searched(BeamSearch(4, n_best=4), chain(EVEN, start=3), 1)
    assert result.ids[0, :, 0].tolist() == [0, 1, 2, 3]
    result = searched(BeamSearch(3, n_best=3), chain(EVEN, start=3), 2)
    # First 0, 1, 2; the ended 0 has the best score, then all that go on with 1 are equal.
    assert result.ids[0].tolist() == [[0, 0], [1, 0], [1, 1]]


def test_length_penalties_by_hand():
    # 1 END has p = 1/2 1/2, and END alone p = 1/2: log p of 2 log 2 over L = 2, and log 2 over 1.
    tables = chain([[1, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0]], start=2)
    for penalty, expected in (
        ("average", np.log(0.25) / 2),
        ("gnmt", np.log(0.25) / (7 / 6) ** 0.6),
    ):
        result = searched(BeamSearch(3, n_best=3, length_penalty=penalty), tables, 2)
        at = result.ids[0].tolist().index([1, 0])
        np.testing.assert_allclose(result.scores[0, at], expected, rtol=1e-5)


def test_the_coverage_penalty_by_hand():
    # All attention is on the first of three positions, the last of which is padding.
    tables = chain(EVEN, start=3)
    weights = np.broadcast_to(np.float32([0.25, 0.1, 0.0]), (1, 4, 3))
    tables = dataclasses.replace(
        tables, attention=np.array(weights), kept=np.array([[True, True, False]])
    )
    result = searched(BeamSearch(8, n_best=8, beta=0.5), tables, 2)
    # Of END alone, one step; of 1 END, two steps, the end's included.
    for ids, steps in (([0, 0], 1), ([1, 0], 2), ([1, 1], 2)):
        at = result.ids[0].tolist().index(ids)
        expected = steps * np.log(0.25) + 0.5 * (np.log(0.25 * steps) + np.log(0.1 * steps))
        np.testing.assert_allclose(result.scores[0, at], expected, rtol=1e-5)


@pytest.mark.parametrize(("logits", "scores"), [("float32", "float64"), ("float64", "float32")])
def test_a_kept_position_that_got_nothing_counts_as_the_smallest_normal_number(logits, scores):
    # That of the attention scores, whatever the logits are; a subnormal one would be flushed to 0.
    tables = chain(EVEN, start=3)
    tables = dataclasses.replace(
        tables,
        logits=tables.logits.astype(logits),
        attention=np.zeros_like(tables.attention, scores),
    )
    result = searched(BeamSearch(2, n_best=2, beta=0.5), tables, 1)
    of_scores = keras.backend.standardize_dtype(ops.convert_to_tensor(tables.attention).dtype)
    expected = np.log(0.25) + 0.5 * np.log(SMALLEST[of_scores])
    np.testing.assert_allclose(result.scores, [[expected] * 2], 1e-6)


# Of the first sentence the end has 0.36 at once. 1 (0.34) and 2 (0.3) end at the next step, and so
# score better only once lengths count: log 0.34 is -1.08 now and, over 2, -0.56; log 0.36 is -1.02.
# Of the second the end has 0.3 at once, less than 1, which has 0.6 and ends, with 0.2, or goes on.
STOPPING = [
    [[1, 0, 0, 0], [0.97, 0.03, 0, 0], [1, 0, 0, 0], [0.36, 0.34, 0.3, 0]],
    [[1, 0, 0, 0], [0.2, 0.8, 0, 0], [1, 0, 0, 0], [0.3, 0.6, 0.1, 0]],
]


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        ("never", [1, 0, 0, 0], [1, 1, 1, 1]),
        (False, [0, 0, 0, 0], [1, 1, 1, 1]),
        (True, [0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_early_stopping_by_hand(rule, first, second):
    search = BeamSearch(3, length_penalty="average", early_stopping=rule)
    tables = [chain(table, start=3) for table in STOPPING]
    logits, attention, kept = (
        np.concatenate([getattr(one, name) for one in tables])
        for name in ("logits", "attention", "kept")
    )
    tables = dataclasses.replace(tables[0], logits=logits, attention=attention, kept=kept)
    assert searched(search, tables, 4).ids[:, 0].tolist() == [first, second]


def test_groups_by_hand():
    # 1 has 0.5 and 2 has 0.4: the second group chooses 2 once 1 loses more than log 5/4.
    tables = chain([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0.1, 0.5, 0.4, 0]], start=3)
    for diversity, expected in ((0.1, [[1, 0]]), (0.3, [[1, 0], [2, 0]])):
        search = BeamSearch(2, 2, num_groups=2, diversity=diversity)
        result = searched(search, tables, 2)
        assert hypotheses(result, 0) == expected
    # What was lost for the choice is no part of the score.
    np.testing.assert_allclose(result.scores, np.log([[0.5, 0.4]]), rtol=1e-5)


# ---------------------------------------------------------------------------------------------
# Slot by slot, on many random models
# ---------------------------------------------------------------------------------------------

GNMT = {"length_penalty": "gnmt", "alpha": 1.5}
AVERAGE = {"length_penalty": "average"}
CASES = {
    "none": {},
    "average": AVERAGE,
    "gnmt_1_best": {**GNMT, "n_best": 1},
    "coverage": {**GNMT, "beta": 0.6, "n_best": 2},
    "rules": {
        **AVERAGE,
        "beta": 0.2,
        "min_length": 2,
        "no_repeat_ngram_size": 2,
        "repetition_penalty": 1.4,
        "max_length_factor": 1.75,
        "banned_ids": (3,),
        "n_best": 2,
    },
    "until_none_is_better": {**AVERAGE, "early_stopping": False, "n_best": 2},
    "until_none_is_better_coverage": {**GNMT, "beta": 0.4, "early_stopping": False, "n_best": 1},
    "until_enough": {**GNMT, "early_stopping": True, "n_best": 2},
    "groups": {"beam_width": 6, "n_best": 6, "num_groups": 3, "diversity": 0.8},
    "groups_average": {
        **AVERAGE,
        "beam_width": 4,
        "n_best": 3,
        "num_groups": 2,
        "diversity": 1.5,
        "early_stopping": True,
    },
    # Four slots a group, and three tokens: at first some stay empty.
    "groups_rules": {
        **GNMT,
        "beam_width": 8,
        "n_best": 8,
        "num_groups": 2,
        "banned_ids": (1, 4),
        "beta": 0.3,
        "no_repeat_ngram_size": 1,
    },
}
BATCH, MAX_LENGTH, VOCABULARY = 250, 6, 5


@pytest.mark.parametrize("name", CASES)
def test_equals_a_beam_search_slot_by_slot(name):
    search = BeamSearch(**{"beam_width": 3, "n_best": 3, **CASES[name]})
    tables = random_tables(11, BATCH, VOCABULARY)
    result = searched(search, tables, MAX_LENGTH)
    check_equals_plain_python(search, result, tables, MAX_LENGTH)
    few = tables.rows(slice(25))
    check_result(search, to_numpy([one[:25] for one in result]), few, MAX_LENGTH)
    check_distinct(result)


@pytest.mark.parametrize("options", [{}, {"num_groups": 2, "diversity": 1.0}], ids=str)
def test_equal_scores_of_long_hypotheses_go_to_the_lower_slot_and_id(options):
    tables, search = even_tables(4, 120), BeamSearch(4, 4, **options)
    result = searched(search, tables, 5)
    check_equals_plain_python(search, result, tables, 5)


def test_empty_slots_of_a_group_chose_nothing():
    # Half of all tokens are impossible, and none may come twice: hypotheses run dry.
    tables = random_tables(20, BATCH, VOCABULARY)
    impossible = np.random.default_rng(20).uniform(size=tables.logits.shape) < 0.5
    tables.logits[impossible] = -np.inf
    tables.logits[(~impossible).sum(axis=-1) == 0] = 0.0
    search = BeamSearch(6, 6, num_groups=3, diversity=1.0, no_repeat_ngram_size=1)
    result = searched(search, tables, MAX_LENGTH)
    check_equals_plain_python(search, result, tables, MAX_LENGTH)
    assert (result.lengths[:, 1] == 0).any()


def test_a_beam_of_one_is_greedy():
    # Under rules too: greedy search has tests against a beam of one in plain Python.
    tables = random_tables(13, BATCH, VOCABULARY)
    one = searched(BeamSearch(1), tables, MAX_LENGTH)
    other = searched(GreedySearch(), tables, MAX_LENGTH)
    for name in ("ids", "lengths"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("scores", "log_probs", "attention_scores"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-5)


# ---------------------------------------------------------------------------------------------
# Independence and compilation
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rules", "groups_average"])
def test_batch_mates_do_not_matter(name):
    search = BeamSearch(**{"beam_width": 3, "n_best": 3, **CASES[name]})
    tables = random_tables(15, BATCH, VOCABULARY)
    together = searched(search, tables, MAX_LENGTH)
    chosen = np.array([200, 3, 77])
    few = searched(search, tables.rows(chosen), MAX_LENGTH)
    for one, of_all in zip(few, together, strict=True):
        np.testing.assert_allclose(one, of_all[chosen], rtol=1e-6)


def test_padding_does_not_matter():
    search = BeamSearch(3, **CASES["rules"])
    tables = random_tables(16, BATCH, VOCABULARY)
    padded = dataclasses.replace(
        tables,
        attention=np.pad(tables.attention, ((0, 0), (0, 0), (0, 2))),
        kept=np.pad(tables.kept, ((0, 0), (0, 2))),
    )
    one, other = searched(search, tables, MAX_LENGTH), searched(search, padded, MAX_LENGTH)
    for name in ("ids", "lengths", "scores", "log_probs"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6)
    np.testing.assert_array_equal(one.attention_scores, other.attention_scores[..., :3])


@pytest.mark.traced
def test_xla_gives_the_same():
    search = BeamSearch(3, **CASES["rules"])
    tables = random_tables(17, BATCH, VOCABULARY)
    result = searched(search, tables, MAX_LENGTH, jit_compile=True)
    check_equals_plain_python(search, result, tables, MAX_LENGTH)


@pytest.mark.skipif(BACKEND == "jax", reason="An eager JAX compiles every operation, for minutes")
def test_what_is_not_compiled_gives_the_same():
    search = BeamSearch(3, **CASES["rules"])
    tables = random_tables(17, 3, VOCABULARY)
    result = uncompiled(search, tables, MAX_LENGTH)
    check_equals_plain_python(search, result, tables, MAX_LENGTH)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX traces the step, once for all")
@pytest.mark.parametrize(("rule", "calls"), [("never", 4), (False, 3), (True, 1)])
def test_a_search_ends_as_soon_as_it_may(rule, calls):
    # The end has 0.3, log -1.20; 1 has 0.6 and goes on with 0.6. As long as it is now, 1 scores
    # worse after 3 steps: 3 log 0.6 / (8/6)^0.5 = -1.33. Were it of the 12 tokens that there may
    # be, after 4: 4 log 0.6 / (17/6)^0.5 = -1.21.
    tables, counted = chain([[1, 0, 0], [0.4, 0.6, 0], [0.3, 0.6, 0.1]], start=2), []
    plain = step_of(tables.factor)

    def step(*arguments):
        counted.append(1)
        return plain(*arguments)

    search = BeamSearch(2, length_penalty="gnmt", alpha=0.5, early_stopping=rule)
    uncompiled(search, tables, 12, step)
    assert len(counted) == calls


def test_a_step_without_attention_scores():
    tables = random_tables(18, BATCH, VOCABULARY)
    with_scores, without = (
        searched(BeamSearch(3, 3), tables, MAX_LENGTH, gives_attention=gives)
        for gives in (True, False)
    )
    assert without.attention_scores is None
    for one, other in zip(with_scores[:4], without[:4], strict=True):
        np.testing.assert_array_equal(one, other)


def test_any_structure_of_states_goes_with_its_hypothesis():
    # Besides the node, what the state remembers: the ids so far as a number, in three shapes.
    def step(ids, state, shared):
        first, (second, third) = state["a"], state["b"]
        first = first * 10 + ops.cast(ids[..., None], "float32")
        second = second * 10 + ops.cast(ids[..., None, None], "int32")
        third = third + ops.cast(ids, "float32")
        # The attention scores say what the states are.
        seen = ops.stack([first[..., 0], ops.cast(second[..., 1, 2], "float32"), third], axis=-1)
        at = ops.cast(ops.sum(seen, axis=-1), "int32") % 97
        return ops.take(shared["logits"][0], at, axis=0), {"a": first, "b": [second, third]}, seen

    logits = np.random.default_rng(0).normal(size=(1, 97, 4)).astype("float32")

    def run(logits):
        return BeamSearch(5, 5)(
            step,
            {"a": ops.zeros((1, 1, 1)), "b": [ops.zeros((1, 1, 2, 3), "int32"), ops.zeros((1, 1))]},
            {"logits": logits},
            start_ids=ops.full((1, 1), 3, "int32"),
            end_id=END,
            max_length=4,
        )

    result = to_numpy(compiled(run)(ops.convert_to_tensor(logits)))
    assert len(hypotheses(result, 0)) == 5
    for ids, seen in zip(hypotheses(result, 0), result.attention_scores[0], strict=True):
        before = [3, *ids]
        for place in range(len(ids)):
            number = int("".join(map(str, before[: place + 1])))
            assert seen[place].tolist() == [number, number, sum(before[: place + 1])]


@pytest.mark.skipif(why_not("float64") is not None, reason="float64 needs JAX_ENABLE_X64=1")
def test_float64_logits_are_summed_in_float64():
    search = BeamSearch(3, **CASES["coverage"] | {"repetition_penalty": 1.3})
    tables = random_tables(19, 20, VOCABULARY, dtype="float64")
    result = searched(search, tables, MAX_LENGTH)
    assert result.scores.dtype == result.log_probs.dtype == "float64"
    for row in range(len(tables)):
        expected = beam_searched(search, tables.sentence(row, MAX_LENGTH))
        found = result.scores[row, : len(expected)]
        np.testing.assert_allclose(found, [slot.score for slot in expected], rtol=1e-12)


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"beam_width": 0}, ["beam_width", "at least 1", "0"]),
        ({"beam_width": 2.5}, ["beam_width", "an integer", "2.5"]),
        ({"n_best": 5}, ["n_best", "beam_width=4", "5"]),
        ({"n_best": 0}, ["n_best", "1", "0"]),
        ({"length_penalty": "wu"}, ["length_penalty", "none", "average", "gnmt", "'wu'"]),
        ({"alpha": -0.1}, ["alpha", "at least 0", "-0.1"]),
        ({"alpha": float("nan")}, ["alpha", "at least 0", "nan"]),
        ({"beta": -1.0}, ["beta", "at least 0", "-1.0"]),
        ({"beta": float("inf")}, ["beta", "finite", "inf"]),
        ({"diversity": -1.0}, ["diversity", "at least 0", "-1.0"]),
        ({"diversity": float("inf")}, ["diversity", "finite", "inf"]),
        ({"num_groups": 3}, ["num_groups", "beam_width=4", "3"]),
        ({"num_groups": 0}, ["num_groups", "at least 1", "0"]),
        ({"early_stopping": "always"}, ["early_stopping", "'never'", "False", "True", "'always'"]),
        ({"early_stopping": 1}, ["early_stopping", "'never'", "False", "True", "1"]),
    ],
    ids=str,
)
def test_refused_options(options, parts):
    with pytest.raises(ValueError) as error:
        BeamSearch(**options)
    for part in parts:
        assert part in str(error.value)


def test_a_coverage_penalty_needs_attention_scores():
    tables = random_tables(0, 1)
    with pytest.raises(ValueError, match=r"beta needs a step that returns attention scores"):
        searched(BeamSearch(2, beta=0.5), tables, 3, gives_attention=False)
