"""What a served translator says of one text, read from the rows of its answer."""

from collections.abc import Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Translation(NamedTuple):
    """One translated text, with what it was made of.

    Attributes:
        text: The translation.
        score: What ranked it. Minus infinity for the empty translation of a text for which the
            search found no hypothesis.
        source_tokens: The subwords that were read, the end token last.
        target_tokens: The subwords that were written, the end token last unless the length ran out.
        attention_scores: One list a target token, one number a source token: where the model
            looked.
        log_prob: Sum of the tokens' log-probabilities. `None` from an export that does not say.
        truncated: Whether the text was longer than the model reads, and was cut. `None` from an
            export that does not say.
    """

    text: str
    score: float
    source_tokens: list[str]
    target_tokens: list[str]
    attention_scores: list[list[float]]
    log_prob: float | None
    truncated: bool | None


class ScoredTranslation(NamedTuple):
    """How probable the model finds a translation that it was given.

    Attributes:
        log_prob: Sum of the tokens' log-probabilities, each after the given tokens before it.
        token_log_probs: One number a target token.
        source_tokens: The subwords that were read, the end token last.
        target_tokens: The subwords of the translation, the end token last unless it was cut.
        attention_scores: One list a target token, one number a source token: where the model
            looked.
        truncated: As in `Translation`.
        target_truncated: The same of the translation that was given.
    """

    log_prob: float
    token_log_probs: list[float]
    source_tokens: list[str]
    target_tokens: list[str]
    attention_scores: list[list[float]]
    truncated: bool | None
    target_truncated: bool | None


class IdTranslation(NamedTuple):
    """The translation of a row of ids.

    Attributes:
        ids: The ids that were written, the end id last unless the length ran out.
        score: What ranked it.
        attention_scores: One list a target id, one number a source id: where the model looked.
        log_prob: Sum of the ids' log-probabilities.
        truncated: As in `Translation`.
    """

    ids: list[int]
    score: float
    attention_scores: list[list[float]]
    log_prob: float
    truncated: bool | None


def translation_of(row: Row) -> Translation:
    """Reads a row of signature `serving_default`.

    A row is as wide as the longest of the batch that it was in, which the server may have put
    together from several requests: it is cut to its own lengths.

    Example:

    >>> row = {"translation": "eins", "score": -0.5, "log_prob": -0.5, "source_length": 2,
    ...     "source_tokens": ["one", "</s>", ""], "target_length": 1, "target_tokens": ["eins", ""],
    ...     "attention_scores": [[0.75, 0.25, 0.0], [0.0, 0.0, 0.0]]}
    >>> translation_of(row).target_tokens, translation_of(row).attention_scores
    (['eins'], [[0.75, 0.25]])
    """
    target_length, source_length = row["target_length"], row["source_length"]
    # A text without subwords has the end token alone, and its empty translation the score 0.
    is_missing = target_length == 0 and source_length > 1
    return Translation(
        row["translation"],
        -float("inf") if is_missing else row["score"],
        row["source_tokens"][:source_length],
        row["target_tokens"][:target_length],
        _trimmed(row["attention_scores"], target_length, source_length),
        -float("inf") if is_missing else row.get("log_prob"),
        row.get("truncated"),
    )


def translations_of(row: Row) -> list[Translation]:
    """Reads a row of signature `n_best` or `sample`: without empty places, but at least one."""
    filled = sum(length > 0 for length in row["target_length"])
    return [
        translation_of(
            {name: value if name in _OF_TEXT else value[place] for name, value in row.items()}
        )
        for place in range(max(1, filled))
    ]


def scored_translation_of(row: Row) -> ScoredTranslation:
    """Reads a row of signature `score`, cut to its own lengths."""
    target_length, source_length = row["target_length"], row["source_length"]
    return ScoredTranslation(
        row["log_prob"],
        row["token_log_probs"][:target_length],
        row["source_tokens"][:source_length],
        row["target_tokens"][:target_length],
        _trimmed(row["attention_scores"], target_length, source_length),
        row.get("truncated"),
        row.get("target_truncated"),
    )


def id_translation_of(row: Row, source_length: int) -> IdTranslation:
    """Reads a row of signature `ids`, cut to its own length and to that of its source."""
    length = row["target_length"]
    return IdTranslation(
        row["target_ids"][:length],
        row["score"],
        _trimmed(row["attention_scores"], length, source_length),
        row["log_prob"],
        row.get("truncated"),
    )


# What an answer of several translations has once a text.
_OF_TEXT = ("source_tokens", "source_length", "truncated")


def _trimmed(matrix: list[list[float]], rows: int, columns: int) -> list[list[float]]:
    return [row[:columns] for row in matrix[:rows]]
