import itertools
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from keras_luong.ids import END_ID, PADDING_ID, START_ID
from keras_luong.text import EncodedPairs, TrainingBatches, bucket_boundaries, evaluation_batches


def encoded_pairs(count, seed=0, longest=12):
    """Pairs that are all different: the first token of each side numbers it."""
    rng = np.random.default_rng(seed)

    def side():
        rows = [[100 + i, *rng.integers(4, 99, rng.integers(longest))] for i in range(count)]
        return tf.ragged.constant(rows, tf.int32, row_splits_dtype=tf.int64)

    return EncodedPairs(side(), side(), {"empty": 0, "too_long": 0})


def plain(batch):
    inputs, target = batch
    return [*(part.numpy() for part in inputs), target.numpy()]


def rows_of(dataset):
    """The rows of all batches that are not padding alone, as (source, target in, target out)."""
    rows = []
    for batch in dataset:
        for row in zip(*plain(batch), strict=True):
            if any(part.any() for part in row):
                rows.append(tuple(tuple(np.trim_zeros(part, "b").tolist()) for part in row))
    return rows


def expected_rows(encoded):
    return [
        ((*source, END_ID), (START_ID, *target), (*target, END_ID))
        for source, target in zip(encoded.source.to_list(), encoded.target.to_list(), strict=True)
    ]


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(plain(one), plain(other), strict=True))


# --- boundaries


def cells(lengths, boundaries, batch_size):
    chosen = Counter(min(b for b in boundaries if b >= length) for length in lengths)
    return sum(-(-count // batch_size) * batch_size * b for b, count in chosen.items())


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("buckets", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("seed", range(4))
def test_boundaries_are_the_best_of_all(seed, buckets, batch_size):
    rng = np.random.default_rng(seed)
    lengths = 1 + rng.integers(0, 9, 30) ** 2 // 3
    found = bucket_boundaries(lengths, buckets, batch_size)
    *others, longest = np.unique(lengths).tolist()
    choices = [
        (*chosen, longest)
        for size in range(min(buckets, len(others) + 1))
        for chosen in itertools.combinations(others, size)
    ]
    costs = {choice: cells(lengths, choice, batch_size) for choice in choices}
    worthy = [choice for choice in choices if costs[choice] <= 1.02 * min(costs.values())]
    fewest = min(map(len, worthy))
    assert len(found) == fewest
    assert costs[tuple(found)] == min(costs[one] for one in worthy if len(one) == fewest)
    assert found == sorted(set(found))
    assert found[-1] == longest
    assert len(found) <= buckets


def test_no_more_boundaries_than_lengths():
    assert bucket_boundaries([7, 7, 7], 5) == [7]
    assert bucket_boundaries([3, 9], 5) == [3, 9]
    assert bucket_boundaries([3, 9], 5, batch_size=2) == [9]  # two batches would cost more than one


def test_a_shape_that_saves_next_to_nothing_is_not_made():
    lengths = [20] * 10 + [5] * 100
    assert bucket_boundaries(lengths, 5) == [5, 20]
    # 10 of 710 positions are 1.4 %, 60 of 710 are 8 %.
    assert bucket_boundaries([19] * 10 + lengths[10:] + [20], 5) == [5, 20]
    assert bucket_boundaries([14] * 10 + lengths[10:] + [20], 5) == [5, 14, 20]


@pytest.mark.parametrize(
    "lengths, buckets, message",
    [([], 2, "lengths"), ([0, 3], 2, "lengths"), ([[3]], 2, "lengths"), ([3], 0, "buckets")],
)
def test_wrong_lengths_and_buckets(lengths, buckets, message):
    with pytest.raises(ValueError, match=message):
        bucket_boundaries(lengths, buckets)


# --- training


def test_an_epoch_holds_every_pair_exactly_once():
    encoded = encoded_pairs(101)
    batches = TrainingBatches(encoded, 8)
    steps = batches.steps_per_epoch
    for epoch in range(3):
        rows = rows_of(batches.dataset(epoch * steps).take(steps))
        assert sorted(rows) == sorted(expected_rows(encoded))
    # The end belongs to no sentence.
    words = sum(len(source) - 1 + len(target_out) - 1 for source, _, target_out in rows)
    assert batches.words_per_epoch == words


def test_every_batch_has_one_of_a_few_shapes_and_its_rows_need_it():
    encoded = encoded_pairs(101)
    batches = TrainingBatches(encoded, 8, buckets=3)
    assert len(batches.shapes) == 3
    lengths = [length for _, length in batches.shapes]
    seen = set()
    for batch in batches.dataset().take(batches.steps_per_epoch):
        source, target_in, target_out = plain(batch)
        assert source.shape == target_in.shape == target_out.shape
        assert {part.dtype for part in plain(batch)} == {np.dtype("int32")}
        seen.add(source.shape)
        shorter = max([0, *(length for length in lengths if length < source.shape[1])])
        longest = np.maximum((source != PADDING_ID).sum(1), (target_out != PADDING_ID).sum(1))
        assert all(longest[longest > 0] > shorter)
    assert seen == set(batches.shapes)
    spec = batches.dataset().element_spec
    expected = tf.TensorSpec([8, None], tf.int32)
    assert spec == ((expected, expected), expected)


def test_last_batches_are_filled_up_with_padding():
    encoded = encoded_pairs(11, longest=2)
    batches = TrainingBatches(encoded, 4, buckets=1)
    assert batches.steps_per_epoch == 3
    assert batches.shapes == [(4, 3)]
    empty = 0
    for batch in batches.dataset().take(3):
        rows = np.concatenate(plain(batch), 1)
        empty += int((rows == PADDING_ID).all(1).sum())
    assert empty == 1


def test_fewer_pairs_than_a_batch():
    batches = TrainingBatches(encoded_pairs(1), 4)
    assert batches.steps_per_epoch == 1
    assert len(rows_of(batches.dataset().take(3))) == 3


def test_dataset_starts_at_any_step():
    batches = TrainingBatches(encoded_pairs(50), 8, seed=3)
    steps = batches.steps_per_epoch
    whole = list(batches.dataset().take(3 * steps))
    assert len(whole) == 3 * steps
    for start in (0, 1, steps - 1, steps, steps + 1, 2 * steps + 3):
        resumed = list(batches.dataset(start).take(4))
        for got, expected in zip(resumed, whole[start:], strict=False):
            assert equal(got, expected)
    far = batches.dataset(10**9 * steps + 2).take(1)  # reached without replaying
    assert len(rows_of(far)) > 0


def test_order_depends_on_seed_and_epoch_alone():
    encoded = encoded_pairs(60)

    def epoch(seed, number):
        batches = TrainingBatches(encoded, 8, seed=seed)
        steps = batches.steps_per_epoch
        return rows_of(batches.dataset(number * steps).take(steps))

    tf.random.set_seed(1)
    first = epoch(0, 0)
    tf.random.set_seed(2)
    assert epoch(0, 0) == first
    orders = [first, epoch(0, 1), epoch(0, 2), epoch(1, 0), epoch(-5, 0), epoch(2**40, 0)]
    assert len({tuple(order) for order in orders}) == len(orders)
    assert len({tuple(sorted(order)) for order in orders}) == 1


ORDER_OF_SEED_7_EPOCH_1 = [2, 11, 6, 0, 10, 4, 7, 5, 3, 9, 8, 1]


def test_order_is_the_same_on_every_machine():
    """A resumed run may be on another machine: the order is part of the format."""
    encoded = encoded_pairs(12, longest=1)
    rows = rows_of(TrainingBatches(encoded, 4, seed=7).dataset(3).take(3))
    assert [source[0] - 100 for source, _, _ in rows] == ORDER_OF_SEED_7_EPOCH_1


def test_pairs_and_batches_are_shuffled_over_the_whole_epoch():
    encoded = encoded_pairs(400)
    batches = TrainingBatches(encoded, 8, buckets=4)
    numbers, lengths = [], []
    for batch in batches.dataset().take(batches.steps_per_epoch):
        source = plain(batch)[0]
        numbers.append([i for i in source[:, 0] - 100 if i >= 0])
        lengths.append(source.shape[1])
    # A batch draws from everywhere: the spread of its numbers is near that of all of them.
    assert np.mean([np.std(batch) for batch in numbers]) > 0.7 * np.std(range(400))
    # Batches of different lengths alternate: sorted, there would be 3 changes.
    assert np.count_nonzero(np.diff(lengths)) > 15


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "`batch_size`.*Received: 0"),
        ({"batch_size": 2.0}, "`batch_size`.*Received: 2.0"),
        ({"buckets": 0}, "`buckets`.*Received: 0"),
        ({"seed": None}, "`seed`.*Received: None"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingBatches(encoded_pairs(3), **{"batch_size": 2, **arguments})


@pytest.mark.parametrize("start_step", [-1, 1.0, None])
def test_wrong_start_step(start_step):
    with pytest.raises(ValueError, match="`start_step`.*Received"):
        TrainingBatches(encoded_pairs(3), 2).dataset(start_step)


def test_the_dataset_says_that_it_never_ends():
    dataset = TrainingBatches(encoded_pairs(3), 2).dataset()
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY


# --- evaluation


def test_evaluation_is_one_pass_in_a_fixed_order():
    encoded = encoded_pairs(101)
    dataset = evaluation_batches(encoded, 8, buckets=3)
    batches = list(dataset)
    assert dataset.cardinality() == len(batches)
    assert {plain(batch)[0].shape for batch in batches} == set(
        TrainingBatches(encoded, 8, buckets=3).shapes
    )
    rows = rows_of(dataset)
    assert sorted(rows) == sorted(expected_rows(encoded))
    assert rows == rows_of(dataset)
    lengths = [plain(batch)[0].shape[1] for batch in batches]
    assert lengths == sorted(lengths)


def test_evaluation_keeps_the_order_of_the_data_within_a_bucket():
    encoded = encoded_pairs(20)
    assert rows_of(evaluation_batches(encoded, 8, buckets=1)) == expected_rows(encoded)


def test_evaluation_checks_its_arguments():
    with pytest.raises(ValueError, match="`batch_size`"):
        evaluation_batches(encoded_pairs(3), 0)


# --- by tokens


def test_by_tokens_longer_pairs_have_fewer_rows_and_nothing_is_lost():
    encoded = encoded_pairs(60, seed=2)
    batches = TrainingBatches(encoded, batch_tokens=40, buckets=3, seed=1)
    assert batches.shapes == [(40 // length, length) for _, length in batches.shapes]
    assert len({rows for rows, _ in batches.shapes}) > 1
    epoch = list(batches.dataset().take(batches.steps_per_epoch))
    assert {tuple(target.shape) for _, target in epoch} == set(batches.shapes)
    assert Counter(rows_of(epoch)) == Counter(expected_rows(encoded))


def test_a_pair_longer_than_a_batch_of_tokens_has_one_to_itself():
    batches = TrainingBatches(encoded_pairs(9), batch_tokens=1, buckets=2)
    assert {rows for rows, _ in batches.shapes} == {1}
    assert batches.steps_per_epoch == 9


@pytest.mark.parametrize("sizes", [{}, {"batch_size": 2, "batch_tokens": 9}])
def test_one_size_must_be_given(sizes):
    with pytest.raises(ValueError, match="batch_size=.*, batch_tokens="):
        TrainingBatches(encoded_pairs(9), **sizes)


def test_less_than_a_token():
    with pytest.raises(ValueError, match="`batch_tokens` must be .* Received: 0"):
        TrainingBatches(encoded_pairs(9), batch_tokens=0)
