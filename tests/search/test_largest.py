"""The k largest, with ties to the lower index."""

import numpy as np
import pytest
from keras import ops

from keras_luong.search.largest import largest


# The larger sizes are looked through in parts; 1031 is a prime.
@pytest.mark.parametrize("size", [8, 1031, 1200, 4096])
def test_against_a_stable_sort(size):
    rng = np.random.default_rng(0)
    for k in (1, 3, 8):
        # Few values, so many ties; some minus infinity, a row of nothing else.
        scores = rng.integers(0, 4, size=(50, 2, size)).astype("float32")
        scores[:25] += np.floor(100 * rng.normal(size=(25, 2, size)))
        scores[scores == 0] = -np.inf
        scores[3] = -np.inf
        expected = np.argsort(-scores, axis=-1, kind="stable")[..., :k]
        values, indices = largest(ops.convert_to_tensor(scores), k)
        np.testing.assert_array_equal(ops.convert_to_numpy(indices), expected)
        of_expected = np.take_along_axis(scores, expected, axis=-1)
        np.testing.assert_array_equal(ops.convert_to_numpy(values), of_expected)
        assert ops.convert_to_numpy(indices).dtype == "int32"
