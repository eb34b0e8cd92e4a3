"""`FastRNN`: `keras.layers.RNN` with a loop of its own where it can have one."""

import copy
from typing import Any

import keras
from keras import ops

from keras_luong.functional import project, recurrent_loop, zero_masked
from keras_luong.layers.arguments import checked_flag
from keras_luong.layers.cells import check_cell
from keras_luong.layers.fast_loop import KINDS, input_bias, is_fast_cell, loop_weights
from keras_luong.layers.freezing import freeze_parts, parts_as_configured

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class FastRNN(keras.layers.RNN):
    """`keras.layers.RNN`, faster in training, with the same numbers.

    Only float64 on JAX differs: there the tanh of Keras rounds to float32, that of this loop does
    not.

    For an `LSTMCell` or a `GRUCell` (`reset_after=True`) with tanh and sigmoid in their places and
    no dropout, called without an initial state, inputs are projected before the loop, and the
    gradient of the weights is one product after it. It can then be differentiated once. Whatever
    else `keras.layers.RNN` takes, such as a `LayerNormLSTMCell`, runs as it does there.

    Args:
        cell: A recurrent cell, or a list of such. See `keras.layers.RNN`, as for all other
            arguments.
        return_sequences: Whether to return the outputs of all steps.
        return_state: Whether to return the last states too.
        go_backwards: Whether to run from the last step to the first, and to return outputs in that
            order; the mask that they carry stays as it was.
        stateful: Whether a batch starts from the last states of the batch before.
        unroll: Whether to unroll the loop.
        zero_output_for_mask: Whether masked steps put out zeros.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Raises:
        ValueError: For a cell that is none, such as a `keras.layers.LSTM`.
        TypeError: For options of another type.

    Example:

    >>> import keras, numpy as np
    >>> layer = FastRNN(keras.layers.LSTMCell(4), return_sequences=True)
    >>> print(tuple(layer(np.ones((2, 3, 5))).shape))
    (2, 3, 4)
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        for one in cell if isinstance(cell, list | tuple) else [cell]:
            check_cell(one)
        super().__init__(
            cell,
            return_sequences=checked_flag("return_sequences", return_sequences),
            return_state=checked_flag("return_state", return_state),
            go_backwards=checked_flag("go_backwards", go_backwards),
            stateful=checked_flag("stateful", stateful),
            unroll=checked_flag("unroll", unroll),
            zero_output_for_mask=checked_flag("zero_output_for_mask", zero_output_for_mask),
            **kwargs,
        )
        freeze_parts(self)

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor | None = None,
        training: bool = False,
    ) -> Any:
        if initial_state is not None or not self._is_fast():
            return super().call(sequences, initial_state, mask, training)
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
        states = self._states(sequences, mask)
        outputs = states[0][-1]
        if self.return_sequences:
            outputs = ops.transpose(states[0], (1, 0, 2))
            outputs = zero_masked(outputs, mask) if self.zero_output_for_mask else outputs
        return (outputs, *(one[-1] for one in states)) if self.return_state else outputs

    @classmethod
    def from_config(cls, config: dict[str, Any], *custom_objects: Any) -> "FastRNN":
        with parts_as_configured():
            # A copy, since `keras.layers.RNN` empties the config that it is made from.
            return super().from_config(copy.deepcopy(config), *custom_objects)

    def _is_fast(self) -> bool:
        is_plain = not (self.stateful or self.unroll)
        return is_plain and is_fast_cell(self.cell, self.compute_dtype) and not self.cell.dropout

    def _states(self, sequences: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """The states after every step, each `(t, b, u)`."""
        dtype, cell = self.compute_dtype, self.cell
        # What padding holds must not reach the gradient: 0 times a NaN is a NaN.
        sequences = zero_masked(ops.cast(sequences, dtype), mask)
        sequences = ops.transpose(sequences, (1, 0, 2))
        kept = () if mask is None else ops.cast(ops.transpose(mask), dtype)[..., None]
        extra = project(sequences, ops.cast(cell.kernel, dtype)) + input_bias(cell)
        kind = KINDS[type(cell)]
        zeros = ops.zeros((ops.shape(sequences)[1], cell.units), dtype)
        weights = loop_weights(cell, cell.kernel.shape[0])
        return recurrent_loop(extra, weights, (zeros,) * kind.count, kept, kind)
