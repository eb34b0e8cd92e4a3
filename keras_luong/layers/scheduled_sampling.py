"""`ScheduledSampling`: a decoder that in training reads what it would have written."""

from collections.abc import Callable
from numbers import Real
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_luong.checked_numbers import count_of
from keras_luong.ids import PADDING_ID
from keras_luong.layers.arguments import checked_flag, checked_seed

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class ScheduledSampling(keras.layers.Layer):
    """Replaces words of the target that a decoder reads in training by the model's own.

    Each word that is read stays the true one with the probability epsilon, and is otherwise what
    the model itself says there: its most probable word, or one that it draws. Start and padding
    stay. Labels do not change, and no gradient flows through the words.

    Written as in Bengio et al., one word would have to wait for the one before, and the decoder for
    the head. Here a pass over the whole target, with the true words, says what the model would have
    written, and the decoder then reads the mixture: all its steps in one fast loop. The words of a
    second pass follow the mixture of the first, and so on; which words are replaced, and the dice,
    stay the same from pass to pass. After as many passes as the target has words the mixture is
    that of Bengio et al. A pass costs a forward run of decoder and head, which is without dropout.

    It is an option of `Seq2Seq`, and does nothing but in training. It counts the training steps
    itself, in a variable: files and checkpoints have it.

    Args:
        teacher_forcing: Epsilon: a number from 0 to 1, or a schedule that gives it for a step, such
            as `InverseSigmoidDecay` or what `keras.optimizers.schedules` has.
        passes: How many.
        draws: Whether the model's own words are drawn by their probability, instead of the most
            probable ones.
        seed: Integer.
        **kwargs: `name` and the like of `keras.layers.Layer`.

    Call arguments:
        target: Integers `(batch, steps)`, `[start] + target`.
        predict: Function from ids in that shape to logits `(batch, steps, vocabulary)`, which say
            what follows each of the ids.

    Output shape:
        That of `target`.

    Raises:
        ValueError: For a number beyond 0 to 1, and less than one pass.
        TypeError: For `draws` and `seed` of another type.

    Example:

    >>> import numpy as np
    >>> layer = ScheduledSampling(teacher_forcing=0.0)
    >>> target = np.array([[2, 7, 5, 0]], "int32")
    >>> mixed = layer(target, predict=lambda ids: ops.one_hot(ids + 1, 10))  # counts on
    >>> print(ops.convert_to_numpy(mixed).tolist(), int(layer.step))
    [[2, 3, 8, 0]] 1

    Reference:
        [Bengio et al. 2015](https://arxiv.org/abs/1506.03099), section 2.4; in passes over the
        whole target: [Mihaylova, Martins 2019](https://arxiv.org/abs/1906.07651),
        [Duckworth et al. 2019](https://arxiv.org/abs/1906.04331).
    """

    def __init__(
        self,
        teacher_forcing: float | LearningRateSchedule,
        *,
        passes: int = 1,
        draws: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        teacher_forcing, seed = _checked_epsilon(teacher_forcing), checked_seed(seed)
        self.teacher_forcing = teacher_forcing
        self.passes = count_of("passes", passes)
        self.draws = checked_flag("draws", draws)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.step = self.add_weight(
            name="step",
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.built = True

    def call(self, target: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
        chance = keras.random.uniform(ops.shape(target), dtype="float32", seed=self.seed_generator)
        is_replaced = ops.logical_and(
            chance >= self._true_rate(), ops.not_equal(target, PADDING_ID)
        )
        words, dice = target, None
        for _ in range(self.passes):
            logits = ops.stop_gradient(predict(words))
            if self.draws:
                dice = self._dice(logits) if dice is None else dice
                logits = ops.cast(logits, "float32") + dice
            own = ops.cast(ops.argmax(logits, axis=-1), target.dtype)
            # What follows the last word is read by nobody; nothing comes before the first.
            own = ops.concatenate([target[:, :1], own[:, :-1]], axis=1)
            words = ops.where(is_replaced, own, target)
        self.step.assign(self.step + 1)
        return words

    def _true_rate(self) -> Any:
        rate = self.teacher_forcing
        return rate(self.step) if isinstance(rate, LearningRateSchedule) else rate

    def _dice(self, logits: Tensor) -> Tensor:
        """Gumbel noise: the largest sum of it and the logits is a draw by their softmax."""
        chance = keras.random.uniform(ops.shape(logits), dtype="float32", seed=self.seed_generator)
        return -ops.log(-ops.log(chance))

    def compute_output_spec(self, target: Any, predict: Any) -> keras.KerasTensor:
        return keras.KerasTensor(target.shape, dtype=target.dtype)

    def get_config(self) -> dict[str, Any]:
        rate = self.teacher_forcing
        if isinstance(rate, LearningRateSchedule):
            rate = keras.optimizers.schedules.serialize(rate)
        return {
            **super().get_config(),
            "teacher_forcing": rate,
            "passes": self.passes,
            "draws": self.draws,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ScheduledSampling":
        rate = config["teacher_forcing"]
        if isinstance(rate, dict):
            rate = keras.optimizers.schedules.deserialize(rate)
        return cls(**{**config, "teacher_forcing": rate})


def _checked_epsilon(value: Any) -> float | LearningRateSchedule:
    if isinstance(value, LearningRateSchedule):
        return value
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= float(value) <= 1:
        raise ValueError(
            f"`teacher_forcing` must be a schedule or a number from 0 to 1. Received: {value!r}"
        )
    return float(value)
