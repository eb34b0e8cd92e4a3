"""`IdRange`: whether ids are those of a vocabulary, where they are known and where they are not."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

Tensor = Any


class IdRange(NamedTuple):
    """The ids that a vocabulary has.

    Attributes:
        name: Of the argument that holds them, for errors.
        size: Number of ids; `None` where it is not known, and every id counts as inside.
        besides: An id that may stand there too, such as that of padding.
    """

    name: str
    size: int | None
    besides: int | None = None

    def __str__(self) -> str:
        size = self.size or 0
        is_inside = self.besides is None or 0 <= self.besides < size
        also = "" if is_inside else f" (or {self.besides})"
        return f"`{self.name}` must hold integers from 0 to {size - 1}{also}"

    def check(self, ids: Any) -> None:
        """Raises for an id outside, if the ids have values already.

        Raises:
            ValueError: With the first such id and its place.
        """
        values = None if self.size is None else known_values(ids)
        if values is None or not values.size or self._spans(values):
            return
        outside = ~self._are_inside(values)
        if outside.any():
            place = tuple(map(int, np.argwhere(outside)[0]))
            raise ValueError(f"{self}. Received: {values[place]} at {place}")

    def holds(self, ids: Tensor) -> Tensor:
        """Whether all ids are inside: a boolean scalar, in a graph too."""
        # Small dtypes cannot be compared with a large vocabulary. JAX has no 64 bits by default.
        dtype = "int32" if keras.backend.backend() == "jax" else "int64"
        return ops.all(self._are_inside(ops.cast(ids, dtype)))

    def _spans(self, values: np.ndarray) -> bool:
        """Whether nothing is outside, without an array as large as the ids. Never true of NaN."""
        are_integers = values.dtype.kind in "iu"
        return are_integers and values.min() >= 0 and values.max() < (self.size or 0)

    def _are_inside(self, ids: Any) -> Any:
        inside = ids == ids // 1
        if self.size is not None:
            inside = inside & (ids >= 0) & (ids < self.size)
        return inside if self.besides is None else inside | (ids == self.besides)


def known_values(tensor: Any) -> np.ndarray | None:
    """What a tensor holds, or `None` where that cannot be seen without waiting for it.

    A tensor of a graph that is traced has no values yet. Those of torch on a GPU would have to be
    waited for: torch also trains without a graph.
    """
    if isinstance(tensor, np.ndarray):
        return tensor
    if not ops.is_tensor(tensor):
        return None if isinstance(tensor, keras.KerasTensor) else np.asarray(tensor)
    if keras.backend.backend() == "torch" and tensor.device.type != "cpu":
        return None
    try:
        return ops.convert_to_numpy(tensor)
    except (NotImplementedError, TypeError):  # of TensorFlow and of JAX, while a graph is traced
        return None
