"""`AttentionVector`: what a decoder step makes of context and query."""

from typing import Any

import keras
from keras import ops

from keras_luong.checked_numbers import count_of
from keras_luong.functional import activate, project
from keras_luong.layers.arguments import checked_flag
from keras_luong.layers.checks import check_one_of

Tensor = Any
GATES = (None, "context", "source", "target", "both")


@keras.saving.register_keras_serializable(package="keras_luong")
class AttentionVector(keras.layers.Layer):
    """The attention vector h~_t from context c_t, query h_t and input x_t, in all its forms.

    - plain: `h~_t = activation([c_t; h_t] W_c + b)`;
    - `two_layer=True`: `c'_t = activation(c_t W_hc + b_c)`, `h~_t = activation(c'_t W_hh + b_h)`;
    - `units=None`: the context itself.

    A gate weighs its parts. With `z_t = sigmoid([x_t; h_t; c_t] W_z + b_z)` and `[c_t; h_t] W_c`
    split into its summands, source `c_t W_s` and target `h_t W_t`:

    - `"source"`: `activation(z_t * source + target)`;
    - `"target"`: `activation(source + z_t * target)`;
    - `"both"`: `activation(z_t * source + (1 - z_t) * target)`;
    - `"context"`: `c_t <- sigmoid([c_t; h_t] W_z + b_z) * c_t` before any of the forms.

    Args:
        units: Depth of the attention vector, or `None` for the context itself.
        activation: Activation of the attention vector; `None` for a linear one.
        use_bias: Whether the plain form has a bias; the others have theirs in any case.
        two_layer: Whether the vector is made of the context alone, by two layers.
        gate: `None`, `"source"`, `"target"`, `"both"` or `"context"`.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        context: `(..., context depth)`.
        query: `(..., query depth)`.
        inputs: The decoder's input x_t, `(..., input depth)`: the target word, without what input
            feeding adds.

    Output shape:
        `(..., units)`.

    Example:

    >>> import numpy as np
    >>> vector = AttentionVector(6, gate="both")
    >>> print(tuple(vector(np.ones((2, 3, 4)), np.ones((2, 3, 5)), np.ones((2, 3, 7))).shape))
    (2, 3, 6)

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025), equation 5; gates: [Tu et al.
        2017](https://arxiv.org/abs/1608.06043), section 3, whose decoder attends before its step:
        here, where it attends after, the target side is the state after the step.
    """

    def __init__(
        self,
        units: int | None,
        *,
        activation: Any = "tanh",
        use_bias: bool = False,
        two_layer: bool = False,
        gate: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True
        activation = keras.activations.get(activation)
        use_bias = checked_flag("use_bias", use_bias)
        two_layer = checked_flag("two_layer", two_layer)
        _check_options(units, activation, use_bias, two_layer, gate)
        self.units = None if units is None else count_of("units", units)
        self.activation = activation
        self.use_bias = use_bias
        self.two_layer = two_layer
        self.gate = gate

    def build(self, context_shape: Any, query_shape: Any, inputs_shape: Any) -> None:
        context, query, inputs = context_shape[-1], query_shape[-1], inputs_shape[-1]
        self.gate_kernel = self.kernel = self.bias = None
        if self.gate == "context":
            self._add_gate(context + query, context)
        elif self.gate is not None:
            self._add_gate(inputs + query + context, self.units)
        if self.units is None:
            return
        if self.two_layer:
            self.hidden_kernel = self._weight("hidden_kernel", (context, self.units))
            self.hidden_bias = self._weight("hidden_bias", (self.units,), "zeros")
        depth = self.units if self.two_layer else context + query
        self.kernel = self._weight("kernel", (depth, self.units))
        if self.use_bias or self.two_layer:
            self.bias = self._weight("bias", (self.units,), "zeros")

    def _add_gate(self, depth: int, units: int | None) -> None:
        self.gate_kernel = self._weight("gate_kernel", (depth, units))
        self.gate_bias = self._weight("gate_bias", (units,), "zeros")

    def _weight(self, name: str, shape: tuple, initializer: str = "glorot_uniform") -> Any:
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def call(self, context: Tensor, query: Tensor, inputs: Tensor) -> Tensor:
        context, query, inputs = (self._cast(part) for part in (context, query, inputs))
        if self.gate == "context":
            context = self._gate_of(context, query) * context
        if self.units is None:
            return context
        if self.two_layer:
            hidden = project(context, self._cast(self.hidden_kernel))
            hidden = activate(self.activation, hidden + self._cast(self.hidden_bias))
            return self._output(project(hidden, self._cast(self.kernel)))
        if self.gate in (None, "context"):
            both = ops.concatenate([context, query], axis=-1)
            return self._output(project(both, self._cast(self.kernel)))
        return self._output(self._gated(context, query, self._gate_of(inputs, query, context)))

    def _gated(self, context: Tensor, query: Tensor, gate: Tensor) -> Tensor:
        kernel, depth = self._cast(self.kernel), context.shape[-1]
        source, target = project(context, kernel[:depth]), project(query, kernel[depth:])
        if self.gate == "source":
            return gate * source + target
        if self.gate == "target":
            return source + gate * target
        return gate * source + (1.0 - gate) * target

    def _gate_of(self, *parts: Tensor) -> Tensor:
        logits = project(ops.concatenate(parts, axis=-1), self._cast(self.gate_kernel))
        return ops.sigmoid(logits + self._cast(self.gate_bias))

    def _output(self, vector: Tensor) -> Tensor:
        vector = vector if self.bias is None else vector + self._cast(self.bias)
        return activate(self.activation, vector)

    def _cast(self, tensor: Any) -> Tensor:
        return ops.cast(tensor, self.compute_dtype)

    def compute_output_shape(
        self, context_shape: Any, query_shape: Any = None, inputs_shape: Any = None
    ) -> tuple:
        depth = context_shape[-1] if self.units is None else self.units
        return (*context_shape[:-1], depth)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "two_layer": self.two_layer,
            "gate": self.gate,
        }


def _check_options(
    units: int | None, activation: Any, use_bias: bool, two_layer: bool, gate: str | None
) -> None:
    check_one_of("gate", gate, GATES)
    if units is None:
        given = {
            # The default, and none at all, say nothing about a context that stays as it is.
            "activation": activation not in (keras.activations.tanh, keras.activations.linear),
            "use_bias": use_bias,
            "two_layer": two_layer,
            "gate": gate not in (None, "context"),
        }
        for name, is_given in given.items():
            if is_given:
                raise ValueError(
                    f"`{name}` needs an attention vector. Received: units=None, "
                    f"activation={keras.activations.serialize(activation)!r}, "
                    f"use_bias={use_bias}, two_layer={two_layer}, gate={gate!r}"
                )
    if two_layer and use_bias:
        raise ValueError("two_layer=True has its biases already. Received: use_bias=True")
    if two_layer and gate not in (None, "context"):
        raise ValueError(
            'two_layer=True leaves the query out, so only gate="context" has something to weigh. '
            f"Received: gate={gate!r}"
        )
