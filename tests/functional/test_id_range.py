"""Ids inside and outside of a vocabulary, with values and in a graph."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.functional import IdRange, known_values
from tests.search.running import compiled

IDS = IdRange("source", 300)


@pytest.mark.parametrize(
    ("ids", "received"),
    [
        (np.array([[3, 300]]), r"Received: 300 at \(0, 1\)"),
        (np.array([[299], [-1]]), r"Received: -1 at \(1, 0\)"),
        ([[2**32 + 3]], r"Received: 4294967299 at \(0, 0\)"),  # 3, if it were made an int32
        (np.array([1.5]), r"Received: 1.5 at \(0,\)"),
        (np.array([np.nan]), r"Received: nan at \(0,\)"),
    ],
)
def test_the_first_id_outside_is_named_with_its_place_and_the_range(ids, received):
    with pytest.raises(
        ValueError, match=rf"`source` must hold integers from 0 to 299\. {received}"
    ):
        IDS.check(ids)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_ids_inside_pass_in_every_dtype(dtype):
    ids = np.array([[0, 1, 255]], dtype)
    IDS.check(ids)
    IDS.check(ops.convert_to_tensor(ids))
    IDS.check(ids[:0])
    assert bool(IDS.holds(ids))


def test_an_id_may_stand_there_besides():
    labels = IdRange("y", 3, besides=-1)
    labels.check(np.array([2, -1]))
    assert bool(labels.holds(np.array([2, -1]))) and not bool(labels.holds(np.array([2, -2])))
    with pytest.raises(ValueError, match=r"from 0 to 2 \(or -1\)\. Received: -2"):
        labels.check(np.array([2, -2]))


def test_without_a_size_every_id_is_inside():
    free = IdRange("source", None)
    free.check(np.array([10**9, -7]))
    assert bool(free.holds(np.array([10**9, -7])))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch has no graph here")
def test_in_a_graph_nothing_is_raised_and_what_is_outside_is_told():
    seen = []

    def told(ids):
        IDS.check(ids)
        seen.append(known_values(ids))
        return IDS.holds(ids)

    assert not bool(compiled(told)(ops.convert_to_tensor(np.array([[3, 300]], "int32"))))
    assert seen == [None]


def test_a_symbolic_tensor_has_no_values():
    assert known_values(keras.KerasTensor((None, 2))) is None
