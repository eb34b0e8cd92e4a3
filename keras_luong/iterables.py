"""Texts and pairs from any iterable: read once, in their order, as Python's own `str`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Pair = tuple[str, str]


def items_of(name: str, values: Iterable[Any], kind: str) -> Iterator[Any]:
    """Iterates over a list, an array, a Series, a tensor, a generator: by place, never by label.

    Args:
        name: What the argument is called.
        values: What was given.
        kind: What it must hold, for the error.

    Raises:
        TypeError: For one text, for what is no iterable, and for what has no order of rows: a set,
            a mapping, or a table, over which one would get the names of its columns.
    """
    if hasattr(values, "numpy"):  # a tensor; to iterate over one of TensorFlow is slow
        values = values.numpy()
    if isinstance(values, str | bytes):
        raise TypeError(f"`{name}` must be a list of {kind}. Received one: {values!r}")
    without_rows = isinstance(values, Mapping | set | frozenset) or hasattr(values, "columns")
    if without_rows or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise TypeError(
            f"`{name}` must be a list of {kind}, or another iterable of them in their order. "
            f"Received: {values!r} of type {type(values).__name__}"
        )
    return iter(values)


def list_of(name: str, values: Iterable[Any], kind: str = "values") -> list[Any]:
    """The items of any iterable as a list, with the errors of `items_of`."""
    return list(items_of(name, values, kind))


def rows_in_order(values: Any) -> Any:
    """Rows of numbers as NumPy and Keras take them: what they cannot read by place is a list."""
    if hasattr(values, "to_numpy"):  # a Series or a table
        return values.to_numpy().tolist()
    is_plain = isinstance(values, list | tuple) or hasattr(values, "shape")
    return values if is_plain or not isinstance(values, Iterable) else list(values)


def texts_of(name: str, texts: Iterable[str]) -> Iterator[str]:
    """Iterates over texts, checked one by one: there may be more than memory holds.

    Arrays and tensors may hold bytes in UTF-8, which is how they hold text.

    Raises:
        TypeError: As `items_of`, and for an item that is no text.
        ValueError: For a text that cannot be written as UTF-8, and for bytes that are none.

    Example:

    >>> import numpy as np
    >>> list(texts_of("texts", np.array([b"one", b"two"])))
    ['one', 'two']
    """
    for index, text in enumerate(strings_of(name, texts)):
        try:
            text.encode()
        except UnicodeError as error:
            raise ValueError(f"The text at {index} cannot be written as UTF-8: {error}") from error
        yield text


def strings_of(name: str, texts: Iterable[str]) -> Iterator[str]:
    """Iterates over strings that need not be UTF-8, such as tokens to be drawn; else `texts_of`."""
    decodes = _holds_bytes(texts)
    for index, text in enumerate(items_of(name, texts, "strings")):
        try:
            one = _text(text, decodes)
        except UnicodeError as error:
            raise ValueError(f"The text at {index} is not UTF-8: {error}") from error
        if one is None:
            raise TypeError(f"`{name}` must be strings. Received at {index}: {text!r}")
        yield one


def list_of_texts(name: str, texts: Iterable[str]) -> list[str]:
    """The texts of any iterable as a list, with the errors of `texts_of`."""
    return list(texts_of(name, texts))


def pairs_of(name: str, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Iterates over pairs of texts: tuples, lists, or the rows of an array of two columns.

    Raises:
        TypeError: As `items_of`, and for an item that is no pair of texts.
        ValueError: For bytes that are no UTF-8.
    """
    for index, pair in enumerate(items_of(name, pairs, "pairs of strings")):
        yield _pair(index, pair)


def list_of_pairs(name: str, pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs of any iterable as a list, with the errors of `pairs_of`."""
    return list(pairs_of(name, pairs))


def _pair(index: int, pair: Any) -> Pair:
    if type(pair) is tuple and [type(text) for text in pair] == [str, str]:
        return pair  # nearly all of millions
    try:
        texts = [_text(text, _holds_bytes(pair)) for text in items_of("pair", pair, "strings")]
    except TypeError:
        texts = []
    except UnicodeDecodeError as error:
        raise ValueError(f"The pair at {index} is not UTF-8: {error}") from error
    if len(texts) != 2 or None in texts:
        raise TypeError(f"Every pair must be a tuple of two str. Received: {pair!r} at {index}")
    return texts[0], texts[1]  # type: ignore[return-value]


def _holds_bytes(values: Any) -> bool:
    """Whether bytes are how it holds text: an array or a tensor."""
    return hasattr(values, "dtype")


def _text(value: Any, decodes: bool) -> str | None:
    """A text as `str`, or `None` for what is no text."""
    if hasattr(value, "numpy"):  # a scalar tensor, of a `tf.data.Dataset`
        value, decodes = value.numpy(), True
    if isinstance(value, bytes) and decodes:
        return value.decode()
    return str(value) if isinstance(value, str) else None
