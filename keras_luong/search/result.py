"""What every search returns."""

from typing import Any, NamedTuple

Tensor = Any


class SearchResult(NamedTuple):
    """Hypotheses of a batch of sentences, best first; all fields stand in one order.

    Where there are fewer hypotheses than n, or no token was allowed, a place is empty: its scores
    are minus infinity, its length is 0.

    Letters: b sentences, n hypotheses a sentence, t generated tokens (`max_length`), s source.

    Attributes:
        ids: int32 `(b, n, t)`; what follows the end token repeats it.
        lengths: int32 `(b, n)`: generated tokens, the end token included, the start token not.
        scores: `(b, n)`: what ranks the hypotheses.
        log_probs: `(b, n)`: sum of the log-probabilities that the step gave the generated tokens.
        attention_scores: `(b, n, t, s)`, zeros after the end; `None` if the step gives none.
    """

    ids: Tensor
    lengths: Tensor
    scores: Tensor
    log_probs: Tensor
    attention_scores: Tensor | None
