"""Beam search against enumeration of every hypothesis, and on plain step functions."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.search import BeamSearch, GreedySearch, SearchResult

END, VOCABULARY, MAX_LENGTH, SOURCE, UNITS = 0, 3, 4, 3, 4
SOURCE_MASK = np.array([[True, True, True], [True, True, False]])
BATCH = len(SOURCE_MASK)
# Every hypothesis: two tokens that go on, ended after 1 to 4 tokens, or not ended after 4.
SPACE = 1 + 2 + 4 + 8 + 16


# ---------------------------------------------------------------------------------------------
# A small recurrent model with attention: in Keras, and in NumPy one hypothesis at a time
# ---------------------------------------------------------------------------------------------


def weights(seed):
    rng = np.random.default_rng(seed)
    shapes = {
        "embedding": (VOCABULARY + 1, UNITS),
        "recurrent": (UNITS, UNITS),
        "memory": (BATCH, SOURCE, UNITS),
        "output": (2 * UNITS, VOCABULARY),
    }
    return {name: 1.5 * rng.normal(size=shape) for name, shape in shapes.items()}


def model(seed, dtype="float32"):
    """Arguments of a search: the step, its state, the memory as what is shared."""
    given = {name: one.astype(dtype) for name, one in weights(seed).items()}

    def step(ids, state, memory):
        assert memory.shape[0] == BATCH  # never copied for the hypotheses
        h = ops.tanh(
            ops.take(ops.convert_to_tensor(given["embedding"]), ids, axis=0)
            + ops.matmul(state, ops.convert_to_tensor(given["recurrent"]))
        )
        logits = ops.einsum("bkd,bsd->bks", h, memory)
        logits = ops.where(ops.convert_to_tensor(SOURCE_MASK)[:, None], logits, -1e9)
        attention = ops.softmax(logits, axis=-1)
        context = ops.einsum("bks,bsd->bkd", attention, memory)
        both = ops.concatenate([h, context], axis=-1)
        return ops.matmul(both, ops.convert_to_tensor(given["output"])), h, attention

    state = ops.zeros((BATCH, 1, UNITS), dtype)
    return step, state, ops.convert_to_tensor(given["memory"])


def follow(given, row, ids):
    """log-probabilities of each token and attention of each step of one hypothesis, in NumPy."""
    h, last, log_probs, attention = np.zeros(UNITS), VOCABULARY, [], []
    for token in ids:
        h = np.tanh(given["embedding"][last] + h @ given["recurrent"])
        logits = np.array(
            [
                np.dot(h, given["memory"][row, s]) if SOURCE_MASK[row, s] else -np.inf
                for s in range(SOURCE)
            ]
        )
        scores = np.exp(logits - logits.max())
        scores = scores / scores.sum()
        context = sum(scores[s] * given["memory"][row, s] for s in range(SOURCE))
        outputs = np.concatenate([h, context]) @ given["output"]
        log_probs.append(outputs[token] - np.log(np.exp(outputs).sum()))
        attention.append(scores)
        last = token
    return log_probs, attention


def every_hypothesis(min_length=0):
    tokens = range(1, VOCABULARY)
    for length in range(1, MAX_LENGTH + 1):
        for start in itertools.product(tokens, repeat=length - 1):
            if length >= min_length:
                yield (*start, END)
            if length == MAX_LENGTH:
                yield from ((*start, token) for token in tokens)


def rank(given, row, options):
    """All hypotheses of a sentence, best first: (score, log_probs, ids, attention)."""
    found = []
    for ids in every_hypothesis(options.get("min_length", 0)):
        log_probs, attention = follow(given, row, ids)
        length, total = len(ids), sum(log_probs)
        penalty = {
            "none": 1.0,
            "average": length,
            "gnmt": ((5 + length) / 6) ** options.get("alpha", 0.6),
        }[options.get("length_penalty", "none")]
        score = total / penalty
        for s in range(SOURCE):
            if SOURCE_MASK[row, s] and options.get("beta"):
                score += options["beta"] * np.log(min(sum(one[s] for one in attention), 1.0))
        found.append((score, total, ids, attention))
    return sorted(found, key=lambda one: -one[0])


def run(search, step, state, shared, start=VOCABULARY, batch=BATCH, **options):
    result = search(
        step,
        state,
        shared,
        start_ids=ops.full((batch, 1), start, "int32"),
        **{"end_id": END, "max_length": MAX_LENGTH, **options},
    )
    return to_numpy(result)


def to_numpy(result):
    return SearchResult(
        *(None if field is None else ops.convert_to_numpy(field) for field in result)
    )


PENALTIES = {
    "none": {},
    "average": {"length_penalty": "average"},
    "gnmt": {"length_penalty": "gnmt", "alpha": 1.3},
    "coverage": {"length_penalty": "gnmt", "alpha": 0.6, "beta": 0.7},
    "min_length": {"min_length": 3},
    "all": {"length_penalty": "average", "beta": 0.4, "min_length": 2},
}


def check_against_enumeration(result, given, options):
    for row in range(BATCH):
        expected = rank(given, row, options)
        count = len(expected)
        for n, (score, total, ids, attention) in enumerate(expected):
            assert result.ids[row, n].tolist() == [*ids] + [END] * (MAX_LENGTH - len(ids))
            assert result.lengths[row, n] == len(ids)
            np.testing.assert_allclose(result.scores[row, n], score, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(result.log_probs[row, n], total, rtol=1e-4, atol=1e-4)
            filled = np.zeros((MAX_LENGTH, SOURCE))
            filled[: len(ids)] = attention
            np.testing.assert_allclose(result.attention_scores[row, n], filled, atol=1e-5)
        # Slots without a hypothesis.
        assert (result.scores[row, count:] == -np.inf).all()
        assert not result.lengths[row, count:].any()


@pytest.mark.parametrize("options", PENALTIES.values(), ids=PENALTIES)
def test_a_beam_as_wide_as_the_space_finds_every_hypothesis_in_order(options):
    for seed in range(3):
        search = BeamSearch(SPACE + 2, n_best=SPACE + 2, **options)
        result = run(search, *model(seed), source_mask=ops.convert_to_tensor(SOURCE_MASK))
        check_against_enumeration(result, weights(seed), options)


def test_enumeration_is_complete():
    found = list(every_hypothesis())
    assert len(found) == len(set(found)) == SPACE


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_greedy(seed):
    one, other = run(BeamSearch(1), *model(seed)), run(GreedySearch(), *model(seed))
    for name in ("ids", "lengths"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("scores", "log_probs", "attention_scores"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-5)


# ---------------------------------------------------------------------------------------------
# Worked by hand
# ---------------------------------------------------------------------------------------------


def chain(table):
    """A step whose probabilities are the row of a table at the last id."""
    logs = np.log(np.maximum(table, 1e-30)).astype("float32")

    def step(ids, state, shared):
        return ops.take(ops.convert_to_tensor(logs), ids, axis=0), state

    return step


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
    result = run(BeamSearch(width), chain(MISLEADING), (), None, start=4, batch=1)
    assert result.ids[0, 0].tolist() == ids + [0, 0]
    np.testing.assert_allclose(result.log_probs, [[np.log(p)]], rtol=1e-5)


def test_equal_scores_go_to_the_lower_slot_and_id():
    table = [[1, 0, 0, 0], [0.25] * 4, [0.25] * 4, [0.25] * 4]
    result = run(BeamSearch(4, n_best=4), chain(table), (), None, start=3, batch=1, max_length=1)
    assert result.ids[0, :, 0].tolist() == [0, 1, 2, 3]
    result = run(BeamSearch(3, n_best=3), chain(table), (), None, start=3, batch=1, max_length=2)
    # First 0, 1, 2; the ended 0 has the best score, then all that go on with 1 are equal.
    assert result.ids[0].tolist() == [[0, 0], [1, 0], [1, 1]]


def test_length_penalties_by_hand():
    # 1 END has p = 1/2 1/2, and END alone p = 1/2: log p of 2 log 2 over L = 2, and log 2 over 1.
    table = [[1, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    for penalty, expected in (
        ("none", np.log(0.25)),
        ("average", np.log(0.25) / 2),
        ("gnmt", np.log(0.25) / (7 / 6) ** 0.6),
    ):
        search = BeamSearch(3, n_best=3, length_penalty=penalty)
        result = run(search, chain(table), (), None, start=2, batch=1, max_length=2)
        at = result.ids[0].tolist().index([1, 0])
        np.testing.assert_allclose(result.scores[0, at], expected, rtol=1e-5)


# ---------------------------------------------------------------------------------------------
# Independence and compilation
# ---------------------------------------------------------------------------------------------


def test_hypotheses_do_not_appear_twice():
    for seed in range(5):
        result = run(BeamSearch(7, n_best=7), *model(seed))
        for row in range(BATCH):
            assert len({tuple(ids) for ids in result.ids[row].tolist()}) == 7


def test_what_has_ended_does_not_depend_on_how_far_others_run():
    short = run(BeamSearch(SPACE, n_best=SPACE), *model(1))
    longer = run(BeamSearch(200, n_best=200), *model(1), max_length=6)
    for row in range(BATCH):
        ended = {
            tuple(ids[:length]): score
            for ids, length, score in zip(
                longer.ids[row].tolist(), longer.lengths[row], longer.scores[row], strict=True
            )
        }
        for ids, length, score in zip(
            short.ids[row].tolist(), short.lengths[row], short.scores[row], strict=True
        ):
            if ids[length - 1] == END:
                np.testing.assert_allclose(ended[tuple(ids[:length])], score, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch runs eagerly")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_equals_enumeration(jit_compile):
    options = PENALTIES["all"]
    search = BeamSearch(SPACE, n_best=SPACE, **options)
    step, state, memory = model(0)

    def searched(memory, mask):
        start_ids = ops.full((BATCH, 1), VOCABULARY, "int32")
        return search(
            step,
            state,
            memory,
            start_ids=start_ids,
            end_id=END,
            max_length=MAX_LENGTH,
            source_mask=mask,
        )

    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(searched) if jit_compile else searched
    else:
        import tensorflow as tf

        compiled = tf.function(searched, jit_compile=jit_compile)
    result = to_numpy(compiled(memory, ops.convert_to_tensor(SOURCE_MASK)))
    check_against_enumeration(result, weights(0), options)


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"beam_width": 0}, ["beam_width", "at least 1", "0"]),
        ({"n_best": 5}, ["n_best", "beam_width=4", "5"]),
        ({"n_best": 0}, ["n_best", "1", "0"]),
        ({"length_penalty": "wu"}, ["length_penalty", "none", "average", "gnmt", "'wu'"]),
        ({"beta": -1.0}, ["beta", "at least 0", "-1.0"]),
    ],
    ids=str,
)
def test_refused_options(options, parts):
    with pytest.raises(ValueError) as error:
        BeamSearch(**options)
    for part in parts:
        assert part in str(error.value)


def test_refused_lengths():
    with pytest.raises(ValueError, match=r"max_length must be at least 1.*Received: 0"):
        run(BeamSearch(2), *model(0), max_length=0)
    with pytest.raises(ValueError, match=r"at least 5 \(the min_length of Beam.*Received: 4"):
        run(BeamSearch(2, min_length=5), *model(0))


def test_a_coverage_penalty_needs_attention_scores():
    with pytest.raises(ValueError, match=r"beta needs a step that returns attention scores"):
        run(BeamSearch(2, beta=0.5), chain(MISLEADING), (), None, start=4, batch=1)
