"""`MultiSourceAttention`: one query, several memories."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_luong.layers.attention import Attended, Attention
from keras_luong.layers.checks import check_not_regularized
from keras_luong.layers.freezing import freeze_parts, parts_as_configured

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class MultiSourceAttention(Attention):
    """Attends over several memories at once, each with an attention of its own.

    The context is `[c^1; c^2; ...]`, one after the other, and so are the scores: those of every
    source sum to 1 (or to what its attention makes them sum to). Inside an `AttentionDecoderCell`
    the attention vector is then `tanh([c^1; c^2; ...; h_t] W_c)`.

    Args:
        attentions: A list of attention layers, one for each memory.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        query: `(batch, target length, query depth)`, or one step `(batch, query depth)`.
        value: A list of `(batch, source length, value depth)`; lengths and depths may differ.
        key: A list of `(batch, source length, key depth)`. Defaults to `value`.
        query_mask: Boolean `(batch, target length)`, or `(batch,)` for one step.
        value_mask: A list of boolean `(batch, source length)` or `None`.
        query_position: As in `LuongAttention`, for those that need it.
        state: `(batch, sum of the source lengths)`: the states side by side, as the scores are.
        return_attention_scores: Whether to return the scores too.
        training: Whether dropout is applied; inside each attention one mask a sequence.

    Output shape:
        Context `(batch, target length, sum of the value depths)`, or `(batch, ...)` for one step;
        with `return_attention_scores=True` also the scores `(batch, target length, sum of the
        source lengths)`, or `(batch, ...)`.

    Raises:
        ValueError: For another number of memories than of attentions, and what the attentions
            refuse.

    Example:

    >>> import numpy as np
    >>> from keras_luong import BahdanauAttention, LuongAttention
    >>> attention = MultiSourceAttention([LuongAttention("general"), BahdanauAttention(16)])
    >>> memories = [np.ones((2, 5, 6)), np.ones((2, 7, 4))]
    >>> context, scores = attention(np.ones((2, 3, 8)), memories, return_attention_scores=True)
    >>> print(tuple(context.shape), tuple(scores.shape))
    (2, 3, 10) (2, 3, 12)

    Reference:
        [Zoph, Knight 2016](https://arxiv.org/abs/1601.00710), section 3, for attention over two
        sources whose contexts stand side by side in the attention vector.
    """

    def __init__(self, attentions: Sequence[Attention], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        attentions = list(attentions)
        if not attentions or not all(isinstance(one, Attention) for one in attentions):
            raise ValueError(
                "attentions must be a list of attention layers such as LuongAttention, one for "
                f"each memory. Received: {attentions!r}"
            )
        check_not_regularized("MultiSourceAttention", *attentions)
        self.attentions = attentions
        freeze_parts(self)

    @property
    def has_state(self) -> bool:
        return any(one.has_state for one in self.attentions)

    @property
    def needs_position(self) -> bool:
        return any(one.needs_position for one in self.attentions)

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        for one, value, key in zip(
            self.attentions, value_shape, key_shape or value_shape, strict=True
        ):
            if not one.built:
                one.build(query_shape, value, key)

    def prepare(
        self,
        value: Sequence[Tensor],
        key: Sequence[Tensor] | None = None,
        value_mask: Sequence[Tensor | None] | None = None,
        training: bool | None = None,
    ) -> Any:
        """Prepares every memory; returns a list of `AttentionMemory`."""
        none = [None] * len(self.attentions)
        parts = zip(self.attentions, value, key or none, value_mask or none, strict=True)
        return [
            one.prepare(own, own_key, own_mask, training) for one, own, own_key, own_mask in parts
        ]

    def attend(
        self,
        query: Tensor,
        memory: Any,
        query_mask: Tensor | None = None,
        query_position: Tensor | None = None,
        state: Tensor | None = None,
        noise: Tensor | None = None,
        return_attention_scores: bool = True,
    ) -> Attended:
        states, noises = self._of_each(memory, state), self._of_each(memory, noise)
        parts = zip(self.attentions, memory, states, noises, strict=True)
        attended = [
            one.attend(
                query,
                own,
                query_mask,
                query_position,
                own_state if one.has_state else None,
                own_noise,
                return_attention_scores,
            )
            for one, own, own_state, own_noise in parts
        ]
        context = self.cast(ops.concatenate([part.context for part in attended], axis=-1))
        scores = None
        if return_attention_scores:
            scores = ops.concatenate([self.cast(part.scores) for part in attended], axis=-1)
        if state is None:
            return Attended(context, scores, None)
        new_states = [
            old if part.state is None else ops.cast(part.state, state.dtype)
            for part, old in zip(attended, states, strict=True)
        ]
        return Attended(context, scores, ops.concatenate(new_states, axis=-1))

    def _of_each(self, memory: Any, joined: Tensor | None) -> list[Tensor | None]:
        """Cuts `(b, t, sum of the source lengths)` into the parts of the sources."""
        if joined is None:
            return [None] * len(memory)
        parts, start = [], 0
        for one in memory:
            length = ops.shape(one.values)[1]
            parts.append(joined[..., start : start + length])
            start = start + length
        return parts

    def initial_state(self, memory: Any, queries: int = 1) -> Tensor | None:
        return self._side_by_side(memory, queries, lambda one, own: one.initial_state(own, queries))

    def draw_noise(self, memory: Any, steps: Any, training: Any) -> Tensor | None:
        return self._side_by_side(
            memory, steps, lambda one, own: one.draw_noise(own, steps, training)
        )

    def _side_by_side(self, memory: Any, rows: Any, make: Callable) -> Tensor | None:
        """What each attention makes for its memory, zeros for those that make nothing."""
        made = [make(one, own) for one, own in zip(self.attentions, memory, strict=True)]
        if all(part is None for part in made):
            return None
        parts = [
            ops.zeros((*ops.shape(own.values)[:1], rows, ops.shape(own.values)[1]), self.loop_dtype)
            if part is None
            else ops.cast(part, self.loop_dtype)
            for part, own in zip(made, memory, strict=True)
        ]
        return ops.concatenate(parts, axis=-1)

    def batch_size(self, memory: Any) -> Any:
        return ops.shape(memory[0].values)[0]

    def value_shape(self, memory: Any) -> Any:
        return [tuple(own.values.shape) for own in memory]

    def context_depth(self, memory_shape: Any) -> int:
        return sum(shape[-1] for shape in memory_shape)

    def check_form(self, layer: keras.layers.Layer, name: str, memory: Any) -> None:
        self._check_count(name, memory)
        for one, own in zip(self.attentions, memory, strict=True):
            one.check_form(layer, name, own)

    def check_memory(
        self,
        layer: keras.layers.Layer,
        name: str,
        memory: Any,
        mask: Any,
        batch_size: int | None,
        key: Any = None,
    ) -> None:
        none = [None] * len(self.attentions)
        self._check_count(f"{name}_mask", none if mask is None else mask)
        parts = zip(self.attentions, memory, mask or none, key or none, strict=True)
        for one, own, own_mask, own_key in parts:
            one.check_memory(layer, name, own, own_mask, batch_size, own_key)

    def source_length(self, memory: Any) -> int | None:
        lengths = [one.shape[1] for one in memory]
        return None if None in lengths else sum(lengths)

    def _check_count(self, name: str, given: Any) -> None:
        count = len(given) if isinstance(given, list | tuple) else 1
        if not isinstance(given, list | tuple) or count != len(self.attentions):
            raise ValueError(
                f"MultiSourceAttention takes a list of {len(self.attentions)} for {name}, one for "
                f"each attention. Received {count}."
            )

    def get_config(self) -> dict[str, Any]:
        attentions = [keras.saving.serialize_keras_object(one) for one in self.attentions]
        return {**super().get_config(), "attentions": attentions}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MultiSourceAttention":
        attentions = [
            keras.saving.deserialize_keras_object(copy.deepcopy(one))
            for one in config["attentions"]
        ]
        with parts_as_configured():
            return cls(**{**config, "attentions": attentions})
