"""Arguments of constructors: checked when they come in, and kept as Python's own types.

What is kept stands in configs, which are JSON: NumPy's numbers do not fit there.
"""

from numbers import Integral
from typing import Any

import numpy as np


def checked_flag(name: str, value: Any) -> bool:
    """`True` or `False`, NumPy's too, as a `bool`: no other value, since `"no"` would be true."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False. Received: {value!r}")
    return bool(value)


def checked_seed(value: Any) -> int | None:
    """A seed, as an `int`, or `None`."""
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"`seed` must be an integer or None. Received: {value!r}")
    return int(value)


def check_instance(name: str, value: Any, kind: type, optional: bool = False) -> None:
    """Raises for an object of another class."""
    if isinstance(value, kind) or (optional and value is None):
        return
    none = " or None" if optional else ""
    raise TypeError(f"`{name}` must be a {kind.__name__}{none}. Received: {value!r}")
