"""Both learning rate schedules: their numbers, and how Keras takes them."""

import keras
import numpy as np
import pytest

from keras_luong.training import Halving, InverseSquareRoot


def test_the_rates_of_the_paper():
    # Ten epochs of 100 steps, halved every epoch after five.
    rate = Halving(1.0, start=500, every=100)
    firsts = [float(rate(100 * epoch)) for epoch in range(10)]
    assert firsts == [1.0] * 5 + [0.5, 0.25, 0.125, 0.0625, 0.03125]
    assert [float(rate(step)) for step in (499, 599, 600)] == [1.0, 0.5, 0.25]


def test_halving_tells_late_steps_apart():
    late = 2**24 + 1  # which float32 takes for 2^24
    assert [float(Halving(1.0, late, 5)(step)) for step in (late - 1, late)] == [1.0, 0.5]


def test_inverse_square_root():
    rate = InverseSquareRoot(0.2, warmup=4)
    expected = [0.2 * min((step + 1) / 4, np.sqrt(4 / (step + 1))) for step in range(30)]
    np.testing.assert_allclose([float(rate(step)) for step in range(30)], expected, rtol=1e-6)
    assert max(expected) == expected[3]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Halving(0.8, start=2, every=1), [0.8, 0.8, 0.4, 0.2]),
        (InverseSquareRoot(0.8, warmup=1), [0.8 / np.sqrt(1 + step) for step in range(4)]),
    ],
)
def test_what_an_optimizer_takes(schedule, rates, jit_compile):
    optimizer = keras.optimizers.SGD(schedule)
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.zeros((1, 1))])
    # The loss is the output: its gradient is 1, and the weight falls by the rate.
    model.compile(optimizer, lambda _, output: output, jit_compile=jit_compile)
    ones, seen = np.ones((1, 1)), [0.0]
    for _ in rates:
        model.train_on_batch(ones, ones)
        seen.append(float(model.get_weights()[0][0, 0]))
    np.testing.assert_allclose(-np.diff(seen), rates, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Halving(1.0, start=-1, every=1), "start.*Received: -1"),
        (lambda: Halving(1.0, start=0, every=0), "every.*Received: 0"),
        (lambda: Halving(float("nan"), start=0, every=1), "initial_learning_rate.*Received: nan"),
        (lambda: Halving(1.0, start=0.5, every=1), "start.*integer.*Received: 0.5"),
        (lambda: InverseSquareRoot(-1.0, warmup=1), "peak.*Received: -1"),
        (lambda: InverseSquareRoot(1.0, warmup=float("nan")), "warmup.*Received: nan"),
        (lambda: InverseSquareRoot(1.0, warmup=0), "warmup.*Received: 0"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
