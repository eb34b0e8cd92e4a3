"""Batches whose subwords are drawn anew: nothing lost, few shapes, the same wherever they begin."""

import numpy as np
import pytest
import tensorflow as tf

from keras_luong.ids import END_ID, START_ID
from keras_luong.text import (
    SubwordTokenizer,
    TrainingBatches,
    encode_pairs,
    sample_pairs,
    sampled_pairs,
)

PAIRS = [
    ("ein Hund läuft", "a dog runs"),
    ("zwei Hunde laufen weit", "two dogs run far"),
    ("ein Mann sieht einen Hund", "a man sees a dog"),
    ("eine Frau", "a woman"),
    ("der Mann und die Frau laufen", "the man and the woman run"),
    ("läuft", "runs"),
    ("Hunde und Männer und Frauen laufen", "dogs and men and women run"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return SubwordTokenizer.train([text for pair in PAIRS for text in pair], 50)


@pytest.fixture(scope="module")
def sampled(tokenizer):
    return sample_pairs(PAIRS, tokenizer, tokenizer, alpha=0.2, max_length=40)


def numbers(dataset, count):
    return [[part.numpy() for part in (*inputs, target)] for inputs, target in dataset.take(count)]


def texts_of(batches, tokenizer):
    """What the rows of batches say, in the end the same as the pairs."""
    pairs = []
    for source, target_in, target_out in batches:
        for row in range(len(source)):
            if not source[row].any():
                continue
            # The three sides are of one pair, and end where they should.
            target = np.trim_zeros(target_out[row], "b")
            assert target[-1] == np.trim_zeros(source[row], "b")[-1] == END_ID
            np.testing.assert_array_equal(
                np.trim_zeros(target_in[row], "b"), [START_ID, *target[:-1]]
            )
            written = tokenizer.detokenize(np.stack([source[row], target_out[row]]))
            pairs.append(tuple(text.decode() for text in written.numpy()))
    return pairs


def equal(ones, others):
    return all(
        np.array_equal(a, b)
        for one, other in zip(ones, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("size", [{"batch_size": 2}, {"batch_tokens": 50}], ids=str)
def test_every_epoch_has_all_pairs_in_other_subwords(sampled, tokenizer, size):
    batches = TrainingBatches(sampled, **size, buckets=3, seed=4)
    steps = batches.steps_per_epoch
    rows = set()
    for epoch in range(4):
        drawn = numbers(batches.dataset(epoch * steps), steps)
        assert sorted(texts_of(drawn, tokenizer)) == sorted(PAIRS)
        for parts in drawn:
            assert {part.shape for part in parts} <= set(batches.shapes)
        rows |= {tuple(np.trim_zeros(row)) for source, *_ in drawn for row in source}
    # A text of each pair, and the row of padding; all of it many times over.
    assert len(rows) > 2 * len(PAIRS) + 1


def test_the_stream_can_begin_at_any_step(sampled):
    batches = TrainingBatches(sampled, 2, seed=4)
    whole = numbers(batches.dataset(), 12)
    for start in (1, 4, 7):
        again = TrainingBatches(sampled, 2, seed=4)
        assert again.shapes == batches.shapes
        assert equal(numbers(again.dataset(start), 12 - start), whole[start:])
    assert not equal(
        numbers(TrainingBatches(sampled, 2, seed=5, buckets=1).dataset(), 4), whole[:4]
    )


def test_what_does_not_fit_is_drawn_again_and_in_the_end_the_best(tokenizer, monkeypatch):
    best = encode_pairs(PAIRS, tokenizer, tokenizer)
    longest = int(
        max(best.source.row_lengths().numpy().max(), best.target.row_lengths().numpy().max())
    )
    # No side may be longer than the best segmentation of the longest: few others of it fit.
    pairs = sample_pairs(PAIRS, tokenizer, tokenizer, alpha=0.01, max_length=longest)
    batches = TrainingBatches(pairs, len(PAIRS), buckets=1)
    assert batches.shapes == [(len(PAIRS), longest + 1)]
    drawn = numbers(batches.dataset(), 3)
    assert all(sorted(texts_of([one], tokenizer)) == sorted(PAIRS) for one in drawn)
    monkeypatch.setattr(SubwordTokenizer, "sample", lambda self, texts, *_: [[9] * 99] * len(texts))
    rows, _ = pairs.rows(np.arange(len(PAIRS)), longest, 0, 0)
    assert [row.tolist() for row in rows] == best.source.to_list()


def test_lengths_are_of_best_and_drawn(sampled, tokenizer):
    lengths = sampled.lengths(3)
    best = np.maximum(
        sampled.best.source.row_lengths().numpy(), sampled.best.target.row_lengths().numpy()
    )
    assert (lengths >= best).all() and (lengths > best).any() and lengths.max() <= 40
    np.testing.assert_array_equal(sampled.lengths(3), lengths)
    # A draw that is not one of those that the lengths were taken from seldom is longer.
    indices = np.arange(len(PAIRS))
    longer = [
        max(len(source), len(target)) > length
        for step in range(20)
        for source, target, length in zip(*sampled.rows(indices, 40, 8, step), lengths, strict=True)
    ]
    assert np.mean(longer) < 0.3


def test_pairs_are_left_out_as_without_sampling(tokenizer):
    pairs = [*PAIRS, ("", "a"), ("Hund " * 50, "dog")]
    sampled = sample_pairs(pairs, tokenizer, tokenizer, alpha=0.2, max_length=40)
    assert len(sampled) == len(PAIRS)
    assert sampled.dropped == {"empty": 1, "too_long": 1}
    assert list(zip(sampled.source, sampled.target, strict=True)) == PAIRS


def test_what_is_refused(tokenizer):
    with pytest.raises(ValueError, match="finite number above 0. Received: 0"):
        sample_pairs(PAIRS, tokenizer, tokenizer, alpha=0)
    with pytest.raises(ValueError, match="No pair remains of 1: 1 have an empty side"):
        sample_pairs([("", "a")], tokenizer, tokenizer, alpha=0.1)


def test_seeds_are_mixed():
    seeds = {sampled_pairs._mixed(*arguments) for arguments in np.ndindex(2, 2, 3, 2, 2)}
    assert len(seeds) == 48


def test_batches_are_prepared_in_parallel_in_a_fixed_order(sampled):
    batches = TrainingBatches(sampled, 2, seed=4)
    assert batches.dataset().element_spec[1] == tf.TensorSpec([2, None], tf.int32)
    first, second = (numbers(batches.dataset(), 20) for _ in range(2))
    assert equal(first, second)
