"""`generate`: what it takes, what it refuses, and what it compiles; on a model of two tables."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.ids import END_ID, PADDING_ID
from keras_luong.models.compiled import CompiledFunctions
from keras_luong.models.generation import Generation
from keras_luong.search import BeamSearch, GreedySearch, SamplingSearch, SearchResult
from tests.labelled import Labelled
from tests.search.running import BACKEND, compiled, to_numpy

SOURCE_IDS, TARGET_IDS, MAX_LENGTH = 7, 6, 5
SOURCE = np.array([[4, 5, 6, 3], [6, 3, 0, 0], [3, 0, 0, 0]], "int32")


class TwoTables(Generation):
    """The next token depends on the last one and on which ids the source has."""

    max_source_length = 6
    vocabulary_size = TARGET_IDS

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.of_source, self.of_target = (
            keras.Variable(2 * rng.normal(size=(size, TARGET_IDS)), dtype="float32")
            for size in (SOURCE_IDS, TARGET_IDS)
        )
        self.variables = [self.of_source, self.of_target]
        self.traced = 0
        self._searches = CompiledFunctions()

    def encode(self, source):
        kept = ops.cast(ops.not_equal(source, PADDING_ID), "float32")
        words = ops.take(self.of_source, source, axis=0) * kept[..., None]
        return (words, kept), ops.zeros_like(kept[:, :1])

    def initial_state(self, states, memory):
        return {"seen": states[:, None]}

    def step(self, ids, state, memory):
        self.traced += 1
        words, kept = memory
        logits = ops.take(self.of_target, ids, axis=0) + ops.sum(words, axis=1)[:, None]
        attention = kept / ops.maximum(ops.sum(kept, axis=-1, keepdims=True), 1.0)
        attention = attention[:, None] + ops.zeros_like(state["seen"])
        return logits, {"seen": state["seen"] + 1.0}, attention


MODEL = TwoTables()
BEAM = BeamSearch(3, 3)
GNMT = BeamSearch(3, 3, length_penalty="gnmt")
PREFIX = np.array([[4, 5], [5, -1], [-1, -1]], "int32")
CONSTRAINTS = np.array([[[4, 4], [5, -1]], [[1, -1], [-1, -1]], [[2, 5], [5, 2]]], "int32")


def generate(search="greedy", source=SOURCE, model=MODEL, **options):
    return to_numpy(model.generate(source, search, **{"max_length": MAX_LENGTH, **options}))


def check_equal(one, other):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


# ---------------------------------------------------------------------------------------------
# What is asked for
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", ["greedy", BEAM, SamplingSearch(num_samples=2)])
def test_a_prefix_is_what_hypotheses_begin_with(search):
    seed = {"seed": 1} if isinstance(search, SamplingSearch) else {}
    plain, result = generate(search, **seed), generate(search, prefix=PREFIX, **seed)
    assert (result.ids[0, :, :2] == [4, 5]).all() and (result.ids[1, :, 0] == 5).all()
    np.testing.assert_array_equal(result.ids[2], plain.ids[2])


def test_phrases_appear():
    result = generate(BEAM, constraints=CONSTRAINTS)
    for row, phrases in enumerate(CONSTRAINTS.tolist()):
        for ids, length in zip(result.ids[row].tolist(), result.lengths[row], strict=True):
            text = " ".join(map(str, ids[:length]))
            for phrase in phrases:
                assert " ".join(str(one) for one in phrase if one >= 0) in text
    assert result.lengths[:, 0].all()


def test_an_alpha_of_each_sentence_stands_in_for_that_of_the_search():
    alphas = [0.0, 2.5, 0.7]
    result = generate(BeamSearch(3, 3, length_penalty="gnmt", alpha=9.0), alpha=alphas)
    for row, alpha in enumerate(alphas):
        expected = generate(BeamSearch(3, 3, length_penalty="gnmt", alpha=alpha))
        np.testing.assert_array_equal(result.ids[row], expected.ids[row])
        np.testing.assert_allclose(result.scores[row], expected.scores[row], rtol=1e-5)


def test_a_number_is_for_all_sentences():
    check_equal(generate(GNMT, alpha=2), generate(GNMT, alpha=[2.0, 2.0, 2.0]))
    search = SamplingSearch(num_samples=3)
    # Of a seed, to each the next: sentences that are alike need not get alike samples.
    check_equal(generate(search, seed=8), generate(search, seed=[8, 9, 10]))


def test_lists_are_arrays():
    given = {"prefix": PREFIX, "constraints": CONSTRAINTS, "alpha": np.array([0.1, 0.2, 0.3])}
    result = generate(GNMT, **{name: one.tolist() for name, one in given.items()})
    check_equal(result, generate(GNMT, **given))
    tensors = {name: ops.convert_to_tensor(one) for name, one in given.items()}
    check_equal(result, generate(GNMT, **tensors))
    for make in (iter, Labelled):
        others = {name: make(one.tolist()) for name, one in given.items()}
        check_equal(result, generate(GNMT, make(SOURCE.tolist()), **others))


def test_without_a_seed_numpy_draws_one():
    search = SamplingSearch(num_samples=20)
    keras.utils.set_random_seed(1)
    first, second = generate(search), generate(search)
    assert (first.ids != second.ids).any()
    keras.utils.set_random_seed(1)
    check_equal(first, generate(search))
    # A seed that is given draws nothing.
    keras.utils.set_random_seed(1)
    generate(search, seed=3)
    check_equal(first, generate(search))


def test_the_length_of_the_source_limits_that_of_the_target():
    search = GreedySearch(max_length_factor=1.25, min_length=5)
    # Sources of 4, 2, 1 and no token, the end token among them.
    source = np.concatenate([SOURCE, np.zeros((1, 4), "int32")])
    result = generate(search, source, max_length=9)
    assert result.lengths.tolist() == [[5], [3], [2], [1]]


# ---------------------------------------------------------------------------------------------
# Compilation
# ---------------------------------------------------------------------------------------------


def test_weights_that_change_are_seen():
    model = TwoTables()
    before = generate(model=model)
    for variable, other in zip(model.variables, TwoTables(1).variables, strict=True):
        variable.assign(other)
    after = generate(model=model)
    assert (after.ids != before.ids).any()
    check_equal(after, generate(model=TwoTables(1)))


@pytest.mark.traced
@pytest.mark.skipif(BACKEND == "torch", reason="torch compiles nothing")
def test_equal_searches_are_compiled_once():
    model = TwoTables()
    generate(BeamSearch(2, banned_ids=(1,)), model=model, prefix=PREFIX)
    traced = model.traced
    generate(BeamSearch(2, banned_ids=[1]), model=model, prefix=PREFIX + 0)
    assert model.traced == traced > 0
    generate(BeamSearch(2), model=model, prefix=PREFIX)
    assert model.traced > traced


@pytest.mark.parametrize("count", [1, 2])
def test_shapes_may_change(count):
    # Other sizes than those of the first call.
    generate(BEAM, constraints=CONSTRAINTS, prefix=PREFIX)
    given = {"constraints": CONSTRAINTS[:count], "prefix": PREFIX[:count, :1]}
    result = generate(BEAM, SOURCE[:count, : 5 - count], **given)
    for row in range(count):
        source = SOURCE[row : row + 1, : 5 - count]
        alone = generate(
            BEAM, source, constraints=CONSTRAINTS[row : row + 1], prefix=PREFIX[row : row + 1, :1]
        )
        np.testing.assert_array_equal(result.ids[row], alone.ids[0])


def test_a_search_in_a_graph_of_ones_own_takes_its_seed_as_a_tensor():
    search = SamplingSearch(num_samples=4)

    def run(source, seed):
        return MODEL.run_search(source, search, MAX_LENGTH, seed=seed)

    run = compiled(run)
    for seed in ([1, 2, 3], [4, 4, 4]):
        result = run(ops.convert_to_tensor(SOURCE), ops.convert_to_tensor(np.array(seed, "int32")))
        np.testing.assert_array_equal(to_numpy(result).ids, generate(search, seed=seed).ids)


# ---------------------------------------------------------------------------------------------
# No rows, and bad input
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("search", "given"),
    [
        ("greedy", {"prefix": np.zeros((0, 2), "int32")}),
        (BEAM, {"prefix": np.zeros((0, 2), "int32"), "constraints": np.zeros((0, 2, 3), "int32")}),
        (GNMT, {"alpha": np.zeros(0)}),
        (GNMT, {"alpha": 0.5}),
        (SamplingSearch(num_samples=3), {"seed": np.zeros(0, "int32")}),
        (SamplingSearch(num_samples=3), {"seed": 7}),
        (SamplingSearch(num_samples=3, max_length_factor=2.0), {}),
    ],
    ids=str,
)
def test_no_rows_give_no_rows(search, given):
    result = generate(search, np.zeros((0, 4), "int32"), **given)
    count = 1 if search == "greedy" else 3
    assert isinstance(result, SearchResult)
    assert result.ids.shape == (0, count, MAX_LENGTH)
    assert result.lengths.shape == result.scores.shape == result.log_probs.shape == (0, count)
    assert result.attention_scores.shape == (0, count, MAX_LENGTH, 4)


TWO_ROWS = np.ones((2, 1), "int32")
REFUSED = {
    "prefix_rows": (BEAM, {"prefix": TWO_ROWS}, ["prefix", "3 in all", "(2, 1)"]),
    "prefix_dtype": (BEAM, {"prefix": PREFIX * 1.0}, ["prefix", "int32", "float64"]),
    "prefix_bool": (BEAM, {"prefix": PREFIX > 0}, ["prefix", "int32", "bool"]),
    "prefix_rank": (BEAM, {"prefix": PREFIX[0, 0] + [1, 1, 1]}, ["prefix", "(batch, tokens)"]),
    "prefix_length": (BEAM, {"prefix": np.ones((3, 6), int)}, ["max_length=5", "prefix of 6"]),
    "prefix_vocabulary": (BEAM, {"prefix": PREFIX + 1}, ["prefix", "size 6", "6"]),
    "prefix_banned": (
        BeamSearch(banned_ids=(5,)),
        {"prefix": PREFIX},
        ["prefix and banned_ids contradict", "[5]"],
    ),
    "prefix_min_length": (
        GreedySearch(min_length=2),
        {"prefix": np.full((3, 1), END_ID)},
        ["after 1 tokens", "min_length=2", "[3]"],
    ),
    "constraints_rows": (BEAM, {"constraints": TWO_ROWS[..., None]}, ["constraints", "3 in all"]),
    "constraints_rank": (BEAM, {"constraints": PREFIX}, ["(batch, phrases, tokens)", "(3, 2)"]),
    "constraints_vocabulary": (
        BEAM,
        {"constraints": np.where(CONSTRAINTS == 5, 6, CONSTRAINTS)},
        ["constraints", "size 6", "6"],
    ),
    "constraints_end": (
        BEAM,
        {"constraints": np.where(CONSTRAINTS == 5, END_ID, CONSTRAINTS)},
        ["the end id 3"],
    ),
    "constraints_banned": (
        BeamSearch(banned_ids=(2, 0)),
        {"constraints": CONSTRAINTS},
        ["constraints and banned_ids contradict", "[2]"],
    ),
    "constraints_length": (
        BEAM,
        {"constraints": np.ones((3, 1, 6), int)},
        ["6 tokens", "max_length=5"],
    ),
    "constraints_holes": (BEAM, {"constraints": CONSTRAINTS[..., ::-1]}, ["no holes"]),
    "constraints_groups": (
        BeamSearch(4, num_groups=2),
        {"constraints": CONSTRAINTS},
        ["num_groups=1"],
    ),
    "alpha_rows": (BEAM, {"alpha": [1.0, 2.0]}, ["alpha", "3 in all", "(2,)"]),
    "alpha_rank": (BEAM, {"alpha": np.ones((3, 1))}, ["alpha", "(batch,)", "(3, 1)"]),
    "alpha_below_0": (BEAM, {"alpha": -0.5}, ["alpha", "at least 0", "-0.5"]),
    "alpha_nan": (BEAM, {"alpha": [1.0, float("nan"), 1.0]}, ["alpha", "at least 0", "nan"]),
    "seed_rows": (SamplingSearch(), {"seed": [1, 2]}, ["seed", "3 in all", "(2,)"]),
    "seed_rank": (SamplingSearch(), {"seed": TWO_ROWS[[0, 1, 1]]}, ["seed", "(batch,)", "(3, 1)"]),
    "seed_dtype": (SamplingSearch(), {"seed": 1.5}, ["seed", "int32", "float64"]),
    "greedy_constraints": ("greedy", {"constraints": CONSTRAINTS}, ["takes prefix", "constraints"]),
    "greedy_seed": ("greedy", {"seed": 1}, ["GreedySearch takes prefix", "seed"]),
    "beam_seed": ("beam", {"seed": 1}, ["BeamSearch takes prefix, constraints, alpha", "seed"]),
    "sampling_alpha": ("sampling", {"alpha": 1.0}, ["SamplingSearch takes prefix, seed", "alpha"]),
    "max_length": (BEAM, {"max_length": 0}, ["max_length must be at least 1", "0"]),
    "min_length": (
        BeamSearch(min_length=6),
        {},
        ["max_length must be at least 6", "min_length", "5"],
    ),
    "banned_vocabulary": (GreedySearch(banned_ids=(1, 6)), {}, ["banned_ids", "size 6", "6"]),
    "end_id": ("greedy", {"end_id": 6}, ["end_id", "size 6", "6"]),
    "end_id_below_0": ("greedy", {"end_id": -1}, ["end_id", "at least 0", "-1"]),
    "start_id": ("greedy", {"start_id": 9}, ["start_id", "size 6", "9"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    search, given, parts = REFUSED[name]
    with pytest.raises(ValueError) as error:
        generate(search, **given)
    for part in parts:
        assert part in str(error.value), part


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (np.zeros((3, 0), "int32"), ["at least the end id", "(3, 0)"]),
        (np.zeros((0, 0), "int32"), ["at least the end id", "(0, 0)"]),
        (np.ones((1, 7), "int32"), ["at most 6 ids", "7"]),
    ],
    ids=["no_column", "nothing", "long"],
)
def test_refused_sources(source, parts):
    with pytest.raises(ValueError) as error:
        generate(source=source)
    for part in parts:
        assert part in str(error.value), part
