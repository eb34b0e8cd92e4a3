"""`Search`: the loop that every search is, and what all of them can be asked for."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from keras import ops

from keras_luong.checked_numbers import above_0, count_of, integer_of
from keras_luong.functional import float32_at_least
from keras_luong.search import token_rules
from keras_luong.search.hypotheses import (
    Choice,
    Hypotheses,
    best,
    extended,
    started,
    with_attention,
)
from keras_luong.search.request import Request
from keras_luong.search.result import SearchResult
from keras_luong.search.shrinking import all_along, shrinking

Tensor = Any
Step = Callable[[Tensor, Any, Any], tuple]


class Turn(NamedTuple):
    """One step of a search, when its next tokens are to be chosen.

    Attributes:
        step: Its index, from 0.
        hypotheses: Before it, with the state after it.
        logits: `(b, k, v)`, in float32 at least.
        allowed: Logits after the rules on tokens; the same tensor where there are none.
        normalizer: `(b, k, 1)`, the logarithm of the sum that the softmax of `logits` divides by.
        own_normalizer: That of what ranks, which differs where repeated tokens are penalized.
        at_limit: Boolean `(b, 1)`: whether it is a sentence's last step.
        request: What is searched for.
    """

    step: Any
    hypotheses: Hypotheses
    logits: Tensor
    allowed: Tensor
    normalizer: Tensor
    own_normalizer: Tensor
    at_limit: Tensor
    request: Request


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """Base of the searches: a loop over a step function, which knows no model.

    A subclass says how many slots a sentence has and chooses their next tokens. Every search counts
    length in generated tokens, the end included, the start not; what follows the end is the end.
    Nothing is banned by default: padding, start and unknown ids may come. Where the rules leave no
    token, the place stays empty. What a sentence gets does not depend on the others of its batch.

    Args:
        min_length: No hypothesis ends with fewer tokens than this.
        max_length_factor: A hypothesis gets at most this many tokens for each of its source,
            rounded up, besides the `max_length` of the call.
        banned_ids: Ids that are never generated.
        no_repeat_ngram_size: If n, no n tokens stand twice in a hypothesis in the same order. 0 for
            no such rule.
        repetition_penalty: Positive logits of tokens that a hypothesis has are divided by this,
            negative ones multiplied. `log_probs` stay those of the model; `scores` follow.
    """

    min_length: int = 0
    max_length_factor: float | None = None
    banned_ids: tuple[int, ...] = ()
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0

    takes: ClassVar[tuple[str, ...]] = ("prefix",)
    """What else of a request the search can heed."""

    weighs_end: ClassVar[bool] = False
    """Whether the search itself sees to it that nothing ends too early, in its candidates alone."""

    def __post_init__(self) -> None:
        self._keep("banned_ids", tuple(integer_of("banned_ids", one) for one in self.banned_ids))
        self._keep("min_length", count_of("min_length", self.min_length, 0))
        size = count_of("no_repeat_ngram_size", self.no_repeat_ngram_size, 0)
        self._keep("no_repeat_ngram_size", size)
        penalty = above_0("repetition_penalty", self.repetition_penalty)
        self._keep("repetition_penalty", penalty)
        if self.max_length_factor is not None:
            factor = above_0("max_length_factor", self.max_length_factor)
            self._keep("max_length_factor", factor)
        if min(self.banned_ids, default=0) < 0:
            raise ValueError(f"banned_ids must be at least 0. Received: {self.banned_ids}")

    def _keep(self, name: str, value: Any) -> None:
        """Sets a field of a frozen dataclass, while it is made."""
        object.__setattr__(self, name, value)

    # -- what a subclass says -------------------------------------------------------------------

    @property
    def width(self) -> int:
        """How many hypotheses a sentence keeps."""
        raise NotImplementedError

    @property
    def first_width(self) -> int:
        """How many the first step runs with."""
        return self.width

    @property
    def count(self) -> int:
        """How many come back."""
        return self.width

    @property
    def needs_coverage(self) -> bool:
        """Whether the sums of the attention scores must be kept."""
        return False

    def choose(self, turn: Turn) -> Choice:
        """The next token of every slot, and the slot that it goes on from."""
        raise NotImplementedError

    def check(self, request: Request) -> None:
        """Refuses what of a request contradicts the search's own options."""

    def settled(self, turn: Turn, hypotheses: Hypotheses) -> Hypotheses:
        """What is left to do once the hypotheses have grown, such as to stop early."""
        return hypotheses

    # -- the search -----------------------------------------------------------------------------

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
        prefix: Tensor | None = None,
        constraints: Tensor | None = None,
        alpha: Tensor | None = None,
        seed: Any = None,
        shrinks: bool = False,
        word_ids: Tensor | None = None,
    ) -> SearchResult:
        max_length = integer_of("max_length", max_length)
        request = Request(end_id, max_length, source_mask, prefix, constraints, alpha, seed)
        request.check(self)
        request = request._replace(word_ids=word_ids).completed(self, ops.shape(start_ids)[0])
        hypotheses = started(
            request.places(start_ids), state, self.first_width, max_length, request.end_id
        )
        # The first step runs before the loop, so that the loop knows the shapes it carries.
        first = ops.convert_to_tensor(0, "int32")
        hypotheses = self._advanced(first, hypotheses, step, shared, request)

        def advance(t: Tensor, hypotheses: Hypotheses, shared: Any, own: Request) -> Hypotheses:
            return self._advanced(t, hypotheses, step, shared, own)

        run = shrinking if shrinks else all_along
        result = best(run(advance, first + 1, hypotheses, shared, request), self.count)
        return result._replace(ids=request.ids(result.ids))

    def _advanced(
        self, t: Any, hypotheses: Hypotheses, step: Step, shared: Any, request: Request
    ) -> Hypotheses:
        logits, state, *attention = step(request.ids(hypotheses.last_ids), hypotheses.state, shared)
        hypotheses = hypotheses._replace(state=state)
        if attention:
            hypotheses = with_attention(
                hypotheses, t, attention[0], self.width, self.needs_coverage
            )
        elif self.needs_coverage:
            raise ValueError("beta needs a step that returns attention scores as a third.")
        turn = self._turn(t, hypotheses, float32_at_least(logits), request)
        grown = extended(hypotheses, self.choose(turn), t, request.end_id, turn.at_limit)
        return self.settled(turn, grown)

    def _turn(self, t: Any, hypotheses: Hypotheses, logits: Tensor, request: Request) -> Turn:
        hypotheses = hypotheses._replace(
            log_probs=ops.cast(hypotheses.log_probs, logits.dtype),
            totals=ops.cast(hypotheses.totals, logits.dtype),
        )
        weighed, normalizer = logits, _normalizer(logits)
        own_normalizer = normalizer
        if self.repetition_penalty != 1.0:
            weighed = token_rules.with_repetition_penalty(
                logits, hypotheses.ids, t, self.repetition_penalty
            )
            own_normalizer = _normalizer(weighed)
        return Turn(
            step=t,
            hypotheses=hypotheses,
            logits=logits,
            allowed=self._allowed(t, weighed, hypotheses.ids, request),
            normalizer=normalizer,
            own_normalizer=own_normalizer,
            at_limit=request.at_limit(t),
            request=request,
        )

    def _allowed(self, t: Any, logits: Tensor, ids: Tensor, request: Request) -> Tensor:
        if self.min_length and not self.weighs_end:
            logits = token_rules.without_early_end(logits, t, request.end_id, self.min_length)
        if self.banned_ids:
            logits = token_rules.without_ids(logits, self.banned_ids, request.word_ids)
        if self.no_repeat_ngram_size:
            logits = token_rules.without_repeated_ngrams(logits, ids, t, self.no_repeat_ngram_size)
        if request.prefix is not None:
            logits = token_rules.with_forced(logits, ops.take(request.prefix, t, axis=1))
        return logits


def _normalizer(logits: Tensor) -> Tensor:
    """`log sum exp` of the last axis, `(..., 1)`, by way of a softmax.

    Backends have a softmax in one piece, and a sum of exponentials in four that each go over the
    vocabulary. With m the largest logit, the largest probability is `exp(m) / sum exp`.
    """
    peak = ops.max(logits, axis=-1, keepdims=True)
    return peak - ops.log(ops.max(ops.softmax(logits, axis=-1), axis=-1, keepdims=True))


def staying(turn: Turn, ids: Tensor) -> Choice:
    """Every slot goes on from itself, with ids `(b, k)`; what is done gains nothing."""
    before = turn.hypotheses

    def after(sums: Tensor, logits: Tensor, normalizer: Tensor) -> Tensor:
        gained = ops.take_along_axis(logits, ids[..., None], axis=-1) - normalizer
        return sums + ops.where(before.is_done, 0.0, ops.squeeze(gained, -1))

    totals = after(before.totals, turn.allowed, turn.own_normalizer)
    is_raw = turn.allowed is turn.logits
    log_probs = totals if is_raw else after(before.log_probs, turn.logits, turn.normalizer)
    return Choice(None, ids, log_probs, totals, totals)
