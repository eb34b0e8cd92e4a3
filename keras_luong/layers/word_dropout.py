"""`WordDropout`: whole words out of the input, in training."""

from typing import Any

import keras
from keras import ops

from keras_luong.checked_numbers import count_of, fraction_of
from keras_luong.ids import END_ID, UNKNOWN_ID
from keras_luong.layers.arguments import checked_seed

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class WordDropout(keras.layers.Layer):
    """Puts the unknown id in the place of some ids, drawn anew for every word and batch.

    Before the embedding of the source the encoder learns not to rely on single words; before that
    of the target the decoder learns not to rely on the words it has just written. Padding, start
    and end ids stay.

    Args:
        rate: Fraction of the words replaced in training.
        unknown_id: What stands in their place.
        last_special_id: Ids up to this one are no words and stay.
        seed: Integer.
        **kwargs: `name` and the like of `keras.layers.Layer`.

    Call arguments:
        ids: Integers of any shape.
        training: Whether words are replaced.

    Output shape:
        That of `ids`.

    Raises:
        ValueError: If `rate` is not from 0 to below 1, or an id no integer of at least 0.
        TypeError: For a `seed` that is no integer.

    Example:

    >>> import numpy as np
    >>> layer = WordDropout(0.5, seed=1)
    >>> ids = np.array([[2, 7, 8, 9, 3, 0]])
    >>> print(ops.convert_to_numpy(layer(ids)).tolist())
    [[2, 7, 8, 9, 3, 0]]
    >>> set(ops.convert_to_numpy(layer(ids, training=True))[0, 1:4].tolist()) <= {1, 7, 8, 9}
    True

    Reference:
        [Sennrich, Haddow, Birch 2016](https://arxiv.org/abs/1606.02891), section 2.5, who leave a
        word's embedding out; an id of its own tells the model that something stood there.
    """

    def __init__(
        self,
        rate: float,
        unknown_id: int = UNKNOWN_ID,
        last_special_id: int = END_ID,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rate = fraction_of("rate", rate)
        self.unknown_id = count_of("unknown_id", unknown_id, least=0)
        self.last_special_id = count_of("last_special_id", last_special_id, least=0)
        self.seed = checked_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed) if self.rate else None
        self.built = True

    def call(self, ids: Tensor, training: bool = False) -> Tensor:
        if not training or not self.rate:
            return ids
        chance = keras.random.uniform(ops.shape(ids), dtype="float32", seed=self.seed_generator)
        is_dropped = ops.logical_and(chance < self.rate, ids > self.last_special_id)
        return ops.where(is_dropped, ops.cast(self.unknown_id, ids.dtype), ids)

    def compute_output_spec(self, ids: Any, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor(ids.shape, dtype=ids.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "unknown_id": self.unknown_id,
            "last_special_id": self.last_special_id,
            "seed": self.seed,
            **super().get_config(),
        }
