"""Sampling: tokens drawn from the model's distribution."""

import dataclasses
from typing import Any, ClassVar

from keras import ops

from keras_luong.checked_numbers import above_0, count_of
from keras_luong.search.hypotheses import Choice
from keras_luong.search.largest import largest
from keras_luong.search.search import Search, Turn, staying
from keras_luong.search.stateless_random import uniform

Tensor = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingSearch(Search):
    """Draws every token from the softmax of the logits divided by a temperature.

    With `top_k` only the k most probable tokens can be drawn; with `top_p` only the most probable
    ones that together reach p, the one that passes p included; with both, first the k, then of
    those the ones that reach p of what is left. The samples of a sentence are independent, and may
    be equal; they come back in the order of their scores, the sums of log-probabilities at
    temperature 1.

    What is drawn depends on the sentence's seed, the sample's number and the step: not on the
    batch, nor on any other call.

    Args:
        temperature: Above 0; below 1 the probable gets more probable.
        top_k: How many tokens can be drawn, or `None` for all.
        top_p: Their probability, in (0, 1], or `None` for all.
        num_samples: How many samples of a sentence.
        min_length: See `Search`, as for `max_length_factor`, `banned_ids`, `no_repeat_ngram_size`
            and `repetition_penalty`.

    Call arguments:
        step: `(ids (b, k), state, shared) -> (logits (b, k, v), state)`, or with attention scores
            `(b, k, s)` as a third.
        state: Any structure of tensors that lead with `(b, 1)`.
        shared: What `step` needs of the sentence and does not change.
        start_ids: int32 `(b, 1)`: what stands before the first generated token.
        end_id: The id that ends a hypothesis.
        max_length: The most tokens to generate, the end token included.
        source_mask: Boolean `(b, s)`, for `max_length_factor`.
        prefix: int32 `(b, p)`, what hypotheses must begin with, below 0 where nothing is forced.
        seed: int32 `(b,)`, one of each sentence; or a number, to which a sentence's place is added.
        shrinks: Whether sentences that are done leave the batch, which saves time where its size
            may change from step to step: not on JAX, nor under XLA.
        word_ids: int32 `(v,)`, increasing: the ids that the step's logits are of, if not all from 0
            on. Start, end and prefix must be among them.

    Returns:
        A `SearchResult` with `num_samples` hypotheses a sentence.

    Raises:
        ValueError: For options that cannot be, a prefix that contradicts them, and no seed.

    Example:

    >>> def step(ids, state, shared):  # ends half of the time
    ...     return ops.zeros((*ids.shape, 2)), state
    >>> result = SamplingSearch(num_samples=2)(
    ...     step, (), None, start_ids=ops.zeros((3, 1), "int32"), end_id=1, max_length=5, seed=7
    ... )
    >>> print(tuple(result.ids.shape))
    (3, 2, 5)

    Reference:
        `top_k`: [Fan, Lewis, Dauphin 2018](https://arxiv.org/abs/1805.04833), section 5.4; `top_p`:
        [Holtzman et al. 2020](https://arxiv.org/abs/1904.09751), section 3.1.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    num_samples: int = 1

    takes: ClassVar[tuple[str, ...]] = ("prefix", "seed")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep("temperature", above_0("temperature", self.temperature))
        self._keep("num_samples", count_of("num_samples", self.num_samples))
        if self.top_k is not None:
            self._keep("top_k", count_of("top_k", self.top_k))
        if self.top_p is not None:
            if not 0 < self.top_p <= 1:
                raise ValueError(f"top_p must be in (0, 1]. Received: {self.top_p}")
            self._keep("top_p", above_0("top_p", self.top_p))

    @property
    def width(self) -> int:
        return self.num_samples

    def choose(self, turn: Turn) -> Choice:
        if turn.request.seed is None:
            raise ValueError("SamplingSearch needs a seed, a number or one of each sentence.")
        slots = ops.arange(self.num_samples, dtype="int32")[None]
        drawn = uniform(turn.request.seed[:, None], slots, turn.step)
        if self.top_k is None and self.top_p is None:
            return staying(turn, _place(_weights(turn.allowed, self.temperature), drawn))
        size = turn.allowed.shape[-1]
        logits, ids = largest(turn.allowed, min(self.top_k or size, size))
        weights = _weights(logits, self.temperature)
        if self.top_p is not None:
            weights = _nucleus(weights, self.top_p)
        place = _place(weights, drawn)[..., None]
        return staying(turn, ops.squeeze(ops.take_along_axis(ids, place, axis=-1), -1))


def _weights(logits: Tensor, temperature: float) -> Tensor:
    """The softmax without its division; zeros where no token is allowed."""
    peak = ops.max(logits, axis=-1, keepdims=True)
    # The difference first: what a small temperature makes of a logit may overflow.
    return ops.exp((logits - ops.where(ops.equal(peak, -float("inf")), 0.0, peak)) / temperature)


def _nucleus(weights: Tensor, share: float) -> Tensor:
    """Zeros for all but the first weights that together reach a share of the sum."""
    sums = ops.cumsum(weights, axis=-1)
    return ops.where(sums - weights < share * sums[..., -1:], weights, 0.0)


def _place(weights: Tensor, drawn: Tensor) -> Tensor:
    """Where the sum of weights `(b, k, n)` passes a share `(b, k)` in [0, 1) of it: int32 `(b, k)`.

    A weight of 0 is never drawn, however the backend rounds its sums.
    """
    sums = ops.cumsum(weights, axis=-1)
    # A share that rounds up to the whole sum would pass nowhere.
    drawn = ops.cast(drawn, sums.dtype)[..., None] * (1.0 - 2.0**-22)
    is_passed = ops.logical_and(sums > drawn * sums[..., -1:], weights > 0)
    return ops.cast(ops.argmax(is_passed, axis=-1), "int32")
