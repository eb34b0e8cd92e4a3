"""Numbers that public functions are given: checked, and kept as Python's own int and float.

What is kept goes into configs, JSON and compiled functions, which NumPy's numbers do not all fit.
"""

from numbers import Integral, Real
from typing import Any, Final

# Of float32, in which most is computed: what is larger is infinite there, what is smaller 0.
_LARGEST: Final = (2.0 - 2.0**-23) * 2.0**127
_SMALLEST: Final = 2.0**-126


def integer(name: str, value: Any, least: int | None = None) -> int:
    """An integer of any type but bool, as an int.

    Raises:
        ValueError: For anything else, and integers below `least`.
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or (least is not None and value < least):
        wanted = "" if least is None else f", at least {least}"
        raise ValueError(f"`{name}` must be an integer{wanted}. Received: {value!r}")
    return int(value)


def at_least(name: str, value: Any, least: float) -> float:
    """A number from `least` on, as a float.

    Raises:
        ValueError: For anything else, infinity and NaN, as float32 has them.
    """
    if not _is_number(value) or not least <= value <= _LARGEST:
        raise ValueError(f"`{name}` must be at least {least} and finite. Received: {value!r}")
    return float(value)


def above_0(name: str, value: Any) -> float:
    """A number above 0, as a float.

    Raises:
        ValueError: For anything else, infinity and NaN, as float32 has them.
    """
    if not _is_number(value) or not _SMALLEST <= value <= _LARGEST:
        raise ValueError(f"`{name}` must be above 0 and finite. Received: {value!r}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
