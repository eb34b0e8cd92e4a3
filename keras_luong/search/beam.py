"""Beam search: the k best hypotheses of every sentence, side by side."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_luong.functional import float32_at_least
from keras_luong.search.largest import largest
from keras_luong.search.penalties import LENGTH_PENALTIES, coverage_penalty, length_penalty
from keras_luong.search.result import SearchResult

Tensor = Any
Step = Callable[[Tensor, Any, Any], tuple]


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """Keeps the `beam_width` best hypotheses at every step.

    A hypothesis with the log-probabilities of its tokens summing to `log_probs`, of L generated
    tokens, the end included, ranks by

        score = log_probs / penalty(L) + beta sum_s log min(sum_t a_t(s), 1)

    where the second term, over kept source positions, comes in when a hypothesis ends. One that has
    ended keeps its slot and its score, and competes; those that have not at `max_length` compete
    under the same rule. The search stops when every slot has ended. Equal scores: the lower slot,
    then the lower id. Nothing is banned. A beam may be wider than the vocabulary; while there are
    fewer hypotheses than slots, empty slots have the score minus infinity and length 0.

    Args:
        beam_width: How many hypotheses a sentence keeps.
        n_best: How many come back, at most `beam_width`.
        length_penalty: `"none"`; `"average"`, L; or `"gnmt"`, `((5 + L) / 6)^alpha`.
        alpha: Exponent of `"gnmt"`.
        beta: Weight of the coverage penalty. It needs a step that gives attention scores.
        min_length: No hypothesis ends with fewer generated tokens than this, the end included.

    Call arguments:
        step: `(ids (b, k), state, shared) -> (logits (b, k, v), state)`, or with attention scores
            `(b, k, s)` as a third.
        state: Any structure of tensors that lead with `(b, 1)`.
        shared: What `step` needs of the sentence and does not change, such as the memory. It leads
            with b, and is never copied for the hypotheses.
        start_ids: int32 `(b, 1)`: what stands before the first generated token.
        end_id: The id that ends a hypothesis.
        max_length: The most tokens to generate, the end token included.
        source_mask: Boolean `(b, s)` for the coverage penalty, or `None` to keep every position.

    Returns:
        A `SearchResult` of `n_best` hypotheses a sentence, best first.

    Raises:
        ValueError: For a width, length or penalty that cannot be, and for `beta` where the step
            gives no attention scores.

    Example:

    >>> from keras import ops
    >>> def step(ids, state, shared):  # the first token costs more the better it goes on
    ...     table = ops.log(ops.convert_to_tensor([[0.6, 0.4], [0.1, 0.9]]))
    ...     return ops.take(table, ids, axis=0), state
    >>> result = BeamSearch(2)(
    ...     step, (), None, start_ids=ops.zeros((1, 1), "int32"), end_id=1, max_length=3
    ... )
    >>> print(ops.convert_to_numpy(result.ids).tolist())
    [[[1, 1, 1]]]

    Reference:
        [Wu et al. 2016](https://arxiv.org/abs/1609.08144), section 7. There the coverage penalty
        also ranks hypotheses that have not ended; here it would favour the shorter of two.
    """

    beam_width: int = 4
    n_best: int = 1
    length_penalty: str = "none"
    alpha: float = 0.6
    beta: float = 0.0
    min_length: int = 0

    def __post_init__(self) -> None:
        if self.beam_width < 1:
            raise ValueError(f"beam_width must be at least 1. Received: {self.beam_width}")
        if not 1 <= self.n_best <= self.beam_width:
            raise ValueError(
                f"n_best must be from 1 to beam_width={self.beam_width}. Received: {self.n_best}"
            )
        if self.length_penalty not in LENGTH_PENALTIES:
            raise ValueError(
                f"length_penalty must be one of {tuple(LENGTH_PENALTIES)}. Received: "
                f"{self.length_penalty!r}"
            )
        if not self.beta >= 0:
            raise ValueError(f"beta must be at least 0. Received: {self.beta}")

    def __call__(
        self,
        step: Step,
        state: Any,
        shared: Any,
        *,
        start_ids: Tensor,
        end_id: int,
        max_length: int,
        source_mask: Tensor | None = None,
    ) -> SearchResult:
        if not max(1, self.min_length) <= max_length:
            raise ValueError(
                f"max_length must be at least 1 and min_length={self.min_length}. Received: "
                f"{max_length}"
            )
        run = _Run(self, step, shared, end_id, max_length, source_mask)
        beams = run.advance(0, run.start(ops.cast(start_ids, "int32"), state))
        variables, structure = keras.tree.flatten(beams), beams

        def unfinished(t: Tensor, variables: tuple) -> Tensor:
            current = keras.tree.pack_sequence_as(structure, list(variables))
            return ops.logical_not(ops.all(current.has_ended))

        def body(t: Tensor, variables: tuple) -> tuple:
            current = keras.tree.pack_sequence_as(structure, list(variables))
            return t + 1, tuple(keras.tree.flatten(run.advance(t, current)))

        _, variables = ops.while_loop(
            unfinished, body, (1, tuple(variables)), maximum_iterations=max_length - 1
        )
        return run.result(keras.tree.pack_sequence_as(structure, list(variables)))


class _Beams(NamedTuple):
    """What k slots of every sentence hold; all lead with `(b, k)`.

    Attributes:
        last_ids: int32 `(b, k)`.
        ids: int32 `(b, k, max_length)`.
        lengths: int32 `(b, k)`.
        log_probs: `(b, k)`, minus infinity for an empty slot.
        scores: `(b, k)`.
        has_ended: Boolean `(b, k)`; empty slots have.
        attention_scores: `(b, k, max_length, s)`, or `()` if the step gives none.
        state: The step's.
    """

    last_ids: Tensor
    ids: Tensor
    lengths: Tensor
    log_probs: Tensor
    scores: Tensor
    has_ended: Tensor
    attention_scores: Any
    state: Any


class _Run(NamedTuple):
    """One search over one batch."""

    search: BeamSearch
    step: Step
    shared: Any
    end_id: int
    max_length: int
    source_mask: Tensor | None

    def start(self, start_ids: Tensor, state: Any) -> _Beams:
        """One hypothesis without a token, and empty slots."""
        width = self.search.beam_width
        last_ids = ops.repeat(start_ids, width, axis=1)
        is_first = ops.equal(ops.arange(width, dtype="int32"), 0)
        is_first = ops.logical_and(is_first, ops.ones_like(last_ids, dtype="bool"))
        log_probs = ops.where(is_first, 0.0, -float("inf"))
        return _Beams(
            last_ids=last_ids,
            ids=ops.repeat(ops.full_like(last_ids, self.end_id)[..., None], self.max_length, -1),
            lengths=ops.zeros_like(last_ids),
            log_probs=log_probs,
            scores=log_probs,
            has_ended=ops.logical_not(is_first),
            attention_scores=(),
            state=keras.tree.map_structure(lambda one: ops.repeat(one, width, axis=1), state),
        )

    def advance(self, t: Any, beams: _Beams) -> _Beams:
        """Step t: every hypothesis goes on with every token, and the best of all are kept."""
        logits, state, *attention = self.step(beams.last_ids, beams.state, self.shared)
        token_log_probs = ops.log_softmax(float32_at_least(logits), axis=-1)
        size = logits.shape[-1]
        is_end = ops.equal(ops.arange(size, dtype="int32"), self.end_id)
        written = self._written(t, beams, attention)
        log_probs, lengths = self._extended(t, beams, token_log_probs, is_end)
        scores = self._scores(t, beams, log_probs, lengths, is_end, written)

        batch, width = ops.shape(beams.last_ids)[0], self.search.beam_width
        flat = (batch, width * size)
        chosen = largest(ops.reshape(scores, flat), width)
        parents, ids = chosen // size, chosen % size

        def kept(values: Tensor) -> Tensor:
            return ops.take_along_axis(ops.reshape(values, flat), chosen, axis=-1)

        def inherited(values: Tensor) -> Tensor:
            index = ops.reshape(parents, (batch, width, *(1,) * (len(values.shape) - 2)))
            return ops.take_along_axis(values, index, axis=1)

        had_ended = inherited(beams.has_ended)
        log_probs, at_t = kept(log_probs), ops.equal(ops.arange(self.max_length), t)
        # A hypothesis that cannot be (its last token was ruled out) leaves an empty slot.
        is_empty = ops.equal(log_probs, -float("inf"))
        ids = ops.where(ops.logical_or(had_ended, is_empty), self.end_id, ids)
        all_ids = ops.where(at_t, ids[..., None], inherited(beams.ids))
        return _Beams(
            last_ids=ids,
            ids=ops.where(is_empty[..., None], self.end_id, all_ids),
            lengths=ops.where(is_empty, 0, kept(lengths)),
            log_probs=log_probs,
            scores=kept(scores),
            has_ended=ops.logical_or(had_ended, ops.equal(ids, self.end_id)),
            attention_scores=keras.tree.map_structure(inherited, written),
            state=keras.tree.map_structure(inherited, state),
        )

    def _written(self, t: Any, beams: _Beams, attention: list[Tensor]) -> Any:
        """Attention scores of all steps up to t; none are added to what has ended."""
        if not attention:
            if self.search.beta:
                raise ValueError("beta needs a step that returns attention scores as a third.")
            return ()
        now = float32_at_least(attention[0])
        now = ops.where(beams.has_ended[..., None], ops.zeros_like(now), now)[:, :, None]
        at_t = ops.equal(ops.arange(self.max_length), t)[:, None]
        before = beams.attention_scores
        if isinstance(before, tuple):
            return ops.where(at_t, now, ops.zeros_like(now))
        return ops.where(at_t, now, before)

    def _extended(
        self, t: Any, beams: _Beams, token_log_probs: Tensor, is_end: Tensor
    ) -> tuple[Tensor, Tensor]:
        """log_probs and lengths `(b, k, v)`: what has ended goes on with the end, for nothing."""
        nothing = ops.full_like(token_log_probs, -float("inf"))
        token_log_probs = ops.where(
            ops.logical_and(is_end, t + 1 < self.search.min_length), nothing, token_log_probs
        )
        frozen = ops.where(is_end, ops.zeros_like(token_log_probs), nothing)
        has_ended = beams.has_ended[..., None]
        gained = ops.where(has_ended, frozen, token_log_probs)
        grown = ops.where(has_ended, 0, ops.ones_like(gained, dtype="int32"))
        log_probs = ops.cast(beams.log_probs[..., None], gained.dtype) + gained
        return log_probs, beams.lengths[..., None] + grown

    def _scores(
        self,
        t: Any,
        beams: _Beams,
        log_probs: Tensor,
        lengths: Tensor,
        is_end: Tensor,
        attention_scores: Any,
    ) -> Tensor:
        """What ranks the candidates, `(b, k, v)`."""
        search, dtype = self.search, log_probs.dtype
        # An empty slot has length 0: its score is minus infinity, not NaN.
        lengths = ops.maximum(lengths, 1)
        scores = log_probs / length_penalty(search.length_penalty, lengths, search.alpha, dtype)
        if search.beta:
            coverage = ops.sum(attention_scores, axis=2)
            smallest = 2.2e-308 if keras.backend.standardize_dtype(dtype) == "float64" else 1.2e-38
            penalty = search.beta * coverage_penalty(coverage, self.source_mask, smallest)
            ends = ops.logical_or(is_end, t + 1 >= self.max_length)
            scores = scores + ops.where(ends, ops.cast(penalty, dtype)[..., None], 0.0)
        return scores

    def result(self, beams: _Beams) -> SearchResult:
        """The best of the slots, which stand best first."""
        n = self.search.n_best
        attention_scores = beams.attention_scores
        return SearchResult(
            ids=beams.ids[:, :n],
            lengths=beams.lengths[:, :n],
            scores=beams.scores[:, :n],
            log_probs=beams.log_probs[:, :n],
            attention_scores=None
            if isinstance(attention_scores, tuple)
            else attention_scores[:, :n],
        )
