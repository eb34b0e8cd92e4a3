"""What a translator says of one text."""

from typing import Any, NamedTuple


class Translation(NamedTuple):
    """One translated text, with what it was made of.

    Attributes:
        text: The translation.
        score: What ranked it: for greedy search the sum of the tokens' log-probabilities.
        source_tokens: The subwords that were read, the end token last.
        target_tokens: The subwords that were written, the end token last unless the length ran out.
        attention_scores: `(target tokens, source tokens)`: where the model looked for each.
    """

    text: str
    score: float
    source_tokens: list[str]
    target_tokens: list[str]
    attention_scores: Any
