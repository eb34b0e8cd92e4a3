"""The k largest, with ties to the lower index."""

import numpy as np
from keras import ops

from keras_luong.search.largest import largest


def test_against_a_stable_sort():
    rng = np.random.default_rng(0)
    for k in (1, 3, 8):
        # Few values, so many ties; some minus infinity.
        scores = rng.integers(0, 4, size=(50, 8)).astype("float32")
        scores[scores == 0] = -np.inf
        expected = np.argsort(-scores, axis=-1, kind="stable")[:, :k]
        values, indices = largest(ops.convert_to_tensor(scores), k)
        np.testing.assert_array_equal(ops.convert_to_numpy(indices), expected)
        of_expected = np.take_along_axis(scores, expected, axis=-1)
        np.testing.assert_array_equal(ops.convert_to_numpy(values), of_expected)
