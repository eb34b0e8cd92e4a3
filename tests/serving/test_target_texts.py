"""Beginnings and phrases as ids."""

import numpy as np
import pytest

from keras_luong import SubwordTokenizer
from keras_luong.serving.target_texts import constraint_ids, prefix_ids
from tests.labelled import Labelled

TEXTS = ["der Hund läuft", "die Hunde laufen", "ein Hund und eine Katze", "Katzen laufen"]


@pytest.fixture(scope="module")
def tokenizer():
    return SubwordTokenizer.train(TEXTS, 25)


def ids_of(tokenizer, text):
    return tokenizer.tokenize([text]).to_list()[0]


def test_prefixes_are_padded_with_what_asks_for_nothing(tokenizer):
    prefixes = ["der Hund", "", "die"]
    ids = prefix_ids(tokenizer, prefixes, 3, 20)
    assert ids.dtype == "int32" and ids.shape[0] == 3
    for row, prefix in zip(ids.tolist(), prefixes, strict=True):
        expected = ids_of(tokenizer, prefix)
        assert row == expected + [-1] * (ids.shape[1] - len(expected))
    assert (ids[0] >= 0).all()


@pytest.mark.parametrize("words", [1, 2, 3, 4])
def test_whole_words_have_the_subwords_of_the_longer_text(tokenizer, words):
    """Which is why a model can go on from a prefix as it was trained to."""
    text = TEXTS[2]
    prefix = " ".join(text.split()[:words])
    (row,) = prefix_ids(tokenizer, [prefix], 1, 20).tolist()
    assert row == ids_of(tokenizer, text)[: len(row)]
    assert prefix_ids(tokenizer, [f" {prefix}  "], 1, 20).tolist() == [row]


def test_phrases_are_padded_with_what_asks_for_nothing(tokenizer):
    constraints = [["Katze", "der Hund"], [], ("laufen",)]
    ids = constraint_ids(tokenizer, constraints, 3, 20)
    assert ids.dtype == "int32" and ids.shape[:2] == (3, 2)
    kept = [[[one for one in phrase if one >= 0] for phrase in row] for row in ids.tolist()]
    assert kept == [
        [ids_of(tokenizer, "Katze"), ids_of(tokenizer, "der Hund")],
        [[], []],
        [ids_of(tokenizer, "laufen"), []],
    ]
    assert all(row == sorted(row, key=lambda one: one < 0) for row in ids[0].tolist())


def test_what_is_asked_for_may_be_any_iterable(tokenizer):
    prefixes, constraints = ["der Hund", ""], [["Katze", "der Hund"], ["laufen"]]
    ids = prefix_ids(tokenizer, prefixes, 2, 20)
    phrases = constraint_ids(tokenizer, constraints, 2, 20)
    for make in (iter, Labelled):
        np.testing.assert_array_equal(prefix_ids(tokenizer, make(prefixes), 2, 20), ids)
        given = make([make(one) for one in constraints])
        np.testing.assert_array_equal(constraint_ids(tokenizer, given, 2, 20), phrases)


def test_nothing_asked_for_is_nothing(tokenizer):
    assert prefix_ids(tokenizer, ["", " "], 2, 20) is None
    assert constraint_ids(tokenizer, [[], []], 2, 20) is None


@pytest.mark.parametrize("wrong, error, message", [
    ("der", TypeError, "`prefixes` must be a list of strings. Received one: 'der'"),
    (["der"], ValueError, "`prefixes` must have one entry per text, 2 in all. Received: 1"),
    (["der", None], TypeError, "`prefixes` must be strings. Received at 1: None"),
    (["der", "ein 犬"], ValueError, "target vocabulary has. Received for text 1: 'ein 犬'.*⁇"),
    (["der Hund", ""], ValueError, "at most max_length=1 subwords. Received for text 0: 'der"),
])  # fmt: skip
def test_prefixes_that_cannot_be(tokenizer, wrong, error, message):
    with pytest.raises(error, match=message):
        prefix_ids(tokenizer, wrong, 2, 1 if "max_length" in message else 20)


@pytest.mark.parametrize("wrong, error, message", [
    ([["der"]], ValueError, "`constraints` must have one entry per text, 2 in all. Received: 1"),
    (["der", ["die"]], TypeError, r"`constraints\[0\]` must be a list of strings. .*'der'"),
    ([["der"], None], TypeError, r"`constraints\[1\]` must be a list of strings.*None"),
    ([[], ["die", 3]], TypeError, r"`constraints\[1\]` must be strings. Received at 1: 3"),
    ([["der", " "], []], ValueError, "must hold a subword. Received for text 0: ' '"),
    ([[], ["犬"]], ValueError, "target vocabulary has. Received for text 1: '犬'"),
    ([[], ["der Hund"]], ValueError, "at most max_length=1 subwords. Received for text 1"),
])  # fmt: skip
def test_constraints_that_cannot_be(tokenizer, wrong, error, message):
    with pytest.raises(error, match=message):
        constraint_ids(tokenizer, wrong, 2, 1 if "max_length" in message else 20)
