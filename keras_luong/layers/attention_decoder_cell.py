"""`AttentionDecoderCell`: one step of a decoder with attention."""

import copy
import inspect
from typing import Any

import keras
from keras import ops

from keras_luong.functional import project, tanh
from keras_luong.layers.luong_attention import AttentionMemory, LuongAttention
from keras_luong.layers.recurrence import flat_state_size, output_depth, pack_states

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class AttentionDecoderCell(keras.layers.Layer):
    """A recurrent cell that attends over a memory after each step.

    With `x_t` the input, `h~_(t-1)` the attention vector of the step before (zeros at the start):

    - `h_t = cell([x_t; h~_(t-1)])` with input feeding, `cell(x_t)` without;
    - `c_t` the context of `h_t` over the memory;
    - `h~_t = tanh([c_t; h_t] W_c)`, the output.

    `AttentionDecoder` runs it over a sequence. Inside a plain `keras.layers.RNN`, which hands a
    cell nothing but inputs and states, it raises an error that says so.

    Args:
        cell: A Keras recurrent cell: `LSTMCell`, `GRUCell`, `SimpleRNNCell`, `StackedRNNCells` or
            your own.
        attention: A `LuongAttention`.
        units: Depth of the attention vector. `None` for no attention vector: the context takes its
            place, also as what is fed back.
        attention_activation: Activation of the attention vector. Defaults to `"tanh"`.
        use_bias: Whether the attention vector has a bias. The paper has none.
        input_feeding: Whether the attention vector is part of the next input.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, input depth)`.
        states: Flat list: the wrapped cell's states, then, with input feeding, the last attention
            vector.
        memory: What `prepare` returned. For beams, `inputs` and `states` may lead with
            `batch x beams` where the memory leads with `batch`.
        return_attention_scores: Whether to return the scores too.
        training: Passed to the wrapped cell.

    Output shape:
        `(attention vector (batch, units), new states)`; with `return_attention_scores=True` also
        the scores `(batch, source length)`.

    Example:

    >>> import keras, numpy as np
    >>> cell = AttentionDecoderCell(keras.layers.GRUCell(4), LuongAttention("dot"), units=6)
    >>> cell.build((None, 3), memory_shape=(None, None, 4))
    >>> memory = cell.prepare(np.ones((2, 5, 4), "float32"))
    >>> vector, states = cell(np.ones((2, 3)), cell.get_initial_state(2), memory=memory)
    >>> print(tuple(vector.shape), [tuple(state.shape) for state in states])
    (2, 6) [(2, 4), (2, 6)]

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025), equation 5 and section 3.3.
    """

    def __init__(
        self,
        cell: Any,
        attention: LuongAttention,
        units: int | None,
        *,
        attention_activation: Any = "tanh",
        use_bias: bool = False,
        input_feeding: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_options(cell, attention, units, use_bias)
        self.cell = cell
        self.attention = attention
        self.units = units
        self.attention_activation = keras.activations.get(attention_activation)
        self.use_bias = use_bias
        self.input_feeding = input_feeding
        self._context_depth: int | None = None
        self._cell_takes_training = "training" in inspect.signature(cell.call).parameters

    @property
    def output_size(self) -> int | None:
        """Depth of the output; without an attention vector known once built."""
        return self._context_depth if self.units is None else self.units

    @property
    def state_size(self) -> list[int | None]:
        fed_back = [self.output_size] if self.input_feeding else []
        return [*flat_state_size(self.cell), *fed_back]

    def build(self, inputs_shape: Any, memory_shape: Any = None) -> None:
        if memory_shape is None:
            raise ValueError(_NO_MEMORY)
        batch, input_depth = inputs_shape
        self._context_depth = memory_shape[-1]
        recurrent_depth = input_depth + (self.output_size if self.input_feeding else 0)
        if hasattr(self.cell, "build") and not getattr(self.cell, "built", False):
            self.cell.build((batch, recurrent_depth))
        query_depth = output_depth(self.cell)
        if not self.attention.built:
            self.attention.build((batch, None, query_depth), memory_shape)
        self.kernel = self.bias = None
        if self.units is not None:
            self.kernel = self.add_weight(
                name="kernel", shape=(self._context_depth + query_depth, self.units)
            )
            if self.use_bias:
                self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def prepare(
        self, memory: Tensor, memory_mask: Tensor | None = None, training: bool | None = None
    ) -> AttentionMemory:
        """Prepares a memory `(batch, source length, depth)` once, for all steps over it."""
        return self.attention.prepare(memory, value_mask=memory_mask, training=training)

    def get_initial_state(self, batch_size: Any) -> list[Tensor]:
        """Zeros for every state, in the order of `state_size`."""
        return [ops.zeros((batch_size, size), self.compute_dtype) for size in self.state_size]

    def call(
        self,
        inputs: Tensor,
        states: list[Tensor],
        memory: AttentionMemory | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        if memory is None:
            raise ValueError(_NO_MEMORY)
        states = list(states)
        if self.input_feeding:
            inputs = ops.concatenate([inputs, states.pop()], axis=-1)
        output, states = self.recur(inputs, states, training)
        vector, scores = self.attend(_queries_by_sentence(output, memory), memory)
        rows = ops.shape(output)[0]
        vector = ops.reshape(vector, (rows, self.output_size))
        if self.input_feeding:
            states.append(vector)
        if not return_attention_scores:
            return vector, states
        return vector, states, ops.reshape(scores, (rows, ops.shape(scores)[-1]))

    def recur(
        self, inputs: Tensor, states: list[Tensor], training: bool | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """One step of the wrapped cell: `(output, flat states)`."""
        kwargs = {"training": training} if self._cell_takes_training else {}
        output, states = self.cell(inputs, pack_states(self.cell, states), **kwargs)
        return output, keras.tree.flatten(states)

    def attend(
        self, query: Tensor, memory: AttentionMemory, query_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attention vectors `(b, t, units)` and scores `(b, t, s)` of queries `(b, t, depth)`."""
        context, scores = self.attention.attend(query, memory, query_mask)
        context = ops.cast(context, self.compute_dtype)
        scores = ops.cast(scores, self.compute_dtype)
        if self.kernel is None:
            return context, scores
        both = ops.concatenate([context, query], axis=-1)
        vector = project(both, ops.cast(self.kernel, self.compute_dtype))
        if self.bias is not None:
            vector = vector + ops.cast(self.bias, self.compute_dtype)
        is_tanh = self.attention_activation is keras.activations.tanh
        return tanh(vector) if is_tanh else self.attention_activation(vector), scores

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "attention": keras.saving.serialize_keras_object(self.attention),
            "units": self.units,
            "attention_activation": keras.activations.serialize(self.attention_activation),
            "use_bias": self.use_bias,
            "input_feeding": self.input_feeding,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AttentionDecoderCell":
        # Copies, since `StackedRNNCells` empties the config that it is made from.
        parts = {
            name: keras.saving.deserialize_keras_object(copy.deepcopy(config[name]))
            for name in ("cell", "attention")
        }
        return cls(**{**config, **parts})


_NO_MEMORY = (
    "AttentionDecoderCell needs a memory to attend to, and keras.layers.RNN hands none over. "
    "Run the cell with keras_luong.AttentionDecoder(cell)(sequences, memory), or call it with "
    "memory=cell.prepare(memory)."
)


def _queries_by_sentence(output: Tensor, memory: AttentionMemory) -> Tensor:
    """`(b k, d) -> (b, k, d)`: the k hypotheses of a sentence are k queries to its one memory."""
    sentences = ops.shape(memory.values)[0]
    # -1 only where the size is unknown: JAX and torch cannot infer a size beside a 0.
    beams = ops.shape(output)[0] // max(sentences, 1) if isinstance(sentences, int) else -1
    return ops.reshape(output, (sentences, beams, output.shape[-1]))


def _check_options(cell: Any, attention: Any, units: int | None, use_bias: bool) -> None:
    if not (hasattr(cell, "state_size") and callable(cell)):
        raise ValueError(
            "cell must be a recurrent cell such as keras.layers.LSTMCell, with a call(inputs, "
            f"states) and a state_size. Received: {cell!r}"
        )
    if not isinstance(attention, LuongAttention):
        raise ValueError(f"attention must be a LuongAttention. Received: {attention!r}")
    if units is not None and units < 1:
        raise ValueError(f"units must be at least 1, or None. Received: {units}")
    if use_bias and units is None:
        raise ValueError("use_bias needs an attention vector. Received: use_bias=True, units=None")
