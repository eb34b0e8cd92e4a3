import numpy as np
import pytest
import tensorflow as tf

from keras_luong.iterables import list_of_pairs, list_of_texts, rows_in_order
from tests.labelled import Labelled

TEXTS = ["ein Hund", "", "zwei Hünde"]
PAIRS = [("eins", "one"), ("zwei", "two"), ("Hünde", "dogs")]
CONTAINERS = {
    "tuple": tuple,
    "generator": iter,
    "labelled": Labelled,
    "array of str": np.array,
    "array of objects": lambda rows: np.array(rows, object),
    "views of a dictionary": lambda rows: dict.fromkeys(rows).keys(),
    "tensor": tf.constant,
    "dataset": tf.data.Dataset.from_tensor_slices,
}


def in_bytes(rows):
    return np.char.encode(np.array(rows), "utf-8")


@pytest.mark.parametrize("make", [*CONTAINERS.values(), in_bytes], ids=[*CONTAINERS, "in bytes"])
def test_texts_of_any_iterable_are_a_list_of_str_in_its_order(make):
    found = list_of_texts("texts", make(TEXTS))
    assert found == TEXTS and {type(text) for text in found} == {str}


@pytest.mark.parametrize("make", [*CONTAINERS.values(), in_bytes], ids=[*CONTAINERS, "in bytes"])
def test_pairs_of_any_iterable_are_a_list_of_tuples_in_its_order(make):
    found = list_of_pairs("pairs", make(PAIRS))
    assert found == PAIRS and {type(text) for pair in found for text in pair} == {str}


def test_a_pair_may_be_a_list_or_a_row():
    rows = [list(PAIRS[0]), np.array(PAIRS[1]), iter(PAIRS[2])]
    assert list_of_pairs("pairs", rows) == PAIRS


class Table:
    columns = ("de", "en")

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    "wrong",
    ["ein", b"ein", np.str_("ein"), tf.constant("ein"), np.array("ein"), {"a": "b"}, {"a"}, Table(),
     None, 3],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_one_text_and_what_has_no_order_of_rows_raise(wrong):
    for read in (list_of_texts, list_of_pairs):
        with pytest.raises(TypeError, match="`texts` must be a list of "):
            read("texts", wrong)


@pytest.mark.parametrize("wrong", [None, float("nan"), b"bytes of a list", ["one"]])
def test_an_item_that_is_no_text_is_named_by_its_place(wrong):
    with pytest.raises(TypeError, match="`texts` must be strings. Received at 1: "):
        list_of_texts("texts", ["one", wrong])


def test_bytes_that_are_no_utf8_are_named_by_their_place():
    with pytest.raises(ValueError, match="text at 1 .*UTF-8"):
        list_of_texts("texts", np.array([b"one", b"\xff"]))
    with pytest.raises(ValueError, match="pair at 0 is not UTF-8"):
        list_of_pairs("pairs", np.array([[b"one", b"\xff"]]))


def test_rows_of_numbers_are_read_by_place():
    rows = [[4, 5], [6, 3]]
    for given in (rows, iter(rows), (row for row in rows), Labelled(rows), map(list, rows)):
        np.testing.assert_array_equal(np.asarray(rows_in_order(given)), rows)
    assert rows_in_order(0.5) == 0.5
