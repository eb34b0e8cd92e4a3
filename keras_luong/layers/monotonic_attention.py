"""`MonotonicAttention`: attention that never goes back, over the logits of another attention."""

from typing import Any

import keras
from keras import ops

from keras_luong import functional
from keras_luong.checked_numbers import at_least, finite_of, fraction_of
from keras_luong.layers.arguments import checked_seed
from keras_luong.layers.attention import (
    Attended,
    Attention,
    AttentionMemory,
    context_of,
    draw_dropout,
    row_mask,
)
from keras_luong.layers.checks import check_not_regularized, check_one_of
from keras_luong.layers.freezing import freeze_parts, parts_as_configured
from keras_luong.layers.scored_attention import ScoredAttention

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class MonotonicAttention(Attention):
    """Makes another attention monotonic: what is read once is left behind.

    The reader starts at position 0 of the source. At a target step it goes right from where the
    last step left it, and stops at position j with probability `p_j = sigmoid(logit_j + r)`, where
    the logits are those of the wrapped attention and r is a trained scalar. Trained in expectation,
    with `a_(t-1)` the scores of the step before:

        q_j = (1 - p_(j-1)) q_(j-1) + a_(t-1)(j),    a_t(j) = p_j q_j

    A row may sum to less than 1: the reader went past the end. At padding p is 0.

    Args:
        attention: A `LuongAttention` or `BahdanauAttention` with the global window, softmax and no
            coverage or dropout of its own: its logits are used, not its scores.
        mode: `"parallel"` computes the recursion over the source in about `log2` of its length
            rounds, `"recursive"` position by position, with the same result; `"hard"` stops at the
            first position from the last one on whose logit is above 0, as at inference in the
            paper. `"hard"` has no gradient: train with another mode, and give the weights to a
            layer with `mode="hard"`.
        sigmoid_noise: Standard deviation of normal noise on the logits in training, which drives
            them away from 0 and the reader to clear decisions. The paper uses 1.
        score_bias_init: Initial r. A negative one lets the reader look further at the start.
        dropout: Fraction of the scores to drop in training.
        seed: Seed of noise and dropout.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        query: `(batch, target length, query depth)`, or one step `(batch, query depth)`.
        value: `(batch, source length, value depth)`.
        key: `(batch, source length, key depth)`. Defaults to `value`.
        query_mask: Boolean `(batch, target length)`, or `(batch,)` for one step.
        value_mask: Boolean `(batch, source length)`.
        state: Scores of the step before the first, `(batch, source length)`. Defaults to all
            weight on position 0. The scores that come out are the state of the next call; where a
            query was masked they are zeros, and the state of before is to be kept.
        return_attention_scores: Whether to return the scores too.
        training: Whether there is noise and dropout.

    Output shape:
        Context `(batch, target length, value depth)`, or `(batch, value depth)` for one step; with
        `return_attention_scores=True` also the scores `(batch, target length, source length)`, or
        `(batch, source length)`.

    Raises:
        ValueError: For an unknown mode, negative noise, an attention that cannot be wrapped,
            tensors of the wrong rank and masks of the wrong shape.
        TypeError: For a `seed` that is no integer.

    Example:

    >>> import numpy as np
    >>> from keras_luong import BahdanauAttention
    >>> attention = MonotonicAttention(BahdanauAttention(16, normalize=True), sigmoid_noise=1.0)
    >>> query, value = np.ones((2, 8)), np.ones((2, 5, 6))
    >>> context, scores = attention(query, value, return_attention_scores=True)
    >>> context, scores = attention(query, value, state=scores, return_attention_scores=True)
    >>> print(tuple(scores.shape))
    (2, 5)

    Reference:
        [Raffel, Luong, Liu, Weiss, Eck 2017](https://arxiv.org/abs/1704.00784), sections 2.3 to
        2.5. Its quotient of cumulative products, which underflows, is not used: both soft modes
        are exact for any logits.
    """

    def __init__(
        self,
        attention: ScoredAttention,
        *,
        mode: str = "parallel",
        sigmoid_noise: float = 0.0,
        score_bias_init: float = 0.0,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_wrapped(attention)
        check_one_of("mode", mode, functional.MONOTONIC_MODES)
        self.attention = attention
        self.mode = mode
        self.sigmoid_noise = at_least("sigmoid_noise", sigmoid_noise, 0)
        self.score_bias_init = finite_of("score_bias_init", score_bias_init)
        self.dropout = fraction_of("dropout", dropout)
        self.seed = checked_seed(seed)
        self.max_source_length = attention.max_source_length
        draws = self.dropout or self.sigmoid_noise
        self.seed_generator = keras.random.SeedGenerator(self.seed) if draws else None
        freeze_parts(self)

    @property
    def has_state(self) -> bool:
        return True

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        if not self.attention.built:
            self.attention.build(query_shape, value_shape, key_shape)
        start = keras.initializers.Constant(self.score_bias_init)
        self.score_bias = self.add_weight(name="score_bias", shape=(), initializer=start)

    def prepare(
        self,
        value: Tensor,
        key: Tensor | None = None,
        value_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> AttentionMemory:
        memory = self.attention.prepare(value, key, value_mask)
        memory = memory._replace(values=self.cast(memory.values))
        if not (training and self.dropout):
            return memory
        batch, length = ops.shape(memory.values)[:2]
        # One mask for all steps, since they depend on each other.
        shape = (batch, 1, length)
        factors = draw_dropout(self.dropout, shape, self.compute_dtype, self.seed_generator)
        return memory._replace(dropout_mask=factors)

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
        query = self.attention.cast(functional.zero_masked(query, query_mask))
        logits = self.attention.logits(query, memory, None)
        logits = logits + ops.cast(self.score_bias, logits.dtype)
        logits = logits if noise is None else logits + ops.cast(noise, logits.dtype)
        scores = functional.monotonic_scores(logits, state, row_mask(memory), self.mode)
        scores = functional.zero_masked(scores, query_mask)
        new_state = ops.cast(scores, self.loop_dtype)
        scores = self.cast(scores)
        context = context_of(scores, memory)
        return Attended(context, scores if return_attention_scores else None, new_state)

    def initial_state(self, memory: AttentionMemory, queries: int = 1) -> Tensor | None:
        batch, length = ops.shape(memory.values)[:2]
        first = ops.cast(ops.equal(ops.arange(length, dtype="int32"), 0), self.loop_dtype)
        return ops.broadcast_to(first, (batch, queries, length))

    def draw_noise(self, memory: AttentionMemory, steps: Any, training: Any) -> Tensor | None:
        if not (training and self.sigmoid_noise):
            return None
        shape = (*ops.shape(memory.values)[:1], steps, ops.shape(memory.values)[1])
        normal = keras.random.normal(shape, dtype=self.loop_dtype, seed=self.seed_generator)
        return self.sigmoid_noise * normal

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "attention": keras.saving.serialize_keras_object(self.attention),
            "mode": self.mode,
            "sigmoid_noise": self.sigmoid_noise,
            "score_bias_init": self.score_bias_init,
            "dropout": self.dropout,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MonotonicAttention":
        attention = keras.saving.deserialize_keras_object(config["attention"])
        with parts_as_configured():
            return cls(**{**config, "attention": attention})


def _check_wrapped(attention: Any) -> None:
    if not isinstance(attention, ScoredAttention) or attention.has_state:
        raise ValueError(
            "attention must be a LuongAttention or a BahdanauAttention without coverage. "
            f"Received: {attention!r}"
        )
    check_not_regularized("MonotonicAttention", attention)
    window = getattr(attention, "window", "global")
    if window != "global" or attention.probability_fn != "softmax":
        raise ValueError(
            "Monotonic attention takes the place of window and softmax: the wrapped attention must "
            f'have window="global" and probability_fn="softmax". Received: window={window!r}, '
            f"probability_fn={attention.probability_fn!r}"
        )
    if attention.dropout:
        raise ValueError(
            "Give dropout to MonotonicAttention: the wrapped attention's scores are not used. "
            f"Received: dropout={attention.dropout}"
        )
