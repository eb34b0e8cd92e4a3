"""`AttentionDecoderCell`: one step of a decoder with attention."""

import copy
from typing import Any

import keras
from keras import ops

from keras_luong.layers.arguments import checked_flag
from keras_luong.layers.attention import Attended, Attention, AttentionMemory
from keras_luong.layers.attention_vector import AttentionVector
from keras_luong.layers.cells import (
    build_cell,
    check_cell,
    flat_state_size,
    output_depth,
    pack_states,
    takes_training,
)
from keras_luong.layers.checks import check_not_regularized
from keras_luong.layers.freezing import freeze_parts, parts_as_configured

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class AttentionDecoderCell(keras.layers.Layer):
    """A recurrent cell that attends over a memory after each step.

    With `x_t` the input, `h~_(t-1)` the attention vector of the step before (zeros at the start):

    - `h_t = cell([x_t; h~_(t-1)])` with input feeding, `cell(x_t)` without;
    - `c_t` the context of `h_t` over the memory;
    - `h~_t = tanh([c_t; h_t] W_c)`, the output, or another form of `AttentionVector`.

    `AttentionDecoder` runs it over a sequence. Inside a plain `keras.layers.RNN`, which hands a
    cell nothing but inputs and states, it raises an error that says so.

    Args:
        cell: A Keras recurrent cell: `LSTMCell`, `GRUCell`, `SimpleRNNCell`, `StackedRNNCells` or
            your own. A stack is made residual with `ResidualCell`, and gets dropout between its
            layers from the `dropout` of its cells; masks are drawn once a sequence.
        attention: A `LuongAttention`, `BahdanauAttention`, `MonotonicAttention` or, for several
            memories, a `MultiSourceAttention`.
        units: Depth of the attention vector. `None` for no attention vector: the context takes its
            place, also as what is fed back.
        attention_activation: Activation of the attention vector. Defaults to `"tanh"`.
        use_bias: Whether the attention vector has a bias. The paper has none.
        two_layer: Whether the attention vector is made of the context alone, by two layers.
        gate: `None`, or what weighs the parts of the attention vector: `"source"`, `"target"`,
            `"both"` or `"context"`. See `AttentionVector`.
        input_feeding: Whether the attention vector is part of the next input.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, input depth)`.
        states: Flat list: the wrapped cell's states, then, with input feeding, the last attention
            vector, then, for attention with a state, that: `(batch, source length)`.
        memory: What `prepare` returned. For beams, `inputs` and `states` may lead with
            `batch x beams` where the memory leads with `batch`.
        query_position: `(batch, 1)`, the index of the step, for attention that needs it.
        noise: `(batch, source length)` to add to the attention logits, or `None`.
        return_attention_scores: Whether to return the scores too.
        training: Passed to the wrapped cell.

    Output shape:
        `(attention vector (batch, units), new states)`; with `return_attention_scores=True` also
        the scores `(batch, source length)`.

    Example:

    >>> import keras, numpy as np
    >>> from keras_luong import LuongAttention
    >>> cell = AttentionDecoderCell(keras.layers.GRUCell(4), LuongAttention("dot"), units=6)
    >>> cell.build((None, 3), memory_shape=(None, None, 4))
    >>> memory = cell.prepare(np.ones((2, 5, 4), "float32"))
    >>> vector, states = cell(np.ones((2, 3)), cell.initial_states(memory), memory=memory)
    >>> print(tuple(vector.shape), [tuple(state.shape) for state in states])
    (2, 6) [(2, 4), (2, 6)]

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025), equation 5 and section 3.3.
    """

    def __init__(
        self,
        cell: Any,
        attention: Attention,
        units: int | None,
        *,
        attention_activation: Any = "tanh",
        use_bias: bool = False,
        two_layer: bool = False,
        gate: str | None = None,
        input_feeding: bool = True,
        **kwargs: Any,
    ) -> None:
        # Casts are the parts' own: positions and states keep more digits than 16 bits have.
        super().__init__(autocast=False, **kwargs)
        _check_parts(cell, attention)
        self.cell = cell
        self.attention = attention
        self.attention_vector = AttentionVector(
            units,
            activation=attention_activation,
            use_bias=use_bias,
            two_layer=two_layer,
            gate=gate,
            dtype=self.dtype_policy,
            name="attention_vector",
        )
        self.input_feeding = checked_flag("input_feeding", input_feeding)
        self._context_depth: int | None = None
        self._cell_takes_training = takes_training(cell)
        freeze_parts(self)

    @property
    def units(self) -> int | None:
        """Depth of the attention vector, or `None` without one."""
        return self.attention_vector.units

    @property
    def output_size(self) -> int | None:
        """Depth of the output; without an attention vector known once built."""
        return self._context_depth if self.units is None else self.units

    @property
    def state_size(self) -> list[int | None]:
        """Sizes of the states, without that of the attention, whose size is the source's."""
        fed_back = [self.output_size] if self.input_feeding else []
        return [*flat_state_size(self.cell), *fed_back]

    def build(self, inputs_shape: Any, memory_shape: Any = None, key_shape: Any = None) -> None:
        if memory_shape is None:
            raise ValueError(_NO_MEMORY)
        batch, input_depth = inputs_shape
        self._context_depth = self.attention.context_depth(memory_shape)
        recurrent_depth = input_depth + (self.output_size if self.input_feeding else 0)
        build_cell(self.cell, (batch, recurrent_depth))
        query_depth = output_depth(self.cell)
        if not self.attention.built:
            self.attention.build((batch, None, query_depth), memory_shape, key_shape)
        self.attention_vector.build(
            (batch, self._context_depth), (batch, query_depth), (batch, input_depth)
        )

    def prepare(
        self,
        memory: Any,
        memory_mask: Any = None,
        key: Any = None,
        training: bool | None = None,
    ) -> AttentionMemory:
        """Prepares a memory `(batch, source length, depth)` once, for all steps over it."""
        return self.attention.prepare(memory, key, memory_mask, training)

    def initial_states(self, memory: AttentionMemory, initial_state: Any = None) -> list[Tensor]:
        """The flat states before the first step.

        Args:
            memory: What `prepare` returned.
            initial_state: States of the wrapped cell in its structure, or all that an
                `AttentionDecoder` returned, or `None` for zeros.

        Returns:
            The wrapped cell's states; with input feeding, the attention vector, zeros if not given;
            for attention with a state, that, its start if not given.
        """
        batch_size, size = self.attention.batch_size(memory), len(self.state_size)
        given = _flat(initial_state)
        states = [ops.cast(state, self.compute_dtype) for state in given[:size]]
        missing = self.state_size[len(given) :]
        states.extend(ops.zeros((batch_size, one), self.compute_dtype) for one in missing)
        if self.attention.has_state and len(given) > size:
            states.append(ops.cast(given[size], self.attention.loop_dtype))
        elif self.attention.has_state:
            states.append(ops.squeeze(self.attention.initial_state(memory), 1))
        return states

    def initial_position(self, memory: AttentionMemory, initial_state: Any = None) -> Tensor:
        """The position of the first step, int32 `(b,)`: 0, or the one that a decoder returned.

        Args:
            memory: What `prepare` returned.
            initial_state: As in `initial_states`.
        """
        given = _flat(initial_state)
        if self.attention.needs_position and len(given) > len(flat_state_size(self.cell)):
            return ops.cast(given[-1], "int32")
        return ops.zeros((self.attention.batch_size(memory),), "int32")

    def call(
        self,
        inputs: Tensor,
        states: list[Tensor],
        memory: AttentionMemory | None = None,
        query_position: Tensor | None = None,
        noise: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        if memory is None:
            raise ValueError(_NO_MEMORY)
        sentences, states = self.attention.batch_size(memory), list(states)
        state = _by_sentence(states.pop(), sentences) if self.attention.has_state else None
        fed = [ops.cast(states.pop(), self.compute_dtype)] if self.input_feeding else []
        inputs = ops.cast(inputs, self.compute_dtype)
        recurrent_inputs = ops.concatenate([inputs, *fed], axis=-1) if fed else inputs
        output, states = self.recur(recurrent_inputs, states, training)
        if query_position is not None:
            query_position = ops.squeeze(_by_sentence(query_position, sentences), -1)
        attended = self.attention.attend(
            _by_sentence(output, sentences),
            memory,
            query_position=query_position,
            state=state,
            noise=None if noise is None else ops.expand_dims(noise, 1),
        )
        vector = self.attention_vector(_by_row(attended.context, output), output, inputs)
        states = [ops.cast(one, self.compute_dtype) for one in states]
        states += [vector] if self.input_feeding else []
        states += [_by_row(attended.state, output)] if self.attention.has_state else []
        if not return_attention_scores:
            return vector, states
        return vector, states, _by_row(ops.cast(attended.scores, self.compute_dtype), output)

    def recur(
        self, inputs: Tensor, states: list[Tensor], training: bool | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """One step of the wrapped cell: `(output, flat states)`."""
        kwargs = {"training": training} if self._cell_takes_training else {}
        output, states = self.cell(inputs, pack_states(self.cell, states), **kwargs)
        return output, keras.tree.flatten(states)

    def attend_sequence(
        self,
        query: Tensor,
        memory: AttentionMemory,
        inputs: Tensor,
        query_mask: Tensor | None = None,
        query_position: Tensor | None = None,
        state: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Attended:
        """All steps at once, without input feeding: attention vectors in the context's place.

        Args:
            query: Outputs of the wrapped cell, `(b, t, depth)`.
            memory: What `prepare` returned.
            inputs: The decoder's inputs, `(b, t, depth)`.
            query_mask: Boolean `(b, t)`, or `None`.
            query_position: `(b, t)`. Defaults to 0, 1, 2 and so on.
            state: `(b, s)`, the attention's before the first step. Defaults to its start.
            return_attention_scores: Whether the scores are wanted.
            training: Whether there is noise.

        Returns:
            An `Attended`.
        """
        attended = self.attention.attend_sequence(
            query,
            memory,
            query_mask,
            query_position,
            state,
            return_attention_scores,
            training,
        )
        vectors = self.attention_vector(attended.context, query, inputs)
        return attended._replace(context=vectors)

    def get_config(self) -> dict[str, Any]:
        vector = self.attention_vector.get_config()
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "attention": keras.saving.serialize_keras_object(self.attention),
            "units": vector["units"],
            "attention_activation": vector["activation"],
            "use_bias": vector["use_bias"],
            "two_layer": vector["two_layer"],
            "gate": vector["gate"],
            "input_feeding": self.input_feeding,
            "attention_vector_trainable": self.attention_vector.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AttentionDecoderCell":
        # Copies, since `StackedRNNCells` empties the config that it is made from.
        parts = {
            name: keras.saving.deserialize_keras_object(copy.deepcopy(config[name]))
            for name in ("cell", "attention")
        }
        config = {**config, **parts}
        trains_vector = config.pop("attention_vector_trainable")
        with parts_as_configured():
            cell = cls(**config)
        cell.attention_vector.trainable = trains_vector
        return cell


_NO_MEMORY = (
    "AttentionDecoderCell needs a memory to attend to, and keras.layers.RNN hands none over. "
    "Run the cell with keras_luong.AttentionDecoder(cell)(sequences, memory), or call it with "
    "memory=cell.prepare(memory)."
)


def _flat(initial_state: Any) -> list[Tensor]:
    return [] if initial_state is None else keras.tree.flatten(initial_state)


def _by_sentence(tensor: Tensor, sentences: Any) -> Tensor:
    """`(b k, d) -> (b, k, d)`: the k hypotheses of a sentence are k queries to its one memory."""
    # -1 only where the size is unknown: JAX and torch cannot infer a size beside a 0.
    known = isinstance(sentences, int)
    beams = ops.shape(tensor)[0] // max(sentences, 1) if known else -1
    return ops.reshape(tensor, (sentences, beams, ops.shape(tensor)[-1]))


def _by_row(tensor: Tensor, rows: Tensor) -> Tensor:
    """`(b, k, d) -> (b k, d)`, with as many rows as `rows` has."""
    return ops.reshape(tensor, (ops.shape(rows)[0], ops.shape(tensor)[-1]))


def _check_parts(cell: Any, attention: Any) -> None:
    check_cell(cell)
    if isinstance(cell, AttentionDecoderCell):
        raise ValueError(
            "`cell` must be a recurrent cell without an attention of its own. For several memories "
            f"there is MultiSourceAttention. Received: {cell!r}"
        )
    if not isinstance(attention, Attention):
        raise ValueError(
            "attention must be an attention layer of this package, such as LuongAttention. "
            f"Received: {attention!r}"
        )
    check_not_regularized("AttentionDecoderCell", attention, *getattr(cell, "cells", [cell]))
