"""What a user asks of translations, as target text: beginnings, and phrases that must appear."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_luong.ids import UNKNOWN_ID
from keras_luong.iterables import list_of, list_of_texts
from keras_luong.text import SubwordTokenizer

_NOTHING = -1  # stands where nothing is asked for


def prefix_ids(
    tokenizer: SubwordTokenizer, prefixes: Iterable[str], count: int, max_length: int
) -> np.ndarray | None:
    """The ids of beginnings, one a text; none for `""`.

    A prefix is tokenized like a whole text. As subwords do not reach across spaces, whole words get
    the subwords that they have in any longer text, and a model goes on as it was trained to. The
    last word may be continued too (`"Hund"` by `"e"`), but half a word has other subwords than the
    whole one has. Spaces at the ends say nothing.

    Args:
        tokenizer: Of the target.
        prefixes: `count` texts.
        count: How many texts are translated.
        max_length: The most subwords of a prefix.

    Returns:
        int32 `(b, p)`, -1 where nothing is asked for; `None` if all are empty.

    Raises:
        TypeError: If `prefixes` are not strings.
        ValueError: For another number of prefixes, one that is too long, and one with characters
            that are not in the vocabulary.
    """
    texts = list_of_texts("prefixes", prefixes)
    _check_count("prefixes", texts, count)
    return _padded(_ids(tokenizer, texts, "prefix", list(range(count)), max_length))


def constraint_ids(
    tokenizer: SubwordTokenizer,
    constraints: Iterable[Iterable[str]],
    count: int,
    max_length: int,
) -> np.ndarray | None:
    """The ids of phrases that must appear, any number a text.

    A phrase is tokenized like a whole text, and so it begins where a word does.

    Args:
        tokenizer: Of the target.
        constraints: `count` lists of phrases.
        count: How many texts are translated.
        max_length: The most subwords of a phrase.

    Returns:
        int32 `(b, c, l)`, -1 where nothing is asked for; `None` if there are no phrases.

    Raises:
        TypeError: If `constraints` are not lists of strings.
        ValueError: For another number of lists, an empty phrase, one that is too long, and one with
            characters that are not in the vocabulary.
    """
    lists = [
        list_of_texts(f"constraints[{index}]", phrases)
        for index, phrases in enumerate(list_of("constraints", constraints, "lists of phrases"))
    ]
    _check_count("constraints", lists, count)
    owners = [index for index, phrases in enumerate(lists) for _ in phrases]
    phrases = [phrase for phrases in lists for phrase in phrases]
    result: list[list[list[int]]] = [[] for _ in range(count)]
    ids = _ids(tokenizer, phrases, "constraint", owners, max_length)
    for index, phrase, row in zip(owners, phrases, ids, strict=True):
        if not row:
            raise ValueError(
                f"A constraint must hold a subword. Received for text {index}: {phrase!r}"
            )
        result[index].append(row)
    return _padded(result)


def _check_count(name: str, values: list[Any], count: int) -> None:
    if len(values) != count:
        raise ValueError(
            f"`{name}` must have one entry per text, {count} in all. Received: {len(values)}"
        )


def _ids(
    tokenizer: SubwordTokenizer, texts: list[str], what: str, owners: list[int], max_length: int
) -> list[list[int]]:
    """Ids of target texts; `owners` are the texts to translate, for messages."""
    rows = tokenizer.tokenize(tf.constant(texts, tf.string)).to_list()
    for owner, text, row in zip(owners, texts, rows, strict=True):
        if len(row) > max_length:
            raise ValueError(
                f"A {what} has at most max_length={max_length} subwords. Received for text "
                f"{owner}: {text!r}, which has {len(row)}"
            )
        if UNKNOWN_ID in row:
            raise ValueError(
                f"A {what} must be made of characters that the target vocabulary has. Received for "
                f"text {owner}: {text!r}, which would read "
                f"{tokenizer.detokenize([row]).numpy()[0].decode()!r}"
            )
    return rows


def _padded(rows: list[Any]) -> np.ndarray | None:
    array = tf.ragged.constant(rows, tf.int32).to_tensor(_NOTHING).numpy()
    return array if array.size else None
