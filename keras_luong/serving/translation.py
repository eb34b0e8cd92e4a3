"""What a translator says of one text."""

from typing import Any, NamedTuple


class Translation(NamedTuple):
    """One translated text, with what it was made of.

    Attributes:
        text: The translation.
        score: What ranked it: for greedy search the sum of the tokens' log-probabilities. Minus
            infinity for the empty translation of a text for which the search found no hypothesis.
        source_tokens: The subwords that were read, the end token last.
        target_tokens: The subwords that were written, the end token last unless the length ran out.
        attention_scores: `(target tokens, source tokens)`: where the model looked for each.
        log_prob: Sum of the tokens' log-probabilities.
    """

    text: str
    score: float
    source_tokens: list[str]
    target_tokens: list[str]
    attention_scores: Any
    log_prob: float


class ScoredTranslation(NamedTuple):
    """How probable the model finds a translation that it was given.

    Attributes:
        log_prob: Sum of the tokens' log-probabilities, each after the given tokens before it.
        token_log_probs: `(target tokens,)`.
        source_tokens: The subwords that were read, the end token last.
        target_tokens: The subwords of the translation, the end token last unless it was cut.
        attention_scores: `(target tokens, source tokens)`: where the model looked for each.
    """

    log_prob: float
    token_log_probs: Any
    source_tokens: list[str]
    target_tokens: list[str]
    attention_scores: Any
