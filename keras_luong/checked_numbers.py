"""Numbers that a caller gives: checked where they come in, and kept as Python's `int` and `float`.

They go into configs, JSON and compiled functions, which NumPy's numbers do not all fit.
"""

from numbers import Integral, Real
from typing import Any, Final

# Of float32, in which most is computed: a larger number is infinite there, a smaller one 0.
_LARGEST: Final = (2.0 - 2.0**-23) * 2.0**127
_SMALLEST: Final = 2.0**-126


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
    if not _is_number(value):
        raise ValueError(f"`{name}` must be a number. Received: {value!r}")
    return float(value)


def finite_of(name: str, value: Any) -> float:
    """Checks a number of either sign that is finite in float32, and returns it as a `float`."""
    if not _is_number(value) or not abs(value) <= _LARGEST:
        raise ValueError(f"`{name}` must be a finite number. Received: {value!r}")
    return float(value)


def at_least(name: str, value: Any, least: float) -> float:
    """Checks a number from `least` on that is finite in float32, and returns it as a `float`."""
    if not _is_number(value) or not least <= value <= _LARGEST:
        raise ValueError(
            f"`{name}` must be a finite number of at least {least:g}. Received: {value!r}"
        )
    return float(value)


def above_0(name: str, value: Any) -> float:
    """Checks a number above 0 that is finite in float32, and returns it as a `float`."""
    if not _is_number(value) or not _SMALLEST <= value <= _LARGEST:
        raise ValueError(f"`{name}` must be a finite number above 0. Received: {value!r}")
    return float(value)


def fraction_of(name: str, value: Any) -> float:
    """Checks a fraction, such as that of a dropout, and returns it as a `float`."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be a number from 0 to below 1. Received: {value!r}")
    return float(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
