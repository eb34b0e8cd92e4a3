"""The hypotheses of a search, side by side in slots, and how they grow by a token."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_luong.functional import float32_at_least
from keras_luong.search.result import SearchResult

Tensor = Any


class Hypotheses(NamedTuple):
    """What k slots of every sentence hold; all lead with `(b, k)`.

    Attributes:
        last_ids: int32 `(b, k)`.
        ids: int32 `(b, k, t)`.
        lengths: int32 `(b, k)`.
        log_probs: `(b, k)`, sums of the step's log-probabilities.
        totals: `(b, k)`, sums of the log-probabilities that rank; another number than `log_probs`
            where repeated tokens are penalized. Minus infinity for an empty slot.
        scores: `(b, k)`, totals after penalties.
        is_done: Boolean `(b, k)`: ended, as long as may be, or empty.
        attention_scores: `(b, k, t, s)`, each step's where its slot was then; or `()`.
        slots: int32 `(b, k, t)`: the slot in which the hypothesis was at each step; or `()`.
        coverage: `(b, k, s)`, sums of attention scores, where a penalty needs them; or `()`.
        state: The step's.
    """

    last_ids: Tensor
    ids: Tensor
    lengths: Tensor
    log_probs: Tensor
    totals: Tensor
    scores: Tensor
    is_done: Tensor
    attention_scores: Any
    slots: Any
    coverage: Any
    state: Any


class Choice(NamedTuple):
    """How hypotheses go on; all `(b, k)`.

    Attributes:
        parents: int32, the slot that a hypothesis goes on from; `None` if each stays in its own.
        ids: int32, the next tokens.
        log_probs: What the sums become.
        totals: What the ranking sums become.
        scores: What the scores become.
    """

    parents: Tensor | None
    ids: Tensor
    log_probs: Tensor
    totals: Tensor
    scores: Tensor


def started(start_ids: Tensor, state: Any, width: int, max_length: int, end_id: int) -> Hypotheses:
    """Hypotheses without a token: `width` slots of a sentence, from ids and state of one."""
    last_ids = ops.repeat(ops.cast(start_ids, "int32"), width, axis=1)
    zeros = ops.zeros_like(last_ids, dtype="float32")
    return Hypotheses(
        last_ids=last_ids,
        ids=ops.repeat(ops.full_like(last_ids, end_id)[..., None], max_length, axis=-1),
        lengths=ops.zeros_like(last_ids),
        log_probs=zeros,
        totals=zeros,
        scores=zeros,
        is_done=ops.zeros_like(last_ids, dtype="bool"),
        attention_scores=(),
        slots=(),
        coverage=(),
        state=keras.tree.map_structure(lambda one: ops.repeat(one, width, axis=1), state),
    )


def extended(
    before: Hypotheses, choice: Choice, step: Any, end_id: int, at_limit: Tensor | None
) -> Hypotheses:
    """The hypotheses with one more token each; those that were done stay what they were.

    `before` has its state and attention scores of this step already. A hypothesis whose last token
    was ruled out leaves an empty slot. `at_limit`, boolean `(b, 1)`, says for which sentences this
    step is the last.
    """
    parents = choice.parents

    def inherited(tree: Any) -> Any:
        return keras.tree.map_structure(lambda one: from_parents(one, parents), tree)

    was_done, is_empty = inherited(before.is_done), ops.equal(choice.totals, -float("inf"))
    ids = ops.where(ops.logical_or(was_done, is_empty), end_id, choice.ids)
    now = ops.equal(ops.arange(before.ids.shape[-1]), step)
    all_ids = ops.where(now, ids[..., None], inherited(before.ids))
    lengths = inherited(before.lengths) + ops.cast(ops.logical_not(was_done), "int32")
    is_done = ops.logical_or(was_done, ops.equal(ids, end_id))
    slots: Any = ()
    if not isinstance(before.attention_scores, tuple):
        own = ops.arange(ids.shape[1], dtype="int32")
        own = ops.broadcast_to(own, ops.shape(ids)) if parents is None else parents
        slots = ops.where(now, own[..., None], inherited(before.slots))
    grown = before._replace(
        last_ids=ids,
        ids=all_ids,
        lengths=lengths,
        log_probs=choice.log_probs,
        totals=choice.totals,
        scores=choice.scores,
        is_done=is_done if at_limit is None else ops.logical_or(is_done, at_limit),
        slots=slots,
        coverage=inherited(before.coverage),
        state=inherited(before.state),
    )
    return emptied(grown, is_empty, end_id)


def emptied(hypotheses: Hypotheses, where: Tensor, end_id: int) -> Hypotheses:
    """Empties the slots of a boolean `(b, k)`."""

    def nothing(values: Tensor) -> Tensor:
        return ops.where(where, -float("inf"), values)

    return hypotheses._replace(
        ids=ops.where(where[..., None], end_id, hypotheses.ids),
        lengths=ops.where(where, 0, hypotheses.lengths),
        log_probs=nothing(hypotheses.log_probs),
        totals=nothing(hypotheses.totals),
        scores=nothing(hypotheses.scores),
        is_done=ops.logical_or(hypotheses.is_done, where),
    )


def from_parents(values: Tensor, parents: Tensor | None) -> Tensor:
    """`values (b, j, ...)` at `parents (b, k)`, as `(b, k, ...)`."""
    if parents is None:
        return values
    batch, slots, *rest = ops.shape(values)
    rows = ops.arange(batch, dtype="int32")[:, None] * slots + parents
    # One gather of whole rows, which costs less than `take_along_axis` over all that they hold.
    return ops.take(ops.reshape(values, (batch * slots, *rest)), rows, axis=0)


def with_attention(
    before: Hypotheses, step: Any, now: Tensor, width: int, use_coverage: bool
) -> Hypotheses:
    """Writes down the attention scores `(b, k, s)` of a step; none are added to what is done.

    They stay where their slot is: moving those of all steps with every choice would cost more than
    to look up, in the end, the few that belong to what comes back. The first step makes room for
    all `width` slots that there will be.
    """
    now = ops.where(before.is_done[..., None], 0.0, float32_at_least(now))
    coverage, slots, written = before.coverage, before.slots, before.attention_scores
    if use_coverage:
        coverage = now if isinstance(coverage, tuple) else coverage + now
    at_step = ops.equal(ops.arange(before.ids.shape[-1]), step)[:, None]
    if isinstance(written, tuple):
        slots, written = ops.zeros_like(before.ids), 0.0
        now = ops.repeat(now, width // now.shape[1], axis=1)
    written = ops.where(at_step, now[:, :, None], written)
    return before._replace(attention_scores=written, slots=slots, coverage=coverage)


def best(hypotheses: Hypotheses, count: int) -> SearchResult:
    """The best of the slots, best first; equal ones stay in their order."""
    order = ops.argsort(-hypotheses.scores, axis=-1)[:, :count]
    order = None if hypotheses.scores.shape[1] == 1 else ops.cast(order, "int32")
    ids, lengths, slots = (
        from_parents(one, order) if not isinstance(one, tuple) else one
        for one in (hypotheses.ids, hypotheses.lengths, hypotheses.slots)
    )
    attention_scores = None
    if not isinstance(slots, tuple):
        attention_scores = _looked_up(hypotheses.attention_scores, slots, lengths)
    return SearchResult(
        ids=ids,
        lengths=lengths,
        scores=from_parents(hypotheses.scores, order),
        log_probs=from_parents(hypotheses.log_probs, order),
        attention_scores=attention_scores,
    )


def _looked_up(scores: Tensor, slots: Tensor, lengths: Tensor) -> Tensor:
    """Scores `(b, k, t, s)` of hypotheses by the slots `(b, n, t)` that they were in."""
    batch, width, steps, source = ops.shape(scores)
    each_step = ops.arange(steps, dtype="int32")
    rows = ops.arange(batch, dtype="int32")[:, None, None] * width + slots
    flat = ops.reshape(scores, (batch * width * steps, source))
    found = ops.take(flat, rows * steps + each_step, axis=0)
    return ops.where((each_step < lengths[..., None])[..., None], found, 0.0)


def duplicates(hypotheses: Hypotheses) -> Tensor:
    """Boolean `(b, k)`: whether the same hypothesis stands in an earlier slot too."""
    ids, lengths = hypotheses.ids, hypotheses.lengths
    is_same = ops.all(ops.equal(ids[:, :, None], ids[:, None]), axis=-1)
    is_same = ops.logical_and(is_same, ops.equal(lengths[:, :, None], lengths[:, None]))
    slots = ops.arange(ids.shape[1])
    return ops.any(ops.logical_and(is_same, slots[None, :] < slots[:, None]), axis=-1)
