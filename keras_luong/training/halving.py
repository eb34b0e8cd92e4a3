"""The learning rate of the paper: constant, then halved again and again."""

from typing import Any

import keras
from keras import ops

from keras_luong.checked_numbers import at_least, count_of

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is constant for a while, and then halved at fixed distances.

    `rate 2^-(1 + floor((step - start) / every))` from step `start` on, `rate` before. The paper
    trains with plain SGD at 1.0 and halves after every epoch once 5 are done, or 8 with dropout:
    `start` is then 5 or 8 epochs of steps, `every` one.

    Args:
        initial_learning_rate: The rate before `start`.
        start: Steps until it is halved the first time.
        every: Steps from one halving to the next.

    Raises:
        ValueError: If `start` is no integer from 0 on, `every` none from 1 on, or the rate below 0.

    Example:

    >>> rate = Halving(1.0, start=500, every=100)
    >>> print([float(rate(step)) for step in (0, 499, 500, 599, 600)])
    [1.0, 1.0, 0.5, 0.5, 0.25]

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025), section 4.1.
    """

    def __init__(self, initial_learning_rate: float, start: int, every: int) -> None:
        rate = at_least("initial_learning_rate", initial_learning_rate, 0)
        self.initial_learning_rate = rate
        self.start = count_of("start", start, 0)
        self.every = count_of("every", every)

    def __call__(self, step: Tensor) -> Tensor:
        """The rate of a step, counted from 0."""
        # In whole numbers: float32 cannot tell steps above 2^24 apart.
        past = ops.cast(step, "int32") - self.start
        halvings = ops.where(past < 0, 0, 1 + ops.floor_divide(past, self.every))
        return self.initial_learning_rate * ops.power(0.5, ops.cast(halvings, "float32"))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "start": self.start,
            "every": self.every,
        }
