"""Searches among some ids, against all ids with the others ruled out; what a shortlist holds."""

import numpy as np
import pytest
from keras import ops

from keras_luong.search import BeamSearch, GreedySearch, SamplingSearch, Shortlist
from tests.hostile_files import compressed, npy, truncated, with_arrays, with_members
from tests.search.oracles import END
from tests.search.running import random_tables, searched, step_of, uncompiled

BATCH, VOCABULARY, MAX_LENGTH = 4, 9, 6
WORD_IDS = np.array([0, 1, 2, 5, 8], "int32")
assert END in WORD_IDS
PREFIX = np.array([[8, -1], [5, 2], [-1, -1], [2, 5]], "int32")
PHRASES = np.array([[[5, 8]], [[8, -1]], [[-1, -1]], [[2, 2]]], "int32")
SEARCHES = {
    "greedy": (GreedySearch(banned_ids=(8, 3), no_repeat_ngram_size=2), {}),
    "prefix": (GreedySearch(repetition_penalty=1.3, min_length=3), {"prefix": PREFIX}),
    "beam": (BeamSearch(4, 4, length_penalty="gnmt", beta=0.3, min_length=2), {}),
    "banned": (BeamSearch(3, 3, banned_ids=(5, 7)), {}),
    "phrases": (BeamSearch(6, 3), {"constraints": PHRASES}),
    "groups": (BeamSearch(4, 4, num_groups=2), {}),
    "top p": (SamplingSearch(num_samples=3, top_p=0.8), {"seed": np.arange(BATCH, dtype="int32")}),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_among_some_ids_is_one_with_the_others_ruled_out(name):
    search, inputs = SEARCHES[name]
    tables = random_tables(1, BATCH, vocabulary=VOCABULARY)
    others = np.setdiff1d(np.arange(VOCABULARY), WORD_IDS)
    tables.logits[..., others] = -np.inf
    plain = step_of(tables.factor)

    def among(ids, state, shared):
        logits, state, attention = plain(ids, state, shared)
        return ops.take(logits, WORD_IDS, axis=-1), state, attention

    expected = searched(search, tables, MAX_LENGTH, **inputs)
    result = uncompiled(search, tables, MAX_LENGTH, step=among, word_ids=WORD_IDS, **inputs)
    assert (result.lengths > 0).any() and np.isin(result.ids, WORD_IDS).all()
    for field, one in result._asdict().items():
        np.testing.assert_allclose(one, getattr(expected, field), atol=1e-5, err_msg=field)


# --- what a shortlist holds

SHORTLIST = Shortlist([[-1, -1], [7, 8], [6, -1], [-1, -1]], [3], size=2)


def test_the_ids_of_a_batch_and_of_each_sentence():
    ids, allowed = SHORTLIST.of([[1, 2, 0], [3, 0, 0]], 10)
    assert ids.tolist() == [3, 6, 7, 8] and ids.dtype == "int32"
    assert [ids[row].tolist() for row in allowed] == [[3, 6, 7, 8], [3]]


@pytest.mark.parametrize(("source", "count"), [([[3]], 2), ([[1]], 4), ([[1], [2]], 4)])
def test_ids_are_filled_up_to_few_sizes_with_what_nobody_may_hold(source, count):
    ids, allowed = SHORTLIST.of(source, 10)
    assert len(ids) == count and (np.diff(ids) > 0).all()
    assert allowed.any(axis=0).sum() == {2: 1, 4: len(source) + 2}[count]


def test_the_whole_vocabulary_is_the_most():
    ids, allowed = Shortlist([[-1]], [3], size=1024).of([[0]], 10)
    assert ids.tolist() == list(range(10)) and allowed.sum() == 1


def test_what_is_given_besides_belongs_to_its_sentence():
    ids, allowed = SHORTLIST.of([[2], [3]], 10, [[4, -1], [-5, 9]], [[[2]], [[-1]]])
    assert [ids[row].tolist() for row in allowed] == [[2, 3, 4, 6], [3, 9]]


def test_no_sentences():
    ids, allowed = SHORTLIST.of(np.zeros((0, 3), int), 10)
    assert len(ids) == 2 and allowed.shape == (0, 2)


def test_counts_by_hand():
    # Source 1 with targets 5 (0.9 + 0.2) and 6 (0.3 + 1), source 2 with 5 (0.1) and 6 (0.7).
    source, target = [[1, 2], [1, 0]], [[5, 6, 0], [6, 5, 0]]
    scores = [[[0.9, 0.1], [0.3, 0.7], [0, 0]], [[1.0, 0], [0.2, 0], [0, 0]]]
    batches = [(source[:1], target[:1], scores[:1]), (source[1:], target[1:], scores[1:])]
    options = {"source_vocabulary_size": 4, "per_word": 1, "num_frequent": 1}
    learnt = Shortlist.learnt(batches, **options)
    assert learnt.aligned.tolist() == [[-1], [6], [6], [-1]] and learnt.frequent.tolist() == [6]
    learnt = Shortlist.learnt(batches, **{**options, "per_word": 3, "num_frequent": 9})
    assert learnt.aligned.tolist() == [[-1] * 3, [6, 5, -1], [6, 5, -1], [-1] * 3]
    assert learnt.frequent.tolist() == [5, 6]


def test_what_is_saved_is_read(tmp_path):
    SHORTLIST.save(tmp_path / "words.npz")
    loaded = Shortlist.load(tmp_path / "words.npz")
    np.testing.assert_array_equal(loaded.aligned, SHORTLIST.aligned)
    np.testing.assert_array_equal(loaded.frequent, SHORTLIST.frequent)
    assert loaded.size == 2 and [path.name for path in tmp_path.iterdir()] == ["words.npz"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shortlist([1, 2], [3]), r"aligned must .* rank 2. Received shape \(2,\)"),
        (lambda: Shortlist([[1.5]], [3]), "aligned must be integer.*float64"),
        (lambda: Shortlist([[1]], [-3]), r"at least 0. Received: \[-3\]"),
        (
            lambda: Shortlist([[1]], [3], size=0),
            "`size` must be an integer of at least 1. Received: 0",
        ),
        (lambda: SHORTLIST.of([[4]], 10), "`source` must hold integers from 0 to 3. Received: 4"),
        (lambda: SHORTLIST.of([[1]], 8), "vocabulary's size 8. Received: 8"),
        (lambda: SHORTLIST.of([[-1]], 10), "from 0 to 3. Received: -1"),
        (lambda: Shortlist.learnt([], 5), "at least one batch"),
        (lambda: Shortlist.learnt([([[5]], [[1]], [[[1.0]]])], 5), "from 0 to 4. Received: 5"),
        (
            lambda: Shortlist.learnt([([[1, 2]], [[1]], [[[1.0]]])], 5),
            r"Received shapes \(1, 2\), \(1, 1\) and \(1, 1, 1\)",
        ),
        (lambda: Shortlist.learnt([], 5, per_word=1.5), "`per_word` must be an integer"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (truncated, "it: File is not a zip file"),
        (compressed, "must not be compressed"),
        (lambda file: with_arrays(file, frequent=None), r"missing: \['frequent.npy'\]"),
        (lambda file: with_arrays(file, other=np.ones(1)), r"unknown: \['other.npy'\]"),
        (lambda file: with_arrays(file, aligned=np.array([[np.nan]])), "`aligned`.*float64"),
        (lambda file: with_arrays(file, aligned=np.ones(3, int)), "`aligned`.*shape"),
        (lambda file: with_arrays(file, frequent=np.array([-3])), r"at least 0. Received: \[-3\]"),
        (lambda file: with_arrays(file, size=np.array(5.5)), "`size`.*float64"),
        (lambda file: with_arrays(file, size=np.array(0)), "`size` must be .* Received: 0"),
        (lambda file: with_arrays(file, size=np.array([2, 3])), r"`size`.*shape \(\)"),
        (
            lambda file: with_members(file, aligned__npy=npy((10**9, 9), "<i8")),
            "`aligned`: its header declares 72000000000 bytes",
        ),
    ],
)
def test_a_file_that_save_did_not_write(tmp_path, attack, message):
    file = tmp_path / "words.npz"
    SHORTLIST.save(file)
    attack(file)
    with pytest.raises(ValueError, match=f"words.npz' cannot be read: .*{message}"):
        Shortlist.load(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="words.npz"):
        Shortlist.load(tmp_path / "words.npz")
