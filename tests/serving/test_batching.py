"""Which sentences share a batch, and the bar over the batches."""

import numpy as np
import pytest

from keras_luong.serving.batching import by_length, check_verbose, with_progress


def test_batches_hold_every_sentence_once_longest_first():
    lengths = np.random.default_rng(0).integers(1, 50, size=103)
    batches = by_length(lengths, 10)
    assert [len(batch) for batch in batches] == [10] * 10 + [3]
    assert sorted(np.concatenate(batches).tolist()) == list(range(103))
    in_order = [length for batch in batches for length in lengths[batch]]
    assert in_order == sorted(lengths, reverse=True)


def test_a_thousand_sentences_of_mixed_length_waste_little():
    lengths = np.random.default_rng(1).integers(1, 60, size=1000)

    def waste(batches):
        padded = sum(len(batch) * lengths[batch].max() for batch in batches)
        return padded / lengths.sum() - 1

    assert waste(by_length(lengths, 64)) < 0.08
    assert waste(np.array_split(np.arange(1000), 16)) > 0.8  # in the order they come in


def test_equal_lengths_stay_in_order_and_nothing_gives_no_batch():
    assert [batch.tolist() for batch in by_length([2, 2, 2], 2)] == [[0, 1], [2]]
    assert by_length([], 2) == []


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_of_none(batch_size):
    with pytest.raises(ValueError, match=f"at least 1. Received: {batch_size}"):
        by_length([1], batch_size)


@pytest.mark.parametrize(
    "count, verbose, is_shown",
    [
        (1, 0, False),
        (9, 0, False),
        (9, False, False),
        (1, 1, True),
        (1, True, True),
        (4, "auto", False),
        (5, "auto", True),
    ],
)
def test_when_a_bar_is_shown(capsys, count, verbose, is_shown):
    batches = by_length([1] * (2 * count - 1), 2)
    assert len(batches) == count
    check_verbose(verbose)
    seen = [batch.tolist() for batch in with_progress(batches, verbose)]
    assert seen == [batch.tolist() for batch in batches]
    output = capsys.readouterr().out
    assert bool(output) == is_shown
    assert (f"{2 * count - 1}/{2 * count - 1}" in output) == is_shown


def test_no_batches_and_a_bar(capsys):
    assert list(with_progress([], 1)) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("verbose", ["yes", 2, None, -1])
def test_another_verbosity_is_refused(verbose):
    with pytest.raises(ValueError, match=f'must be "auto", 0 or 1. Received: {verbose!r}'):
        check_verbose(verbose)
