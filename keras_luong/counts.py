"""Numbers that a caller gives: checked where they come in, and kept as Python's own."""

from numbers import Integral, Real
from typing import Any


def count_of(name: str, value: Any, least: int = 1) -> int:
    """Checks a whole number, of NumPy or of Python, and returns it as an `int`.

    Raises:
        ValueError: For anything else than a whole number of at least `least`; `True` is none.

    Example:

    >>> import numpy as np
    >>> count_of("max_length", np.int64(9))
    9
    """
    if not _is_whole(value) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {value!r}")
    return int(value)


def optional_count_of(name: str, value: Any, least: int = 1) -> int | None:
    """Checks like `count_of`, and leaves `None` as it is."""
    return None if value is None else count_of(name, value, least)


def integer_of(name: str, value: Any) -> int:
    """Checks a whole number that may be negative, such as a seed."""
    if not _is_whole(value):
        raise ValueError(f"`{name}` must be an integer. Received: {value!r}")
    return int(value)


def number_of(name: str, value: Any) -> float:
    """Checks a number, of NumPy or of Python, and returns it as a `float`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"`{name}` must be a number. Received: {value!r}")
    return float(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
