"""What a served translator says of one text, read from the rows of its answer.

Nothing of a row is taken on trust: a value that is not of its kind, or fewer values than a length
says, raise ValueError with the name of the output.
"""

import reprlib
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
    source_length, target_length = _length(row, "source_length"), _length(row, "target_length")
    # A text without subwords has the end token alone, and its empty translation the score 0.
    is_missing = target_length == 0 and source_length > 1
    score, log_prob = _read(row, "score", float), _read_if_any(row, "log_prob", float)
    return Translation(
        text_of(row),
        -float("inf") if is_missing else score,
        _read(row, "source_tokens", str, source_length),
        _read(row, "target_tokens", str, target_length),
        _read(row, "attention_scores", float, target_length, source_length),
        -float("inf") if is_missing else log_prob,
        _read_if_any(row, "truncated", bool),
    )


def text_of(row: Row) -> str:
    """Reads the translation of a row of signature `light` or `serving_default`."""
    return _read(row, "translation", str)


def translations_of(row: Row) -> list[Translation]:
    """Reads a row of signature `n_best` or `sample`: without empty places, but at least one."""
    lengths = _of_kind("target_length", _listed("target_length", row["target_length"], 1), int)
    columns = {
        name: [value] * len(lengths) if name in _OF_TEXT else _places(name, value, len(lengths))
        for name, value in row.items()
    }
    return [
        translation_of({name: column[place] for name, column in columns.items()})
        for place in range(max(1, sum(length > 0 for length in lengths)))
    ]


def scored_translation_of(row: Row) -> ScoredTranslation:
    """Reads a row of signature `score`, cut to its own lengths."""
    source_length, target_length = _length(row, "source_length"), _length(row, "target_length")
    return ScoredTranslation(
        _read(row, "log_prob", float),
        _read(row, "token_log_probs", float, target_length),
        _read(row, "source_tokens", str, source_length),
        _read(row, "target_tokens", str, target_length),
        _read(row, "attention_scores", float, target_length, source_length),
        _read_if_any(row, "truncated", bool),
        _read_if_any(row, "target_truncated", bool),
    )


def id_translation_of(row: Row, source_length: int) -> IdTranslation:
    """Reads a row of signature `ids`, cut to its own length and to that of its source."""
    length, truncated = _length(row, "target_length"), _read_if_any(row, "truncated", bool)
    # Of a source that the model cut there are fewer columns.
    columns = None if truncated else source_length
    attention_scores = _read(row, "attention_scores", float, length, columns)
    return IdTranslation(
        _read(row, "target_ids", int, length),
        _read(row, "score", float),
        [scores[:source_length] for scores in attention_scores],
        _read(row, "log_prob", float),
        truncated,
    )


# All that is read of an answer; a server may say more.
OUTPUTS = frozenset(
    {*Translation._fields, *ScoredTranslation._fields, *IdTranslation._fields} - {"text", "ids"}
    | {"translation", "target_ids", "source_length", "target_length"}
)
# What an answer of several translations has once a text.
_OF_TEXT = ("source_tokens", "source_length", "truncated")
_TYPES: dict[type, set[type]] = {str: {str}, float: {float, int}, int: {int}, bool: {bool}}


def _read(row: Row, name: str, kind: type, *lengths: int | None) -> Any:
    """The value of an output: in as many lists as there are lengths, each cut to its length."""
    return _cut(name, row[name], kind, lengths)


def _read_if_any(row: Row, name: str, kind: type) -> Any:
    return _read(row, name, kind) if name in row else None


def _length(row: Row, name: str) -> int:
    length: int = _read(row, name, int)
    if length < 0:
        raise ValueError(f"`{name}` must be at least 0. Received: {length}")
    return length


def _cut(name: str, value: Any, kind: type, lengths: tuple[int | None, ...]) -> Any:
    if not lengths:
        return _of_kind(name, [value], kind)[0]
    length, *inner = lengths
    values = _listed(name, value, length)[:length]
    if not inner:
        return _of_kind(name, values, kind)
    return [_cut(name, one, kind, tuple(inner)) for one in values]


def _listed(name: str, value: Any, length: int | None = None) -> list[Any]:
    """The value, if it is a list that is long enough."""
    if not isinstance(value, list):
        raise ValueError(f"`{name}` must be a list. Received: {reprlib.repr(value)}")
    if length is not None and len(value) < length:
        raise ValueError(f"`{name}` must have at least {length} values. Received: {len(value)}")
    return value


def _places(name: str, value: Any, count: int) -> list[Any]:
    places = _listed(name, value)
    if len(places) != count:
        raise ValueError(
            f"`{name}` must have as many values as `target_length`, which has {count}. Received: "
            f"{len(places)}"
        )
    return places


def _of_kind(name: str, values: list[Any], kind: type) -> list[Any]:
    """The values, if their types are right. Types are compared, for a boolean is an integer."""
    types = set(map(type, values))
    if not types <= _TYPES[kind]:
        wrong = next(value for value in values if type(value) not in _TYPES[kind])
        raise ValueError(
            f"`{name}` must hold values of type {kind.__name__}. Received: {reprlib.repr(wrong)}"
        )
    if kind is str and not is_unicode("".join(values)):
        raise ValueError(f"`{name}` must hold text. Received half a surrogate pair")
    return values if types <= {kind} else _as_floats(name, values)


def _as_floats(name: str, values: list[Any]) -> list[float]:
    try:
        return list(map(float, values))
    except OverflowError:  # JSON knows integers that no float reaches
        raise ValueError(f"`{name}` must hold numbers of 64 bits") from None


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
