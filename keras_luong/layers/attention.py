"""`Attention`: the contract of the attention layers, and the loop over a state."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_luong import functional
from keras_luong.layers.checks import (
    check_batch,
    check_mask,
    check_rank,
    check_shape,
    refuse_list,
    refuse_mask,
)

Tensor = Any


class AttentionMemory(NamedTuple):
    """What attention needs of a source, prepared once a sentence.

    Attributes:
        values: `(b, s, value depth)`, zeros at padding.
        keys: Projected keys, `(b, s, ...)`, or `None` for a score that does not look at the source.
        mask: Boolean `(b, s)`, or `None` to keep every position.
        lengths: int32 `(b,)`, 1 + the last kept position, or `None` where no window needs it.
        dropout_mask: Factors for the scores, broadcastable to `(b, t, s)`, or `None`.
        copied_ids: int32 `(b, s)`, what a `CopyMechanism` makes of the source, or `None`.
    """

    values: Tensor
    keys: Tensor | None
    mask: Tensor | None
    lengths: Tensor | None = None
    dropout_mask: Tensor | None = None
    copied_ids: Tensor | None = None


class Attended(NamedTuple):
    """What attending gives.

    Attributes:
        context: `(b, t, value depth)`.
        scores: `(b, t, s)`, or `None` if not asked for.
        state: `(b, t, s)` after these queries, or `None` for attention without a state.
    """

    context: Tensor
    scores: Tensor | None
    state: Tensor | None


class Attention(keras.layers.Layer):
    """Contract of the attention layers: any of them stands in a decoder, or on its own.

    A subclass prepares a memory once (`prepare`) and attends over it with queries that do not
    depend on each other (`attend`). Where a step depends on the step before, the subclass has a
    state (`has_state`, `initial_state`), and the queries of a sequence attend one by one; else all
    of them attend at once.

    Args:
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.
    """

    max_source_length: int | None = None
    """Length of the longest source that the weights have room for, if there is one."""

    def __init__(self, **kwargs: Any) -> None:
        # Casts are explicit: `prepare` and `attend` also run outside `__call__` and its autocast,
        # and positions and states keep more digits than 16 bits have.
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    # -- what a subclass says -------------------------------------------------------------------

    @property
    def has_state(self) -> bool:
        """Whether a step needs what the step before left, one number a source position."""
        return False

    @property
    def needs_position(self) -> bool:
        """Whether the scores depend on the position of the query."""
        return False

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        raise NotImplementedError

    def prepare(
        self,
        value: Tensor,
        key: Tensor | None = None,
        value_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> AttentionMemory:
        """Does once a sentence what does not depend on the query: masks values, projects keys.

        Args:
            value: `(batch, source length, value depth)`.
            key: `(batch, source length, key depth)`. Defaults to `value`.
            value_mask: Boolean `(batch, source length)`, or `None`.
            training: Whether to draw dropout factors, one set for all target steps.

        Returns:
            An `AttentionMemory` for `attend`.
        """
        raise NotImplementedError

    def attend(
        self,
        query: Tensor,
        memory: AttentionMemory,
        query_mask: Tensor | None = None,
        query_position: Tensor | None = None,
        state: Tensor | None = None,
        noise: Tensor | None = None,
        return_attention_scores: bool = True,
    ) -> Attended:
        """Attends with queries that do not depend on each other: steps, or hypotheses of a step.

        Args:
            query: `(b, t, d)`.
            memory: What `prepare` returned.
            query_mask: Boolean `(b, t)`, or `None`.
            query_position: `(b, t)` or `(t,)`, where `needs_position`.
            state: `(b, t, s)`, where `has_state`.
            noise: `(b, t, s)` to add to the logits, or `None`.
            return_attention_scores: Whether the scores are wanted. Without, long sequences may be
                attended to in less memory.

        Returns:
            An `Attended`; context and scores in the compute dtype.
        """
        raise NotImplementedError

    def initial_state(self, memory: AttentionMemory, queries: int = 1) -> Tensor | None:
        """The state `(b, queries, s)` before the first step, or `None` without one."""
        return None

    def draw_noise(self, memory: AttentionMemory, steps: Any, training: Any) -> Tensor | None:
        """Noise `(b, steps, s)` to add to the logits, drawn before the loop, or `None`."""
        return None

    # -- the layer ------------------------------------------------------------------------------

    def cast(self, weight: Any) -> Tensor:
        """A tensor or weight in the compute dtype."""
        return ops.cast(weight, self.compute_dtype)

    def __call__(self, query: Tensor, *args: Any, **kwargs: Any) -> Any:
        call = "layer(query, value, query_mask=..., value_mask=...)"
        refuse_list(self, query, call)
        refuse_mask(self, kwargs, call)
        check_forms(self, self, ("value", "key"), args, kwargs)
        return super().__call__(query, *args, **kwargs)

    def call(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        query_position: Tensor | None = None,
        state: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        self._check_call(query, value, key, query_mask, value_mask, query_position, state)
        memory = self._prepare_for_call(query, value, key, value_mask, training)
        one_step = len(query.shape) == 2
        if one_step:
            query = ops.expand_dims(query, 1)
            query_mask = None if query_mask is None else ops.expand_dims(query_mask, 1)
            query_position = _column(query_position)
        attended = self.attend_sequence(
            query, memory, query_mask, query_position, state, return_attention_scores, training
        )
        context, scores = attended.context, attended.scores
        if one_step:
            context = ops.squeeze(context, 1)
            scores = None if scores is None else ops.squeeze(scores, 1)
        return (context, scores) if return_attention_scores else context

    def _prepare_for_call(
        self, query: Tensor, value: Any, key: Any, value_mask: Any, training: Any
    ) -> AttentionMemory:
        """The memory of a call of this layer, outside any decoder."""
        return self.prepare(value, key, value_mask, training)

    def attend_sequence(
        self,
        query: Tensor,
        memory: AttentionMemory,
        query_mask: Tensor | None = None,
        query_position: Tensor | None = None,
        state: Tensor | None = None,
        return_attention_scores: bool = True,
        training: bool | None = None,
    ) -> Attended:
        """Attends with the queries of all steps: at once, or in turn where there is a state.

        Args:
            query: `(b, t, d)`.
            memory: What `prepare` returned.
            query_mask: Boolean `(b, t)`, or `None`. A masked step leaves the state as it is.
            query_position: `(b, t)` or `(t,)`. Defaults to 0, 1, 2 and so on.
            state: `(b, s)` before the first step. Defaults to `initial_state`.
            return_attention_scores: Whether the scores are wanted.
            training: Whether there is noise.

        Returns:
            An `Attended`, its state `(b, s)`.
        """
        steps = ops.shape(query)[1]
        if self.needs_position and query_position is None:
            query_position = ops.arange(steps, dtype="int32")
        if not self.has_state:
            return self.attend(
                query,
                memory,
                query_mask,
                query_position,
                return_attention_scores=return_attention_scores,
            )
        channels = self.step_channels(memory, steps, query_position, training)
        return self._attend_in_turn(query, memory, query_mask, state, channels)

    def _attend_in_turn(
        self,
        query: Tensor,
        memory: AttentionMemory,
        query_mask: Tensor | None,
        state: Tensor | None,
        channels: dict[str, Tensor],
    ) -> Attended:
        query = functional.zero_masked(query, query_mask)

        def step(query: Tensor, states: list[Tensor], *own: Tensor) -> tuple:
            attended = self.attend(
                ops.expand_dims(query, 1),
                memory,
                state=ops.expand_dims(states[0], 1),
                **self.of_step(channels, own),
            )
            both = ops.concatenate([attended.context, attended.scores], axis=-1)
            return ops.squeeze(both, 1), [ops.squeeze(attended.state, 1)]

        if state is None:
            state = ops.squeeze(self.initial_state(memory), 1)
        state, of_steps = ops.cast(state, self.loop_dtype), list(channels.values())
        if query.shape[1] == 1:  # a single step needs no loop
            both, (new_state,) = step(query[:, 0], [state], *(one[:, 0] for one in of_steps))
            both = functional.zero_masked(ops.expand_dims(both, 1), query_mask)
            state = new_state if query_mask is None else ops.where(query_mask, new_state, state)
        else:
            both, (state,) = functional.recur(
                step, query, [state], query_mask, of_steps, self.loop_dtype
            )
        depth = self.context_depth(self.value_shape(memory))
        return Attended(self.cast(both[..., :depth]), self.cast(both[..., depth:]), state)

    @property
    def loop_dtype(self) -> str:
        """What a loop over steps must carry: positions and states need more than 16 bits."""
        if self.has_state or self.needs_position:
            # Not `result_type`, which on JAX makes float32 of float64.
            return "float64" if self.compute_dtype == "float64" else "float32"
        return self.compute_dtype

    def step_channels(
        self, memory: AttentionMemory, steps: Any, query_position: Any, training: Any
    ) -> dict[str, Tensor]:
        """What else than queries a loop must hand to its steps, each `(b, steps, ...)` by name."""
        channels = {}
        if self.needs_position:
            shape = (self.batch_size(memory), steps)
            position = ops.cast(query_position, self.loop_dtype)
            channels["query_position"] = ops.expand_dims(ops.broadcast_to(position, shape), -1)
        noise = self.draw_noise(memory, steps, training)
        if noise is not None:
            channels["noise"] = noise
        return channels

    @staticmethod
    def of_step(channels: dict[str, Tensor], own: Sequence[Tensor]) -> dict[str, Tensor]:
        """Arguments of `attend` from what a loop hands to a step, `(b, ...)` in that order."""
        named = dict(zip(channels, own, strict=True))
        if "noise" in named:
            named["noise"] = ops.expand_dims(named["noise"], 1)
        return named

    def batch_size(self, memory: AttentionMemory) -> Any:
        """The number of sentences in a prepared memory."""
        return ops.shape(memory.values)[0]

    def value_shape(self, memory: AttentionMemory) -> Any:
        """The shape of the values in a prepared memory, as `context_depth` takes it."""
        return tuple(memory.values.shape)

    # -- checks and shapes -----------------------------------------------------------------------

    def _check_call(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None,
        query_mask: Tensor | None,
        value_mask: Tensor | None,
        query_position: Tensor | None,
        state: Tensor | None,
    ) -> None:
        check_rank(self, "query", query, (2, 3))
        self.check_memory(self, "value", value, value_mask, query.shape[0], key)
        check_mask(self, "query_mask", query_mask, query.shape[:-1])
        if state is not None and not self.has_state:
            raise ValueError(
                f"This {type(self).__name__} has no state from step to step. Received: state of "
                f"shape {tuple(state.shape)}"
            )
        if state is not None:
            check_shape(self, "state", state, (query.shape[0], self.source_length(value)))
        if self.needs_position and len(query.shape) == 2 and query_position is None:
            raise ValueError(
                f"This {type(self).__name__} needs the query_position of a single step, since its "
                "window moves with it. Received: None"
            )

    def check_form(self, layer: keras.layers.Layer, name: str, memory: Any) -> None:
        """Refuses what is no tensor of rank 3, before `build` stumbles over it."""
        check_rank(layer, name, memory, (3,))

    def check_memory(
        self,
        layer: keras.layers.Layer,
        name: str,
        memory: Tensor,
        mask: Tensor | None,
        batch_size: int | None,
        key: Tensor | None = None,
    ) -> None:
        """Refuses a memory that this attention cannot attend to, in the name of `layer`."""
        self.check_form(layer, name, memory)
        check_batch(layer, name, memory, batch_size)
        check_mask(layer, f"{name}_mask", mask, memory.shape[:-1])
        self.check_source_length(memory.shape[1])
        if key is not None:
            key_name = "key" if name == "value" else f"{name}_key"
            self.check_form(layer, key_name, key)
            check_shape(layer, key_name, key, (*memory.shape[:-1], key.shape[-1]))

    def check_source_length(self, length: int | None) -> None:
        """Refuses a source whose length is known and more than the weights have room for."""
        longest = self.max_source_length
        if longest is not None and length is not None and length > longest:
            raise ValueError(
                f"A score built for max_source_length={longest} was given "
                f"a source of length {length}. Shorten the source or build the layer for more."
            )

    def source_length(self, memory: Tensor) -> int | None:
        """Length of the scores over a memory that is not prepared yet, if it is known."""
        return memory.shape[1]

    def context_depth(self, memory_shape: Any) -> int:
        """Depth of the context over a memory of that shape."""
        return memory_shape[-1]

    def compute_output_spec(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        query_position: Tensor | None = None,
        state: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        self._check_call(query, value, key, query_mask, value_mask, query_position, state)
        target = tuple(query.shape[:-1])
        depth = self.context_depth(shapes_of(value))
        context = keras.KerasTensor((*target, depth), dtype=self.compute_dtype)
        if not return_attention_scores:
            return context
        scores_shape = (*target, self.source_length(value))
        return context, keras.KerasTensor(scores_shape, dtype=self.compute_dtype)


def check_forms(
    layer: keras.layers.Layer,
    attention: Attention,
    names: tuple[str, ...],
    args: tuple,
    kwargs: dict[str, Any],
) -> None:
    """Checks the form of a layer's memory and key, which follow its first argument, if given."""
    for name, given in {**dict(zip(names, args, strict=False)), **kwargs}.items():
        if name in names and given is not None:
            attention.check_form(layer, name, given)


def context_of(scores: Tensor, memory: AttentionMemory) -> Tensor:
    """The context of scores `(b, t, s)`, with the dropout that the memory brings."""
    weights = scores if memory.dropout_mask is None else scores * memory.dropout_mask
    return functional.weighted_sum(weights, memory.values)


def draw_dropout(rate: float, shape: tuple, dtype: str, seed: Any) -> Tensor:
    """Factors for scores: 0, or `1 / (1 - rate)`."""
    return keras.random.dropout(ops.ones(shape, dtype), rate, seed=seed)


def row_mask(memory: AttentionMemory) -> Tensor | None:
    """The mask of a memory, `(b, 1, s)`: the same for every query."""
    return None if memory.mask is None else ops.expand_dims(memory.mask, 1)


def shapes_of(memory: Any) -> Any:
    """The shape of a memory, or the shapes of several, as `build` gets them."""
    if isinstance(memory, list | tuple):
        return [tuple(one.shape) for one in memory]
    return tuple(memory.shape)


def _column(position: Any) -> Tensor | None:
    """`(b,)` or one number for all sentences, as `(b, 1)` or `(1,)`."""
    if position is None:
        return None
    position = ops.convert_to_tensor(position)
    return ops.expand_dims(position, -1)
