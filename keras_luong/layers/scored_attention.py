"""`ScoredAttention`: attention whose logits become scores by a function such as softmax."""

from typing import Any

import keras
from keras import ops

from keras_luong import functional
from keras_luong.checked_numbers import fraction_of
from keras_luong.layers.arguments import checked_flag, checked_seed
from keras_luong.layers.attention import (
    Attended,
    Attention,
    AttentionMemory,
    context_of,
    draw_dropout,
    row_mask,
)
from keras_luong.layers.checks import check_one_of

Tensor = Any


class ScoredAttention(Attention):
    """Base of `LuongAttention` and `BahdanauAttention`: `scores = probability_fn(logits)`.

    A subclass says what its weights are (`build_score`), how it prepares keys (`project_keys`),
    its logits (`logits`) and, with a window, how they become scores (`probabilities`). The state,
    where there is one, is the coverage: the sum of the scores of all earlier steps.

    Args:
        use_coverage: Whether the logits depend on the coverage.
        probability_fn: `"softmax"`, `"hardmax"` or `"sparsemax"`.
        dropout: Fraction of the scores to drop in training.
        seed: Seed of the dropout.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.
    """

    def __init__(
        self,
        *,
        use_coverage: bool = False,
        probability_fn: str = "softmax",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_one_of("probability_fn", probability_fn, tuple(functional.PROBABILITY_FNS))
        self.use_coverage = checked_flag("use_coverage", use_coverage)
        self.probability_fn = probability_fn
        self.dropout = fraction_of("dropout", dropout)
        self.seed = checked_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed) if self.dropout else None

    # -- what a subclass says -------------------------------------------------------------------

    def build_score(self, query_depth: int, key_depth: int) -> None:
        """Makes the weights."""
        raise NotImplementedError

    def project_keys(self, key: Tensor) -> Tensor | None:
        """Does with the keys `(b, s, d)` what does not depend on the query."""
        raise NotImplementedError

    def logits(self, query: Tensor, memory: AttentionMemory, coverage: Tensor | None) -> Tensor:
        """Attention logits `(b, t, s)` of queries `(b, t, d)`."""
        raise NotImplementedError

    def probabilities(
        self,
        logits: Tensor,
        query: Tensor,
        memory: AttentionMemory,
        query_position: Tensor | None,
    ) -> Tensor:
        """Attention scores `(b, t, s)`, in float32 at least."""
        return functional.PROBABILITY_FNS[self.probability_fn](logits, row_mask(memory))

    # -- the contract ---------------------------------------------------------------------------

    @property
    def has_state(self) -> bool:
        return self.use_coverage

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        self.build_score(query_shape[-1], (key_shape or value_shape)[-1])

    def prepare(
        self,
        value: Tensor,
        key: Tensor | None = None,
        value_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> AttentionMemory:
        value = self.cast(functional.zero_masked(value, value_mask))
        if key is not None:
            key = self.cast(functional.zero_masked(key, value_mask))
        keys = self.project_keys(value if key is None else key)
        memory = AttentionMemory(value, keys, value_mask)
        return self._with_dropout(memory, 1) if training and self.dropout else memory

    def _prepare_for_call(
        self, query: Tensor, value: Any, key: Any, value_mask: Any, training: Any
    ) -> AttentionMemory:
        if self.has_state or not (training and self.dropout):
            # Steps that depend on each other share one dropout mask, as inside a decoder.
            return self.prepare(value, key, value_mask, training)
        rows = ops.shape(query)[1] if len(query.shape) == 3 else 1
        return self._with_dropout(self.prepare(value, key, value_mask), rows)

    def _with_dropout(self, memory: AttentionMemory, rows: Any) -> AttentionMemory:
        batch, length = ops.shape(memory.values)[:2]
        shape = (batch, rows, length)
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
        query = self.cast(functional.zero_masked(query, query_mask))
        logits = self.logits(query, memory, state)
        logits = logits if noise is None else logits + ops.cast(noise, logits.dtype)
        scores = self.probabilities(logits, query, memory, query_position)
        scores = functional.zero_masked(scores, query_mask)
        new_state = self._covered(state, scores) if self.has_state else None
        scores = self.cast(scores)
        context = context_of(scores, memory)
        return Attended(context, scores if return_attention_scores else None, new_state)

    def _covered(self, coverage: Tensor, scores: Tensor) -> Tensor:
        """The coverage after a step that gave `scores`."""
        return coverage + ops.cast(scores, coverage.dtype)

    def initial_state(self, memory: AttentionMemory, queries: int = 1) -> Tensor | None:
        if not self.has_state:
            return None
        batch, length = ops.shape(memory.values)[:2]
        return ops.zeros((batch, queries, length), self.loop_dtype)

    # -- weights and config ---------------------------------------------------------------------

    def weight(self, name: str, shape: tuple, initializer: Any = "glorot_uniform") -> Any:
        """`add_weight` with the arguments that all scores use."""
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "use_coverage": self.use_coverage,
            "probability_fn": self.probability_fn,
            "dropout": self.dropout,
            "seed": self.seed,
        }
