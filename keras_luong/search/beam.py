"""Beam search: the k best hypotheses of every sentence, side by side."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np
from keras import ops

from keras_luong.checked_numbers import at_least, count_of
from keras_luong.search.hypotheses import Choice, Hypotheses, duplicates, emptied
from keras_luong.search.largest import largest
from keras_luong.search.penalties import LENGTH_PENALTIES, coverage_penalty, length_penalty
from keras_luong.search.phrases import Phrases, allocated
from keras_luong.search.request import Request
from keras_luong.search.search import Search, Turn

Tensor = Any
EARLY_STOPPING = ("never", False, True)


@dataclasses.dataclass(frozen=True)
class BeamSearch(Search):
    """Keeps the `beam_width` best hypotheses at every step.

    A hypothesis with the log-probabilities of its tokens summing to `log_probs`, of L generated
    tokens, the end included, ranks by

        score = log_probs / penalty(L) + beta sum_s log min(sum_t a_t(s), 1)

    where the second term, over kept source positions, comes in when a hypothesis ends. One that has
    ended keeps its slot and its score, and competes; those that have not at `max_length` compete
    under the same rule. Equal scores: the lower slot, then the lower id. A beam may be wider than
    the vocabulary; while there are fewer hypotheses than slots, slots are empty. No hypothesis
    comes back twice.

    With groups, the beam is cut into `num_groups` of equal size, which choose one after the other
    at every step: a token loses `diversity` times the number of slots of earlier groups that chose
    it at this step. That sways the choice alone; scores stay what they are. What several groups
    found comes back once, so that there may be fewer than `n_best`.

    With `constraints` every hypothesis that comes back holds all phrases of its sentence, and slots
    are shared out by how much of them hypotheses hold.

    Args:
        beam_width: How many hypotheses a sentence keeps.
        n_best: How many come back, at most `beam_width`.
        length_penalty: `"none"`; `"average"`, L; or `"gnmt"`, `((5 + L) / 6)^alpha`.
        alpha: Exponent of `"gnmt"`, at least 0.
        beta: Weight of the coverage penalty, at least 0. It needs a step that gives attention
            scores.
        early_stopping: When a sentence is done before all its slots are. `"never"`: once `n_best`
            hypotheses have ended that no other can overtake any more, which loses nothing.
            `False`: once all others, as long as they are now, score worse. `True`: once `n_best`
            have ended.
        num_groups: Groups of diverse beam search; a divisor of `beam_width`.
        diversity: What a token that an earlier group chose loses, at least 0.
        min_length: See `Search`, as for `max_length_factor`, `banned_ids`, `no_repeat_ngram_size`
            and `repetition_penalty`.

    Call arguments:
        step: `(ids (b, k), state, shared) -> (logits (b, k, v), state)`, or with attention scores
            `(b, k, s)` as a third. The first call has k = 1.
        state: Any structure of tensors that lead with `(b, 1)`.
        shared: What `step` needs of the sentence and does not change, such as the memory. It leads
            with b, and is never copied for the hypotheses.
        start_ids: int32 `(b, 1)`: what stands before the first generated token.
        end_id: The id that ends a hypothesis.
        max_length: The most tokens to generate, the end token included.
        source_mask: Boolean `(b, s)` for the coverage penalty, or `None` to keep every position.
        prefix: int32 `(b, p)`, what hypotheses must begin with, below 0 where nothing is forced.
        constraints: int32 `(b, c, l)`: c phrases of at most l tokens that must appear, below 0
            after their end. They may overlap.
        alpha: `(b,)`, exponents in the place of that of the search.
        shrinks: Whether sentences that are done leave the batch, which saves time where its size
            may change from step to step: not on JAX, nor under XLA.
        word_ids: int32 `(v,)`, increasing: the ids that the step's logits are of, if not all from 0
            on. Start, end, prefix and constraints must be among them.

    Returns:
        A `SearchResult` of `n_best` hypotheses a sentence, best first.

    Raises:
        ValueError: For a width, length or penalty that cannot be, a prefix or constraints that
            contradict the rest, and for `beta` where the step gives no attention scores.

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
        also ranks hypotheses that have not ended; here it would favour the shorter of two. Groups:
        [Vijayakumar et al. 2018](https://arxiv.org/abs/1610.02424), with its Hamming diversity,
        which like there counts the step's tokens alone and is no part of what is summed up.
    """

    beam_width: int = 4
    n_best: int = 1
    length_penalty: str = "none"
    alpha: float = 0.6
    beta: float = 0.0
    early_stopping: bool | str = "never"
    num_groups: int = 1
    diversity: float = 0.5

    takes: ClassVar[tuple[str, ...]] = ("prefix", "constraints", "alpha")
    weighs_end: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beam_width", "n_best", "num_groups"):
            self._keep(name, count_of(name, getattr(self, name)))
        if not 1 <= self.n_best <= self.beam_width:
            raise ValueError(
                f"n_best must be from 1 to beam_width={self.beam_width}. Received: {self.n_best}"
            )
        if self.length_penalty not in LENGTH_PENALTIES:
            raise ValueError(
                f"length_penalty must be one of {tuple(LENGTH_PENALTIES)}. Received: "
                f"{self.length_penalty!r}"
            )
        for name in ("alpha", "beta", "diversity"):
            self._keep(name, at_least(name, getattr(self, name), 0))
        rule = self.early_stopping
        rule = bool(rule) if isinstance(rule, np.bool_) else rule
        if not isinstance(rule, bool | str) or rule not in EARLY_STOPPING:  # 1 would equal True
            raise ValueError(
                f"`early_stopping` must be one of {EARLY_STOPPING}. Received: {rule!r}"
            )
        self._keep("early_stopping", rule)
        if self.beam_width % self.num_groups:
            raise ValueError(
                f"num_groups must divide beam_width={self.beam_width}. Received: {self.num_groups}"
            )
        self._check_used("alpha", "length_penalty", self.length_penalty == "gnmt", "gnmt")
        self._check_used("diversity", "num_groups", self.num_groups > 1, "2 or more")

    def _check_used(self, name: str, needed: str, is_used: bool, value: str) -> None:
        """Raises for a number that would change nothing without another option."""
        if not is_used and getattr(self, name) != getattr(BeamSearch, name):
            raise ValueError(
                f"`{name}` needs `{needed}` of {value}. Received: {name}={getattr(self, name)} and "
                f"{needed}={getattr(self, needed)!r}"
            )

    @property
    def width(self) -> int:
        return self.beam_width

    @property
    def first_width(self) -> int:
        return 1

    @property
    def count(self) -> int:
        return self.n_best

    @property
    def needs_coverage(self) -> bool:
        return self.beta > 0

    def check(self, request: Request) -> None:
        if request.alpha is not None and self.length_penalty != "gnmt":
            raise ValueError(
                f"`alpha` needs a search with `length_penalty` of gnmt. Received: {self!r}"
            )
        if request.constraints is not None and self.num_groups > 1:
            raise ValueError(
                f"constraints need num_groups=1: they share out the whole beam. Received: {self!r}"
            )

    # -- choosing -------------------------------------------------------------------------------

    def choose(self, turn: Turn) -> Choice:
        phrases, given = None, turn.request.constraints
        if given is not None:
            phrases = Phrases.of(given, turn.hypotheses.ids, turn.step)
        candidates = self._candidates(turn, phrases)
        slots, count = candidates.ids.shape[1:]
        if phrases is not None:
            candidates, banks = self._with_phrases(turn, candidates, phrases)
            rows = candidates.in_rows(self.beam_width)
            banks = _row(banks, self.beam_width, 0)
            chosen = allocated(rows.scores, banks, phrases.banks, self.beam_width)
        else:
            rows = candidates.in_rows(self.beam_width)
            by_groups = self.num_groups > 1
            chosen = (
                self._by_groups(turn, candidates)
                if by_groups
                else largest(rows.scores, self.beam_width)[1]
            )
        return rows.chosen(chosen, slots, count)

    def _candidates(self, turn: Turn, phrases: Phrases | None) -> "_Candidates":
        """The tokens that may be chosen, by id, `(b, k, n)`: never all of the vocabulary.

        The most probable `beam_width` tokens of a hypothesis can fill the beam; the end, whose
        score follows another rule, may stand among them. Tokens that earlier groups chose may fall
        behind, but are fewer than the slots of all groups. Tokens of phrases, which may stand in
        other banks, come besides.
        """
        before, end_id = turn.hypotheses, turn.request.end_id
        size, count = turn.allowed.shape[-1], self.beam_width + 1
        more = [ops.full_like(before.last_ids[..., None], end_id)]
        if phrases is not None:
            following = phrases.next_tokens()
            following = ops.where(following < 0, end_id, following)
            more.append(ops.repeat(following, before.ids.shape[1], axis=1))
            count += following.shape[-1]
        _, ids = largest(turn.allowed, min(size, count))
        ids = ops.sort(ops.concatenate([ids, *more], axis=-1), axis=-1)
        is_end, is_done = ops.equal(ids, end_id), before.is_done[..., None]
        is_first = ops.not_equal(ids, ops.concatenate([ids[..., :1] - 1, ids[..., :-1]], axis=-1))

        def after(sums: Tensor, logits: Tensor, normalizer: Tensor) -> Tensor:
            gained = ops.take_along_axis(logits, ids, axis=-1) - normalizer
            frozen = ops.where(is_end, 0.0, -float("inf"))
            return sums[..., None] + ops.where(is_done, ops.cast(frozen, gained.dtype), gained)

        totals = after(before.totals, turn.allowed, turn.own_normalizer)
        totals = ops.where(is_first, totals, -float("inf"))
        if self.min_length:
            too_early = ops.logical_and(is_end, turn.step + 1 < self.min_length)
            too_early = ops.logical_and(too_early, ops.logical_not(is_done))
            totals = ops.where(too_early, -float("inf"), totals)
        is_raw = turn.allowed is turn.logits
        log_probs = totals if is_raw else after(before.log_probs, turn.logits, turn.normalizer)
        scores = self._scores(turn, totals, is_end)
        # Backends disagree on where NaN ranks: first, so that it comes back and is seen.
        scores = ops.where(ops.isnan(scores), float("inf"), scores)
        return _Candidates(ids, log_probs, totals, scores)

    def _scores(self, turn: Turn, totals: Tensor, is_end: Tensor) -> Tensor:
        before = turn.hypotheses
        lengths = before.lengths + ops.cast(ops.logical_not(before.is_done), "int32")
        # An empty slot has length 0: its score is minus infinity, not NaN.
        scores = totals / self._length_penalty(turn, ops.maximum(lengths, 1)[..., None])
        if not self.beta:
            return scores
        penalty = coverage_penalty(before.coverage, turn.request.source_mask)
        ends = ops.logical_or(is_end, turn.at_limit[..., None])
        penalty = ops.cast(self.beta * penalty, totals.dtype)
        return scores + ops.where(ends, penalty[..., None], 0.0)

    def _length_penalty(self, turn: Turn, lengths: Tensor) -> Tensor:
        """Of lengths that lead with b, rank 3."""
        alpha = turn.request.of_beams(turn.request.alpha)
        alpha = self.alpha if alpha is None else ops.cast(alpha, turn.logits.dtype)
        return length_penalty(self.length_penalty, lengths, alpha, turn.logits.dtype)

    def _with_phrases(
        self, turn: Turn, candidates: "_Candidates", phrases: Phrases
    ) -> tuple["_Candidates", Tensor]:
        """Rules out what ends without its phrases; and the bank of every candidate."""
        are_met, banks = phrases.after(candidates.ids)
        is_end = ops.equal(candidates.ids, turn.request.end_id)
        ends = ops.logical_or(is_end, turn.at_limit[..., None])
        is_done = turn.hypotheses.is_done[..., None]
        allowed = ops.logical_or(ops.logical_or(is_done, are_met), ops.logical_not(ends))
        totals, scores = (
            ops.where(allowed, one, -float("inf")) for one in (candidates.totals, candidates.scores)
        )
        return candidates._replace(totals=totals, scores=scores), banks

    def _by_groups(self, turn: Turn, candidates: "_Candidates") -> Tensor:
        """Places in rows of candidates, group after group, `(b, beam_width)`."""
        size = self.beam_width // self.num_groups
        slots, count = candidates.ids.shape[1:]
        # The first step has one slot, from which all groups begin.
        own = min(size, slots)
        chosen: list[Tensor] = []
        taken = ops.full_like(candidates.ids[:, 0, :1], -1)
        for group in range(self.num_groups):
            first = group * size if slots > 1 else 0
            part = candidates.of_slots(first, first + own)
            is_done = turn.hypotheses.is_done[:, first : first + own, None]
            times = ops.sum(
                ops.cast(ops.equal(part.ids[..., None], taken[:, None, None]), "int32"), axis=-1
            )
            loss = ops.where(is_done, 0.0, self.diversity * ops.cast(times, part.scores.dtype))
            swayed = part._replace(scores=part.scores - loss).in_rows(size)
            _, places = largest(swayed.scores, size)
            picked = swayed.chosen(places, own, count)
            was_done = ops.take_along_axis(is_done[..., 0], picked.parents, axis=1)
            is_none = ops.logical_or(was_done, ops.equal(picked.totals, -float("inf")))
            ids = ops.where(is_none, -1, picked.ids)
            taken = ops.concatenate([taken, ids], axis=-1)
            is_padding = places >= own * count
            chosen.append(ops.where(is_padding, slots * count, places + first * count))
        return ops.concatenate(chosen, axis=-1)

    # -- stopping -------------------------------------------------------------------------------

    def settled(self, turn: Turn, hypotheses: Hypotheses) -> Hypotheses:
        """Empties the slots of hypotheses that cannot matter any more, so that a search ends."""
        end_id = turn.request.end_id
        running = ops.logical_not(hypotheses.is_done)
        ended, again = ops.where(running, -float("inf"), hypotheses.scores), None
        if self.num_groups > 1:
            again = ops.logical_and(duplicates(hypotheses), hypotheses.is_done)
            ended = ops.where(again, -float("inf"), ended)
        # The n-th best of what has ended.
        last_best = largest(ended, self.n_best)[0][:, -1:]
        if self.early_stopping is True:
            is_over = last_best > -float("inf")
        else:
            rivals = ops.where(running, hypotheses.totals, -float("inf"))
            rivals = ops.max(rivals, axis=-1, keepdims=True)
            is_over = last_best > rivals / self._rivals_penalty(turn)
        hypotheses = emptied(hypotheses, ops.logical_and(is_over, running), end_id)
        if again is None:
            return hypotheses
        # Not before the end: the group that found it first may yet lose it.
        is_end = ops.all(hypotheses.is_done, axis=-1, keepdims=True)
        return emptied(hypotheses, ops.logical_and(again, is_end), end_id)

    def _rivals_penalty(self, turn: Turn) -> Tensor:
        """What the total of a running hypothesis is divided by at best, `(b, 1)` or `(1, 1)`."""
        lengths = ops.reshape(ops.cast(turn.step + 1, "int32"), (1, 1))
        if self.early_stopping == "never":
            # Totals only sink, and are divided by more the longer a hypothesis gets.
            limits = turn.request.limits
            lengths = ops.maximum(lengths, turn.request.max_length if limits is None else limits)
        return self._length_penalty(turn, lengths[..., None])[..., 0]


class _Candidates(NamedTuple):
    """Tokens that hypotheses may go on with, `(b, k, n)`, with what sums and scores become."""

    ids: Tensor
    log_probs: Tensor
    totals: Tensor
    scores: Tensor

    def of_slots(self, first: int, end: int) -> "_Candidates":
        """Those of some slots."""
        return _Candidates(*(one[:, first:end] for one in self))

    def in_rows(self, width: int) -> "_Candidates":
        """As `(b, k n + width)`: enough empty ones at the end to fill every slot."""
        sums = (_row(one, width, -float("inf")) for one in self[1:])
        return _Candidates(_row(self.ids, width, 0), *sums)

    def chosen(self, places: Tensor, slots: int, count: int) -> Choice:
        """The candidates at places `(b, k)` of rows that held `count` for each of the slots."""
        parents = ops.minimum(places // count, slots - 1)
        ids, log_probs, totals, scores = (ops.take_along_axis(one, places, axis=-1) for one in self)
        return Choice(parents, ids, log_probs, totals, scores)


def _row(values: Tensor, width: int, fill: float) -> Tensor:
    """`(b, k, n) -> (b, k n + width)`."""
    row = ops.reshape(values, (ops.shape(values)[0], values.shape[1] * values.shape[2]))
    return ops.pad(row, [[0, 0], [0, width]], constant_values=fill)
