"""Monotonic attention: a reader that never goes back, in expectation or by hard choices.

Reference:
    Raffel, Luong, Liu, Weiss, Eck 2017, "Online and Linear-Time Attention by Enforcing Monotonic
    Alignments", [arXiv:1704.00784](https://arxiv.org/abs/1704.00784), section 2.
"""

from typing import Any

from keras import ops

from keras_luong.functional.recurrence import recur
from keras_luong.functional.tensors import float32_at_least, lowest

Tensor = Any
MONOTONIC_MODES = ("parallel", "recursive", "hard")

# Where the length of the source is unknown while tracing: more positions than any source has.
_UNKNOWN_LENGTH = 2**17


def monotonic_scores(
    attention_logits: Tensor, earlier: Tensor, mask: Tensor | None = None, mode: str = "parallel"
) -> Tensor:
    """Attention scores of one step from its logits and the scores of the step before.

    The reader stands at position i with probability `earlier_i`. From there it goes right, and
    stops at position j with probability `p_j = sigmoid(logit_j)`:

        q_j = (1 - p_(j-1)) q_(j-1) + earlier_j,    a_j = p_j q_j

    so a row may sum to less than 1: the reader ran past the end. `"hard"` takes 1 for every `p_j`
    whose logit is above 0, and 0 for the others. The paper computes the sum with a quotient of
    products that underflow; the recursion as it stands has no quotient, and is exact also where
    they are 0.

    Args:
        attention_logits: `(b, t, s)`; the t steps do not depend on each other (hypotheses).
        earlier: The scores before, `(b, t, s)`.
        mask: Boolean, broadcastable to the logits, or `None`. At masked positions `p` is 0: the
            reader passes them.
        mode: `"parallel"` in about `log2 s` rounds over all positions, `"recursive"` in `s` steps
            of less work, with the same result, or `"hard"`.

    Returns:
        `(b, t, s)`, in float32 at least.
    """
    if mode not in MONOTONIC_MODES:
        raise ValueError(f"`mode` must be one of {MONOTONIC_MODES}. Received: {mode!r}")
    logits = float32_at_least(attention_logits)
    if mask is not None:
        # Before anything is computed of them: what stands at padding may be NaN.
        logits = ops.where(mask, logits, lowest(logits))
    if mode == "hard":
        stop = ops.cast(logits > 0, logits.dtype)
        go_on = 1.0 - stop
    else:
        # Not 1 - stop, which is 0 as soon as stop is within a rounding of 1.
        stop, go_on = ops.sigmoid(logits), ops.sigmoid(-logits)
    # The factor between two positions belongs to the left one.
    passed = _shifted_right(go_on, 1)
    arrived = ops.cast(earlier, logits.dtype)
    # `keras.layers.RNN` refuses a loop of no steps.
    in_sequence = mode == "recursive" and logits.shape[-1] != 0
    solve = _in_sequence if in_sequence else _in_rounds
    return stop * solve(passed, arrived)


def _in_rounds(factors: Tensor, terms: Tensor) -> Tensor:
    """`q_j = factor_j q_(j-1) + term_j`, each round joining spans twice as long."""
    length = factors.shape[-1]
    span = 1
    while span < (_UNKNOWN_LENGTH if length is None else length):
        terms = terms + factors * _shifted_right(terms, span)
        factors = factors * _shifted_right(factors, span)
        span *= 2
    return terms


def _in_sequence(factors: Tensor, terms: Tensor) -> Tensor:
    """The same recursion, position by position."""
    shape = ops.shape(terms)
    pairs = ops.reshape(ops.stack([factors, terms], axis=-1), (-1, shape[-1], 2))

    def step(pair: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        q = pair[:, :1] * states[0] + pair[:, 1:]
        return q, [q]

    start = ops.zeros((ops.shape(pairs)[0], 1), terms.dtype)
    q, _ = recur(step, pairs, [start], dtype=terms.dtype)
    return ops.reshape(q, shape)


def _shifted_right(tensor: Tensor, by: int) -> Tensor:
    """`(b, t, s)` moved right, zeros moving in."""
    length = ops.shape(tensor)[-1]
    by = min(by, length) if isinstance(length, int) else ops.minimum(by, length)
    zeros = ops.zeros_like(tensor[..., :by])
    return ops.concatenate([zeros, tensor[..., : length - by]], axis=-1)
