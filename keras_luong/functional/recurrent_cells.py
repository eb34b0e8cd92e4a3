"""Steps of LSTM and GRU with their derivatives, as a loop with a gradient of its own needs them.

`advance` makes a step. `retreat` takes the gradient for the states after it to those before it and
to what came from below, and hands out the gradient for the gates, `d_gates`, which is all that
`weight_gradients` needs to make, of all steps at once, a few large products. It takes its weights
`turned`, transposed once: a product with a transposed matrix takes up to three times as long on
TensorFlow, and a fifth more under XLA. What comes from below
is `None` for a cell whose whole input is projected before the loop.
"""

from typing import Any, NamedTuple

from keras import ops

from keras_luong.functional.loop_tools import is_there, outer, total
from keras_luong.functional.tensors import tanh

Tensor = Any
States = tuple[Tensor, ...]


class LSTMWeights(NamedTuple):
    """`(below + u, 4 u)`, rows of what comes from below first; gates in the order i f g o."""

    kernel: Tensor


class GRUWeights(NamedTuple):
    """`(below, 3 u)` or `()`, `(u, 3 u)` and `(3 u,)`; gates in the order z r g."""

    kernel: Any
    recurrent_kernel: Tensor
    recurrent_bias: Any


class LSTM:
    """`[i; f; g; o] = extra + [below; h] W`, then `c' = f c + i g` and `h' = o tanh(c')`.

    With i, f and o through a sigmoid, g through a tanh.

    Reference:
        [Hochreiter, Schmidhuber 1997](https://doi.org/10.1162/neco.1997.9.8.1735) with the forget
        gate of [Gers et al. 2000](https://doi.org/10.1162/089976600300015015), as Keras has it.
    """

    count = 2
    """Number of states."""

    @staticmethod
    def advance(
        weights: LSTMWeights, extra: Tensor, below: Tensor | None, states: States
    ) -> tuple[States, Tensor]:
        """A step: `(states after it, gates (b, 4 u))`, with `extra` broadcast to `(b, 4 u)`."""
        h, c = states
        logits = extra + ops.matmul(_both(below, h), weights.kernel)
        i, f, g, o = ops.split(logits, 4, axis=-1)
        i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), tanh(g), ops.sigmoid(o)
        c = f * c + i * g
        return (o * tanh(c), c), ops.concatenate([i, f, g, o], axis=-1)

    @staticmethod
    def turned(weights: LSTMWeights) -> LSTMWeights:
        """The weights as `retreat` takes them."""
        return LSTMWeights(ops.transpose(weights.kernel))

    @staticmethod
    def retreat(
        turned: LSTMWeights, gates: Tensor, before: States, after: States, gradient: States
    ) -> tuple[Tensor, Tensor | None, States]:
        """`(d_gates (b, 4 u), d_below, gradient for the states before)`."""
        i, f, g, o = ops.split(gates, 4, axis=-1)
        d_h, d_c = gradient
        bent = tanh(after[1])
        d_c = d_c + d_h * o * (1.0 - bent * bent)
        d_gates = ops.concatenate(
            [
                d_c * g * i * (1.0 - i),
                d_c * before[1] * f * (1.0 - f),
                d_c * i * (1.0 - g * g),
                d_h * bent * o * (1.0 - o),
            ],
            axis=-1,
        )
        d_both = ops.matmul(d_gates, turned.kernel)
        depth = turned.kernel.shape[1] - before[0].shape[-1]
        d_below = d_both[:, :depth] if depth else None
        return d_gates, d_below, (d_both[:, depth:], d_c * f)

    @staticmethod
    def weight_gradients(
        weights: LSTMWeights, below: Tensor | None, before: States, d_gates: Tensor
    ) -> tuple[LSTMWeights, Tensor]:
        """Gradients for the weights and for `extra`, from tensors of all steps `(t, b, ...)`."""
        return LSTMWeights(outer(_both(below, before[0]), d_gates)), d_gates


class GRU:
    """`[z; r; g] = extra + below W` and `[z'; r'; g'] = h U + b`, then `h' = z h + (1 - z) g`.

    With `z = sigmoid(z + z')`, `r = sigmoid(r + r')` and `g = tanh(g + r g')`.

    Reference:
        [Cho et al. 2014](https://arxiv.org/abs/1406.1078), with the reset gate after the product,
        as `keras.layers.GRUCell` has it by default.
    """

    count = 1
    """Number of states."""

    @staticmethod
    def advance(
        weights: GRUWeights, extra: Tensor, below: Tensor | None, states: States
    ) -> tuple[States, Tensor]:
        """A step: `(states after it, gates (b, 4 u))`, `g'` the last of them."""
        (h,) = states
        inputs = extra if below is None else extra + ops.matmul(below, weights.kernel)
        z, r, g = ops.split(inputs, 3, axis=-1)
        own = ops.matmul(h, weights.recurrent_kernel) + weights.recurrent_bias
        own_z, own_r, own_g = ops.split(own, 3, axis=-1)
        z, r = ops.sigmoid(z + own_z), ops.sigmoid(r + own_r)
        g = tanh(g + r * own_g)
        return (z * h + (1.0 - z) * g,), ops.concatenate([z, r, g, own_g], axis=-1)

    @staticmethod
    def turned(weights: GRUWeights) -> GRUWeights:
        """The weights as `retreat` takes them."""
        kernel = ops.transpose(weights.kernel) if is_there(weights.kernel) else ()
        return GRUWeights(kernel, ops.transpose(weights.recurrent_kernel), ())

    @staticmethod
    def retreat(
        turned: GRUWeights, gates: Tensor, before: States, after: States, gradient: States
    ) -> tuple[Tensor, Tensor | None, States]:
        """`(d_gates (b, 4 u), d_below, gradient for the state before)`."""
        z, r, g, own_g = ops.split(gates, 4, axis=-1)
        (d_h,) = gradient
        d_z = d_h * (before[0] - g) * z * (1.0 - z)
        d_g = d_h * (1.0 - z) * (1.0 - g * g)
        d_r = d_g * own_g * r * (1.0 - r)
        d_gates = ops.concatenate([d_z, d_r, d_g, d_g * r], axis=-1)
        d_inputs, d_own = _parts(d_gates)
        d_below = ops.matmul(d_inputs, turned.kernel) if is_there(turned.kernel) else None
        d_before = d_h * z + ops.matmul(d_own, turned.recurrent_kernel)
        return d_gates, d_below, (d_before,)

    @staticmethod
    def weight_gradients(
        weights: GRUWeights, below: Tensor | None, before: States, d_gates: Tensor
    ) -> tuple[GRUWeights, Tensor]:
        """Gradients for the weights and for `extra`, from tensors of all steps `(t, b, ...)`."""
        d_inputs, d_own = _parts(d_gates)
        d_kernel = () if below is None else outer(below, d_inputs)
        return GRUWeights(d_kernel, outer(before[0], d_own), total(d_own)), d_inputs


Kind = type[LSTM] | type[GRU]


def no_gates(states: States) -> Tensor:
    """Zeros like the gates of a cell with these states."""
    return ops.concatenate([ops.zeros_like(states[0])] * 4, axis=-1)


def _both(below: Tensor | None, h: Tensor) -> Tensor:
    return h if below is None else ops.concatenate([below, h], axis=-1)


def _parts(d_gates: Tensor) -> tuple[Tensor, Tensor]:
    """Of `[z; r; g; g']` the gradients for what the input and what the state were projected to."""
    z, r, g, own_g = ops.split(d_gates, 4, axis=-1)
    return ops.concatenate([z, r, g], axis=-1), ops.concatenate([z, r, own_g], axis=-1)
