"""The schedules of scheduled sampling: the paper's formulas, Keras' own schedules among them."""

import keras
import numpy as np
import pytest

from keras_luong import InverseSigmoidDecay

STEPS = np.array([0, 1, 2, 50, 99, 100, 1000])
SCHEDULES = keras.optimizers.schedules


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (InverseSigmoidDecay(20.0), lambda i: 20 / (20 + np.exp(i / 20))),
        (InverseSigmoidDecay(1), lambda i: 1 / (1 + np.exp(i))),
        # epsilon_i = max(epsilon, k - c i), with c = 0.75 / 100; and k^i.
        (SCHEDULES.PolynomialDecay(1.0, 100, 0.25), lambda i: max(0.25, 1 - 0.0075 * i)),
        (SCHEDULES.ExponentialDecay(1.0, 1, 0.97), lambda i: 0.97**i),
    ],
    ids=["inverse_sigmoid", "steep", "linear", "exponential"],
)
def test_values_of_the_formulas(schedule, formula):
    again = SCHEDULES.deserialize(SCHEDULES.serialize(schedule))
    with np.errstate(over="ignore"):
        expected = [formula(step) for step in STEPS.astype("float64")]
    for one in (schedule, again):
        np.testing.assert_allclose([float(one(step)) for step in STEPS], expected, atol=1e-6)


@pytest.mark.parametrize("k", [0.9, float("inf"), float("nan")])
def test_wrong_arguments(k):
    with pytest.raises(ValueError, match=f"a finite number of at least 1. Received: {k}"):
        InverseSigmoidDecay(k)
