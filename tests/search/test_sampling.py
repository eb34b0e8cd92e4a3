"""Sampling: frequencies against exact probabilities, seeds, and the rules on tokens."""

import dataclasses
import itertools

import numpy as np
import pytest
from keras import ops

from keras_luong.search import SamplingSearch
from keras_luong.search.sampling import _place
from tests.search.chance import chi_squared_limit, deviation
from tests.search.oracles import END, penalized
from tests.search.running import (
    BACKEND,
    chain,
    check_result,
    compiled,
    hypotheses,
    random_tables,
    searched,
    uncompiled,
)

SAMPLES, VOCABULARY, MAX_LENGTH = 20000, 5, 3


def softmax(logits):
    weights = np.exp(np.asarray(logits) - np.max(logits))
    return weights / weights.sum()


def distribution(search, logits):
    """The probabilities of a step's tokens, from the definitions, one token at a time."""
    probabilities = softmax(np.asarray(logits) / search.temperature)
    order = sorted(range(len(probabilities)), key=lambda one: -probabilities[one])
    order = order[: search.top_k]
    reached, kept = 0.0, []
    whole = sum(probabilities[one] for one in order)
    for one in order:
        kept.append(one)
        reached += probabilities[one] / whole
        if search.top_p is not None and reached >= search.top_p:
            break
    chosen = [probabilities[one] if one in kept else 0.0 for one in range(len(probabilities))]
    return np.array(chosen) / sum(chosen)


def every_sample(search, sentence, max_length):
    """The probability of every sequence that may be drawn."""
    found = {}

    def grow(ids, probability):
        *_, node = sentence.nodes(ids)
        logits = penalized(sentence.logits[node].tolist(), ids, search.repetition_penalty)
        banned = [*search.banned_ids, *([END] if len(ids) + 1 < search.min_length else [])]
        logits = [-np.inf if token in banned else one for token, one in enumerate(logits)]
        for token, share in enumerate(distribution(search, logits)):
            longer = (*ids, token)
            if share and token != END and len(longer) < max_length:
                grow(longer, probability * share)
            elif share:
                found[longer] = probability * share

    grow((), 1.0)
    assert abs(sum(found.values()) - 1) < 1e-9
    return found


def check_frequencies(found, probabilities):
    """Rare samples are counted together, so that each kind is expected at least ten times."""
    assert set(found) <= set(probabilities)
    counts, shares, rest = [], [], [0, 0.0]
    for ids, share in probabilities.items():
        count = found.get(ids, 0)
        if share * sum(found.values()) >= 10:
            counts.append(count)
            shares.append(share)
        else:
            rest = [rest[0] + count, rest[1] + share]
    if rest[1] * sum(found.values()) >= 10:
        counts.append(rest[0])
        shares.append(rest[1])
    shares = np.array(shares) / sum(shares)
    assert deviation(np.array(counts), shares) < chi_squared_limit(max(len(counts) - 1, 1))
    return len(counts)


def counted(result, row=0):
    """How often every sequence came."""
    found = {}
    for ids in hypotheses(result, row):
        found[tuple(ids)] = found.get(tuple(ids), 0) + 1
    return found


def seeds(*values):
    return np.array(values, "int32")


OPTIONS = {
    "plain": {},
    "cold": {"temperature": 0.5},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.7},
    "top_k_and_top_p": {"top_k": 4, "top_p": 0.8, "temperature": 1.5},
    "rules": {"min_length": 2, "banned_ids": (3,), "repetition_penalty": 1.6, "top_p": 0.95},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_sequences_come_as_often_as_they_are_probable(name):
    search, tables = SamplingSearch(num_samples=SAMPLES, **OPTIONS[name]), random_tables(5, 1, 5)
    result = searched(search, tables, MAX_LENGTH, seed=seeds(2015))
    expected = every_sample(search, tables.sentence(0, MAX_LENGTH), MAX_LENGTH)
    # Of tokens drawn independently: a dependence between steps would show in the sequences.
    assert check_frequencies(counted(result), expected) > 5


def test_consecutive_seeds_are_as_good_as_consecutive_samples():
    search, tables = SamplingSearch(), random_tables(5, 1, VOCABULARY)
    many = tables.rows(np.zeros(SAMPLES, int))
    result = searched(search, many, MAX_LENGTH, seed=np.arange(SAMPLES, dtype="int32"))
    found = {}
    for ids, length in zip(result.ids[:, 0].tolist(), result.lengths[:, 0], strict=True):
        found[tuple(ids[:length])] = found.get(tuple(ids[:length]), 0) + 1
    check_frequencies(found, every_sample(search, tables.sentence(0, 3), MAX_LENGTH))


def test_the_samples_of_a_sentence_are_independent():
    # Two samples of each of many seeds; sorted by score as they come, so pairs without order.
    search, tables = SamplingSearch(num_samples=2), random_tables(5, 1, VOCABULARY)
    many = tables.rows(np.zeros(SAMPLES, int))
    result = searched(search, many, 1, seed=np.arange(SAMPLES, dtype="int32"))
    pairs = {}
    for pair in np.sort(result.ids[..., 0], axis=1).tolist():
        pairs[tuple(pair)] = pairs.get(tuple(pair), 0) + 1
    of_one = distribution(search, tables.logits[0, tables.start])
    expected = {
        (one, other): of_one[one] * of_one[other] * (1 if one == other else 2)
        for one, other in itertools.combinations_with_replacement(range(VOCABULARY), 2)
    }
    check_frequencies(pairs, expected)


# ---------------------------------------------------------------------------------------------
# Seeds
# ---------------------------------------------------------------------------------------------

FEW = SamplingSearch(num_samples=6)


def test_a_seed_gives_the_same_again_and_another_seed_something_else():
    tables = random_tables(6, 4, VOCABULARY)
    one, again = (searched(FEW, tables, 6, seed=seeds(1, 2, 3, 4)) for _ in range(2))
    other = searched(FEW, tables, 6, seed=seeds(5, 6, 7, 8))
    for first, second in zip(one, again, strict=True):
        np.testing.assert_array_equal(first, second)
    for row in range(4):
        assert (one.ids[row] != other.ids[row]).any()


def test_neither_batch_mates_nor_the_place_in_the_batch_matter():
    tables = random_tables(6, 4, VOCABULARY)
    result = searched(FEW, tables, 6, seed=seeds(1, 2, 3, 4))
    turned = searched(FEW, tables.rows([2, 1, 1, 0]), 6, seed=seeds(3, 9, 8, 1))
    for one, of_all in zip(turned, result, strict=True):
        np.testing.assert_allclose(one[[0, 3]], of_all[[2, 0]], rtol=1e-6)


def test_a_sample_does_not_depend_on_how_many_there_are():
    tables = random_tables(6, 4, VOCABULARY)
    few, more = (
        searched(dataclasses.replace(FEW, num_samples=count), tables, 6, seed=seeds(1, 2, 3, 4))
        for count in (6, 9)
    )
    for row in range(4):
        more_of = [tuple(ids) for ids in hypotheses(more, row)]
        for ids in map(tuple, hypotheses(few, row)):
            more_of.remove(ids)


def test_equal_sentences_of_equal_seeds_are_equal_and_of_others_are_not():
    tables = random_tables(6, 1, VOCABULARY).rows([0, 0, 0, 0])
    result = searched(FEW, tables, 6, seed=seeds(7, 7, 8, 9))
    np.testing.assert_array_equal(result.ids[0], result.ids[1])
    assert (result.ids[0] != result.ids[2]).any()


def test_a_number_is_the_first_of_consecutive_seeds():
    tables = random_tables(6, 4, VOCABULARY)
    one = searched(FEW, tables, 6, seed=np.int32(11))
    other = searched(FEW, tables, 6, seed=seeds(11, 12, 13, 14))
    np.testing.assert_array_equal(one.ids, other.ids)


@pytest.mark.traced
@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone has XLA besides")
def test_xla_and_what_is_not_compiled_draw_the_same():
    tables, seed = random_tables(6, 4, VOCABULARY), seeds(1, 2, 3, 4)
    expected = searched(FEW, tables, 6, seed=seed)
    for result in (
        searched(FEW, tables, 6, jit_compile=True, seed=seed),
        uncompiled(FEW, tables, 6, seed=seed),
    ):
        np.testing.assert_array_equal(result.ids, expected.ids)


def test_sampling_needs_a_seed():
    with pytest.raises(ValueError, match=r"needs a seed"):
        searched(FEW, random_tables(6, 4, VOCABULARY), 6)


# ---------------------------------------------------------------------------------------------
# What comes back
# ---------------------------------------------------------------------------------------------


def test_samples_keep_the_rules_and_come_best_first():
    search = SamplingSearch(
        num_samples=5,
        temperature=1.5,
        top_k=4,
        top_p=0.9,
        min_length=2,
        max_length_factor=2.5,
        banned_ids=(4,),
        no_repeat_ngram_size=2,
        repetition_penalty=1.3,
    )
    batch = 200
    tables = random_tables(7, batch, 6)
    prefix = np.random.default_rng(0).integers(-3, 4, size=(batch, 2)).astype("int32")
    inputs = {"prefix": np.where(prefix, prefix, -1)}
    result = searched(search, tables, 6, seed=np.arange(batch, dtype="int32"), **inputs)
    check_result(search, result, tables, 6, **inputs)
    assert (result.lengths > 0).mean() > 0.9


def test_one_of_the_most_probable_is_greedy():
    tables = random_tables(8, 50, VOCABULARY)
    seed = np.arange(50, dtype="int32")
    greedy = tables.logits.argmax(axis=-1)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1.2e-38}):
        result = searched(SamplingSearch(**options), tables, 4, seed=seed)
        for row in range(50):
            for ids in hypotheses(result, row):
                nodes = tables.sentence(row, 4).nodes(ids)
                assert ids == [greedy[row, node] for node, _ in zip(nodes, ids, strict=False)]


def test_equally_probable_tokens_of_the_last_place_go_to_the_lower_id():
    tables = chain([[0.25] * 4] * 4, start=3)
    search = SamplingSearch(num_samples=200, top_k=2)
    assert set(searched(search, tables, 1, seed=seeds(0)).ids.ravel()) == {0, 1}
    # 0.5 is reached by two, and 0.51 by three.
    for top_p, expected in ((0.5, {0, 1}), (0.51, {0, 1, 2})):
        search = SamplingSearch(num_samples=200, top_p=top_p)
        assert set(searched(search, tables, 1, seed=seeds(0)).ids.ravel()) == expected


def test_what_has_no_weight_is_never_drawn():
    # Sums of many weights, which XLA adds up in blocks, so that they rise a little where a weight
    # is 0: half of them are, the first and the last too. The shares are just where that might show.
    rng, size = np.random.default_rng(0), 4001
    weights = rng.exponential(size=(1, 1, size)).astype("float32")
    weights[..., ::2] = 0.0
    sums = compiled(lambda weights: ops.cumsum(weights, axis=-1))(ops.convert_to_tensor(weights))
    shares = ops.convert_to_numpy(sums)[0, 0, :-1] / weights.sum() / (1 - 2.0**-22)
    shares = np.clip([0.0, *shares], 0, 1 - 2.0**-24).astype("float32")
    many = np.broadcast_to(weights, (1, len(shares), size))
    found = compiled(_place)(*map(ops.convert_to_tensor, (many, shares[None])))
    places = ops.convert_to_numpy(found)[0]
    assert (places % 2 == 1).all()
    exact = np.cumsum(weights[0, 0].astype("float64"))
    np.testing.assert_allclose(exact[places] / exact[-1], shares, atol=5e-3)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"temperature": 0.0}, ["temperature", "above 0", "0.0"]),
        ({"temperature": float("inf")}, ["temperature", "finite", "inf"]),
        ({"temperature": float("nan")}, ["temperature", "above 0", "nan"]),
        ({"top_k": 0}, ["top_k", "at least 1", "0"]),
        ({"top_k": 1.5}, ["top_k", "an integer", "1.5"]),
        ({"top_p": 0.0}, ["top_p", "(0, 1]", "0.0"]),
        ({"top_p": 1.1}, ["top_p", "(0, 1]", "1.1"]),
        ({"num_samples": 0}, ["num_samples", "at least 1", "0"]),
    ],
    ids=str,
)
def test_refused_options(options, parts):
    with pytest.raises(ValueError) as error:
        SamplingSearch(**options)
    for part in parts:
        assert part in str(error.value)
