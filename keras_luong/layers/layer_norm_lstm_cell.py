"""`LayerNormLSTMCell`: an LSTM whose sums are normalized at every step."""

from typing import Any

import keras
from keras import ops

from keras_luong.checked_numbers import above_0, count_of, fraction_of
from keras_luong.functional import activate, layer_norm
from keras_luong.layers.arguments import checked_flag, checked_seed

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class LayerNormLSTMCell(keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with layer normalization.

    - `[i; f; g; o] = LN(x_t W) * s_x + LN(h_(t-1) U) * s_h + b`
    - `c_t = sigmoid(f) c_(t-1) + sigmoid(i) tanh(g)`
    - `h_t = sigmoid(o) tanh(LN(c_t) * s_c + b_c)`

    with `LN(z) = (z - mean(z)) / sqrt(variance(z) + epsilon)` over all that is in z: the four gates
    together. The paper shifts the gates three times, which is once: by `b`. What is handed on to
    the next step is `c_t` as it is. Means and variances are computed in float32 at least.

    No fast loop knows this cell: `AttentionDecoder` and `FastRNN` run it as they run any other.

    Args:
        units: Depth of output and states.
        epsilon: What is added to a variance.
        use_bias: Whether there are `b` and `b_c`.
        unit_forget_bias: Whether the forget gate's part of `b` starts at 1.
        dropout: Fraction dropped from what is multiplied of `x_t`.
        recurrent_dropout: Fraction dropped from what is multiplied of `h_(t-1)`.
        seed: Seed of the dropout.
        **kwargs: Those of `keras.layers.LSTMCell`.

    Call arguments:
        inputs: `(batch, depth)`.
        states: `[h, c]`, each `(batch, units)`.
        training: Whether dropout is applied.

    Output shape:
        `(h (batch, units), [h, c])`.

    Raises:
        ValueError: If `epsilon` is not greater than 0, `units` is no integer of at least 1, or a
            rate of dropout is not from 0 to below 1.
        TypeError: For options of another type.

    Example:

    >>> import numpy as np
    >>> layer = keras.layers.RNN(LayerNormLSTMCell(4))
    >>> print(tuple(layer(np.ones((2, 3, 5))).shape))
    (2, 4)

    Reference:
        [Ba, Kiros, Hinton 2016](https://arxiv.org/abs/1607.06450), equations 20 to 22.
    """

    def __init__(
        self,
        units: int,
        *,
        epsilon: float = 1e-3,
        use_bias: bool = True,
        unit_forget_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        # Keras' cell takes any of them, and a rate of 1.5 for 1.
        super().__init__(
            count_of("units", units),
            use_bias=checked_flag("use_bias", use_bias),
            unit_forget_bias=checked_flag("unit_forget_bias", unit_forget_bias),
            dropout=fraction_of("dropout", dropout),
            recurrent_dropout=fraction_of("recurrent_dropout", recurrent_dropout),
            seed=checked_seed(seed),
            **kwargs,
        )
        self.epsilon = above_0("epsilon", epsilon)

    def build(self, inputs_shape: Any) -> None:
        super().build(inputs_shape)
        gates, units = (4 * self.units,), (self.units,)
        self.input_scale = self.add_weight(name="input_scale", shape=gates, initializer="ones")
        self.recurrent_scale = self.add_weight(
            name="recurrent_scale", shape=gates, initializer="ones"
        )
        self.cell_scale = self.add_weight(name="cell_scale", shape=units, initializer="ones")
        self.cell_bias = (
            self.add_weight(name="cell_bias", shape=units, initializer="zeros")
            if self.use_bias
            else None
        )

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, Any]:
        h, c = states
        drops = training and self.dropout
        drops_states = training and self.recurrent_dropout
        of_inputs = _product(inputs, self.kernel, self.get_dropout_mask(inputs) if drops else None)
        of_states = _product(
            h, self.recurrent_kernel, self.get_recurrent_dropout_mask(h) if drops_states else None
        )
        logits = self._norm(of_inputs, self.input_scale) + self._norm(
            of_states, self.recurrent_scale
        )
        logits = logits + self.bias if self.use_bias else logits
        i, f, g, o = ops.split(logits, 4, axis=-1)
        new = activate(self.activation, g)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * new
        shifted = self._norm(c, self.cell_scale)
        shifted = shifted + self.cell_bias if self.use_bias else shifted
        h = self.recurrent_activation(o) * activate(self.activation, shifted)
        return h, [h, c]

    def _norm(self, tensor: Tensor, scale: Tensor) -> Tensor:
        return ops.cast(layer_norm(tensor, scale, self.epsilon), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


def _product(tensor: Tensor, kernel: Tensor, mask: Any) -> Tensor:
    """`tensor kernel` with what the mask drops; of several masks each is for one gate."""
    if mask is None:
        return ops.matmul(tensor, kernel)
    if not isinstance(mask, list):
        return ops.matmul(tensor * mask, kernel)
    kernels = ops.split(kernel, len(mask), axis=-1)
    parts = [ops.matmul(tensor * one, own) for one, own in zip(mask, kernels, strict=True)]
    return ops.concatenate(parts, axis=-1)
