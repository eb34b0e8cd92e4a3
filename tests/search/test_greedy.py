"""Greedy search on plain step functions: it knows no model."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.search import BeamSearch, GreedySearch
from tests.search.oracles import beam_searched
from tests.search.running import chain as chain_of
from tests.search.running import compiled, hypotheses, random_tables, searched, to_numpy

END = 3


def search(step, state=(), shared=None, batch=1, start=0, end_id=END, max_length=6):
    result = GreedySearch()(
        step,
        state,
        shared,
        start_ids=ops.full((batch, 1), start, "int32"),
        end_id=end_id,
        max_length=max_length,
    )
    return to_numpy(result)


def follow(table):
    """A step function whose logits are the row of a table `(v, v)` at the last id."""

    def step(ids, state, shared):
        return ops.take(ops.convert_to_tensor(table, "float32"), ids, axis=0), state

    return step


def chain(*ids, size=6):
    """A table that leads along the ids."""
    table = np.zeros((size, size))
    for one, following in zip(ids, ids[1:], strict=False):
        table[one, following] = 5.0
    return table


# ---------------------------------------------------------------------------------------------
# Worked by hand
# ---------------------------------------------------------------------------------------------


def test_stops_at_the_end_id_and_repeats_it():
    result = search(follow(chain(0, 4, 1, 3, 5)))
    assert result.ids.tolist() == [[[4, 1, 3, 3, 3, 3]]] and result.ids.dtype == "int32"
    assert result.lengths.tolist() == [[3]] and result.lengths.dtype == "int32"
    # Three tokens of logit 5 among six, the others 0.
    expected = 3 * (5 - np.log(np.exp(5) + 5))
    np.testing.assert_allclose(result.log_probs, [[expected]], rtol=1e-5)
    np.testing.assert_array_equal(result.scores, result.log_probs)
    assert result.attention_scores is None


def test_stops_at_max_length():
    result = search(follow(chain(0, 4, 1, 4)), max_length=5)
    assert result.ids.tolist() == [[[4, 1, 4, 1, 4]]]
    assert result.lengths.tolist() == [[5]]


def test_the_end_may_come_first():
    result = search(follow(chain(0, 3)))
    assert result.ids.tolist() == [[[3] * 6]] and result.lengths.tolist() == [[1]]


@pytest.mark.parametrize(("following", "ids"), [(4, [4]), (3, [3])])
def test_one_token(following, ids):
    result = search(follow(chain(0, following)), max_length=1)
    assert result.ids.tolist() == [[ids]] and result.lengths.tolist() == [[1]]
    np.testing.assert_allclose(result.log_probs, [[5 - np.log(np.exp(5) + 5)]], rtol=1e-5)


def test_ties_go_to_the_lower_id():
    table = np.zeros((6, 6))
    table[0, [2, 4]] = 1.5
    table[2, [1, 5]] = 1.5
    # All of row 1 and row 0 are equal: id 0, padding, is not banned.
    assert search(follow(table)).ids.tolist() == [[[2, 1, 0, 2, 1, 0]]]


def test_the_end_id_is_an_argument():
    result = search(follow(chain(0, 4, 1, 3, 5)), end_id=1)
    assert result.ids.tolist() == [[[4, 1, 1, 1, 1, 1]]] and result.lengths.tolist() == [[2]]


def test_the_start_is_not_counted_even_if_it_is_the_end_id():
    result = search(follow(chain(3, 4, 1, 3)), start=3)
    assert result.ids.tolist() == [[[4, 1, 3, 3, 3, 3]]]


@pytest.mark.parametrize("max_length", [0, -1])
def test_max_length_below_one_is_refused(max_length):
    with pytest.raises(
        ValueError, match=rf"max_length must be at least 1\. Received: {max_length}"
    ):
        search(follow(chain(0, 3)), max_length=max_length)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX traces the step, once for all")
def test_the_loop_ends_with_the_longest_sentence():
    calls, plain = [], follow(chain(0, 4, 1, 3, 5))

    def step(*arguments):
        calls.append(1)
        return plain(*arguments)

    search(step, max_length=50)
    assert len(calls) == 3


# ---------------------------------------------------------------------------------------------
# State, what is shared, and attention scores
# ---------------------------------------------------------------------------------------------


def test_a_nested_state_keeps_its_structure():
    def step(ids, state, shared):
        assert set(state) == {"count", "nested"} and isinstance(state["nested"], list)
        inner, (last,) = state["nested"]
        count = state["count"] + 1.0
        # The second token is what the state counts, the third what it remembers of the first.
        chosen = ops.where(count[..., 0] < 2, shared, ops.where(count[..., 0] < 3, 2, last[..., 0]))
        logits = ops.one_hot(ops.cast(chosen, "int32"), 6)
        return logits, {"count": count, "nested": [inner * 2.0, (ops.maximum(last, count + 3.0),)]}

    state = {
        "count": ops.zeros((2, 1, 1)),
        "nested": [ops.ones((2, 1, 3, 2)), (ops.zeros((2, 1, 1)),)],
    }
    shared = ops.convert_to_tensor([[1], [4]], "int32")
    result = search(step, state, shared, batch=2, max_length=3, end_id=0)
    assert result.ids.tolist() == [[[1, 2, 5]], [[4, 2, 5]]]


def test_attention_scores_are_kept_by_step_and_zero_after_the_end():
    plain = follow(chain(0, 4, 1, 3))

    def step(ids, state, shared):
        logits, _ = plain(ids, state, shared)
        weights = ops.cast(ops.stack([ids + 1, ids * 2], axis=-1), "float32")
        return logits, state, weights

    result = search(step, max_length=5)
    # For the ids that led to each token: 0, 4, 1.
    assert result.attention_scores.tolist() == [[[[1, 0], [5, 8], [2, 2], [0, 0], [0, 0]]]]


# ---------------------------------------------------------------------------------------------
# Random step functions against a plain loop
# ---------------------------------------------------------------------------------------------

VOCABULARY, DEPTH, SOURCE = 7, 5, 4
RANDOM = np.random.default_rng(1)
WEIGHTS = {
    "embedding": RANDOM.normal(size=(VOCABULARY, DEPTH)),
    "recurrent": RANDOM.normal(size=(DEPTH, DEPTH)),
    "head": 2.0 * RANDOM.normal(size=(DEPTH, VOCABULARY)),
    "source": RANDOM.normal(size=(DEPTH, SOURCE)),
}
SHARED = RANDOM.normal(size=(12, VOCABULARY))


def random_step(ids, state, shared):
    """A small recurrent network; the one state leads with `(b, 1)`, what is shared with `b`."""
    weights = {name: ops.convert_to_tensor(one, "float32") for name, one in WEIGHTS.items()}
    (h,) = state
    h = ops.tanh(ops.take(weights["embedding"], ids, axis=0) + ops.matmul(h, weights["recurrent"]))
    logits = ops.matmul(h, weights["head"]) + shared[:, None]
    return logits, [h], ops.softmax(ops.matmul(h, weights["source"]))


def looped(shared, max_length):
    """One sentence in NumPy: ids, length, sum of log-probabilities, attention scores."""
    h, last, ids, log_prob = np.zeros(DEPTH), 0, [], 0.0
    scores = np.zeros((max_length, SOURCE))
    while len(ids) < max_length and last != END:
        h = np.tanh(WEIGHTS["embedding"][last] + h @ WEIGHTS["recurrent"])
        logits = h @ WEIGHTS["head"] + shared
        weights = np.exp(h @ WEIGHTS["source"])
        scores[len(ids)] = weights / weights.sum()
        last = int(np.argmax(logits))
        log_prob += logits[last] - np.log(np.exp(logits).sum())
        ids.append(last)
    return ids + [END] * (max_length - len(ids)), len(ids), log_prob, scores


def random_search(rows, max_length):
    state = [ops.zeros((len(rows), 1, DEPTH))]

    def run(shared):
        return GreedySearch()(
            random_step,
            state,
            shared,
            start_ids=ops.zeros((len(rows), 1), "int32"),
            end_id=END,
            max_length=max_length,
        )

    return to_numpy(compiled(run)(ops.convert_to_tensor(SHARED[rows], "float32")))


def test_equals_a_plain_loop():
    rows = np.arange(len(SHARED))
    result = random_search(rows, 9)
    lengths = set()
    for row in rows:
        ids, length, log_prob, scores = looped(SHARED[row], 9)
        assert result.ids[row, 0].tolist() == ids
        assert result.lengths[row, 0] == length
        np.testing.assert_allclose(result.log_probs[row, 0], log_prob, rtol=1e-4)
        np.testing.assert_allclose(result.attention_scores[row, 0], scores, atol=1e-5)
        lengths.add(length)
    assert len(lengths) > 2 and 9 in lengths  # some end early, some never


RULES = {
    "repetition": {"repetition_penalty": 1.8},
    "lengths": {"min_length": 3, "max_length_factor": 1.75},
    "all": {
        "min_length": 2,
        "max_length_factor": 2.5,
        "banned_ids": (2, 4),
        "no_repeat_ngram_size": 2,
        "repetition_penalty": 0.7,
    },
}


@pytest.mark.parametrize("name", RULES)
def test_rules_and_a_prefix_against_plain_python(name):
    tables, prefix = random_tables(3, 200, 6), np.array([[-1, -1], [3, -1], [-1, 5], [1, 1]] * 50)
    result = searched(GreedySearch(**RULES[name]), tables, 6, prefix=prefix.astype("int32"))
    for row in range(len(tables)):
        # Slot by slot a beam of one is a greedy search.
        sentence = tables.sentence(row, 6, prefix=prefix)
        (expected,) = beam_searched(BeamSearch(1, **RULES[name]), sentence)
        assert hypotheses(result, row) == [expected.ids]
        np.testing.assert_allclose(result.scores[row, 0], expected.score, rtol=1e-4)
        np.testing.assert_allclose(result.log_probs[row, 0], expected.log_probs, rtol=1e-4)


def test_where_no_token_is_allowed_the_place_is_empty():
    # Of the second sentence the prefix says twice what may be said once.
    prefix = np.array([[1, 2], [1, 1]], "int32")
    tables = random_tables(4, 2, 4)
    result = searched(GreedySearch(no_repeat_ngram_size=1), tables, 4, prefix=prefix)
    assert result.lengths[0, 0] > 1 and result.lengths[1, 0] == 0
    assert np.isfinite(result.scores[0, 0])
    assert result.scores[1, 0] == result.log_probs[1, 0] == -np.inf
    assert result.ids[1].tolist() == [[0, 0, 0, 0]] and not result.attention_scores[1].any()


@pytest.mark.parametrize(
    ("factor", "kept", "limit"),
    [
        (0.15, 100, 15),
        (0.3, 50, 15),
        (1.1, 10, 11),
        (0.5, 5, 3),
        (2, 7, 14),
        (0.1, 0, 1),
        (9, 9, 20),
    ],
)
def test_a_limit_by_the_source_is_rounded_up_as_people_do(factor, kept, limit):
    # Nothing ever ends; a source of no token still gets one, and none more than max_length.
    tables = chain_of([[0.0, 1.0], [0.0, 1.0]], start=1)
    mask = np.arange(100)[None] < kept
    tables = dataclasses.replace(tables, attention=np.ones((1, 2, 100), "float32"), kept=mask)
    result = searched(GreedySearch(max_length_factor=factor), tables, 20)
    assert result.lengths.tolist() == [[limit]]


def test_batch_mates_do_not_matter():
    together = random_search(np.arange(len(SHARED)), 9)
    for row in (0, 5, 11):
        alone = random_search(np.array([row]), 9)
        for one, all_rows in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_rows[row], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_are_summed_in_float32(dtype):
    # 1,000 equal logits: each token costs ln 1000, 40 of them 276.31, a number bfloat16 has not.
    def step(ids, state, shared):
        return ops.zeros((1, 1, 1000), dtype), state

    result = search(step, max_length=40)
    assert result.log_probs.dtype == "float32"
    np.testing.assert_allclose(result.log_probs, [[-40 * np.log(1000)]], rtol=1e-5)
