"""What a translator says of one text."""

from typing import Any, NamedTuple

import numpy as np

from keras_luong.training import Alignment


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

    @property
    def alignment(self) -> Alignment:
        """Tokens and scores alone, for `draw_alignment` and `word_links`."""
        return Alignment(self.source_tokens, self.target_tokens, self.attention_scores)


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

    @property
    def alignment(self) -> Alignment:
        """Tokens and scores alone, for `draw_alignment` and `word_links`."""
        return Alignment(self.source_tokens, self.target_tokens, self.attention_scores)


def rows_of(outputs: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of a batch, text by text."""
    arrays = {name: output.numpy() for name, output in outputs.items()}
    return [
        {name: array[index] for name, array in arrays.items()}
        for index in range(len(arrays["source_length"]))
    ]


def translations_of(row: dict[str, Any]) -> list[Translation]:
    """The translations of one text, without empty slots; at least one."""
    source = _tokens(row["source_tokens"], row["source_length"])
    found = []
    for place in range(max(1, int(np.count_nonzero(row["target_length"])))):
        target = _tokens(row["target_tokens"][place], row["target_length"][place])
        is_missing = not target and len(source) > 1
        score, log_prob = (
            -float("inf") if is_missing else float(row[name][place])
            for name in ("score", "log_prob")
        )
        attention_scores = row["attention_scores"][place, : len(target), : len(source)]
        text = row["translation"][place].decode()
        found.append(Translation(text, score, source, target, attention_scores, log_prob))
    return found


def scored_translation_of(row: dict[str, Any]) -> ScoredTranslation:
    """What was said of one text and a given translation."""
    source = _tokens(row["source_tokens"], row["source_length"])
    target = _tokens(row["target_tokens"], row["target_length"])
    return ScoredTranslation(
        float(row["log_prob"]),
        row["token_log_probs"][: len(target)],
        source,
        target,
        row["attention_scores"][: len(target), : len(source)],
    )


def _tokens(tokens: Any, length: int) -> list[str]:
    return [token.decode() for token in tokens[:length]]
