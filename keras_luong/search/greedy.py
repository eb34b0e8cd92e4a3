"""Greedy search: the most probable token at every step."""

import dataclasses
from typing import Any

from keras import ops

from keras_luong.search.hypotheses import Choice
from keras_luong.search.search import Search, Turn, staying

Tensor = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class GreedySearch(Search):
    """Takes the most probable token at every step, until the end token or `max_length`.

    Equally probable tokens: the lower id. The loop ends when every sentence has. `scores` are sums
    of log-probabilities.

    Args:
        min_length: See `Search`, as for `max_length_factor`, `banned_ids`, `no_repeat_ngram_size`
            and `repetition_penalty`.

    Call arguments:
        step: `(ids (b, 1), state, shared) -> (logits (b, 1, v), state)`, or with attention scores
            `(b, 1, s)` as a third. It knows no search, and search knows no model.
        state: Any structure of tensors that lead with `(b, 1)`, such as a decoder's states.
        shared: What `step` needs of the sentence and does not change, such as the memory.
        start_ids: int32 `(b, 1)`: what stands before the first generated token.
        end_id: The id that ends a hypothesis.
        max_length: The most tokens to generate, the end token included.
        source_mask: Boolean `(b, s)`, for `max_length_factor`.
        prefix: int32 `(b, p)`, what hypotheses must begin with, below 0 where nothing is forced.
        shrinks: Whether sentences that are done leave the batch, which saves time where its size
            may change from step to step: not on JAX, nor under XLA.
        word_ids: int32 `(v,)`, increasing: the ids that the step's logits are of, if not all from 0
            on. Start, end and prefix must be among them.

    Returns:
        A `SearchResult` with one hypothesis a sentence.

    Raises:
        ValueError: For lengths, penalties and a prefix that cannot be or contradict each other.

    Example:

    >>> import numpy as np
    >>> def step(ids, state, shared):  # always prefers the next higher id, up to 3
    ...     return ops.one_hot(ops.minimum(ids + 1, 3), 4) * 9.0, state
    >>> search = GreedySearch()
    >>> result = search(
    ...     step, (), None, start_ids=ops.zeros((1, 1), "int32"), end_id=3, max_length=5
    ... )
    >>> print(ops.convert_to_numpy(result.ids).tolist(), int(result.lengths[0, 0]))
    [[[1, 2, 3, 3, 3]]] 3
    """

    @property
    def width(self) -> int:
        return 1

    def choose(self, turn: Turn) -> Choice:
        ids = ops.cast(ops.argmax(turn.allowed, axis=-1), "int32")
        return staying(turn, ids)
