"""`ResidualCell`: a recurrent cell that adds its input to its output."""

import copy
from typing import Any

import keras
from keras import ops

from keras_luong.layers.cells import build_cell, check_cell, output_depth, takes_training
from keras_luong.layers.checks import check_not_regularized
from keras_luong.layers.freezing import freeze_parts, parts_as_configured

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class ResidualCell(keras.layers.Layer):
    """`output = cell(x) + x`: for the upper layers of a `StackedRNNCells`.

    The input is added as it is, without the dropout that the wrapped cell may apply to it. A cell
    of another depth than its input's is refused.

    Args:
        cell: A Keras recurrent cell.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, depth)`.
        states: Those of the wrapped cell.
        training: Passed to the wrapped cell, if it takes it.

    Output shape:
        `(output (batch, depth), new states)`.

    Raises:
        ValueError: If the cell's output is not as deep as its input.

    Example:

    >>> import keras, numpy as np
    >>> cells = [keras.layers.LSTMCell(8), ResidualCell(keras.layers.LSTMCell(8, dropout=0.2))]
    >>> decoder = keras.layers.RNN(keras.layers.StackedRNNCells(cells))
    >>> print(tuple(decoder(np.ones((2, 3, 5))).shape))
    (2, 8)

    Reference:
        [Wu et al. 2016](https://arxiv.org/abs/1609.08144), section 3.1.
    """

    def __init__(self, cell: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_cell(cell)
        check_not_regularized("ResidualCell", cell)
        self.cell = cell
        self._cell_takes_training = takes_training(cell)
        freeze_parts(self)

    @property
    def state_size(self) -> Any:
        return self.cell.state_size

    @property
    def output_size(self) -> int:
        return output_depth(self.cell)

    def build(self, inputs_shape: Any) -> None:
        if inputs_shape[-1] != self.output_size:
            raise ValueError(
                "A residual cell needs an output as deep as its input. Received input depth "
                f"{inputs_shape[-1]} and output depth {self.output_size}."
            )
        build_cell(self.cell, inputs_shape)

    def call(self, inputs: Tensor, states: Any, training: bool | None = None) -> tuple[Tensor, Any]:
        kwargs = {"training": training} if self._cell_takes_training else {}
        outputs = self.cell(inputs, states, **kwargs)
        output, states = keras.tree.map_structure(self._cast, outputs)
        return output + self._cast(inputs), states

    def _cast(self, tensor: Tensor) -> Tensor:
        return ops.cast(tensor, self.compute_dtype)

    def get_initial_state(self, batch_size: Any = None) -> Any:
        """Zeros, or what the wrapped cell starts with."""
        if hasattr(self.cell, "get_initial_state"):
            states = self.cell.get_initial_state(batch_size=batch_size)
            return keras.tree.map_structure(self._cast, states)
        return keras.tree.map_structure(
            lambda size: ops.zeros((batch_size, size), self.compute_dtype), self.state_size
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ResidualCell":
        cell = keras.saving.deserialize_keras_object(copy.deepcopy(config["cell"]))
        with parts_as_configured():
            return cls(**{**config, "cell": cell})
