"""JSON that somebody else may have written: read within limits, and checked for what it holds."""

import json
import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from keras_luong.paths import RemotePath

# Takes the place of a value in its file, such as `training_data[0].pairs`, and the value, which it
# returns or raises a `ValueError` for.
Check = Callable[[str, Any], Any]

_LARGEST: Final = 64 * 2**20  # bytes
_DEEPEST: Final = 50  # levels
# Up to here every program that reads JSON keeps whole numbers exactly.
_MOST: Final = 2**53


def read_json(path: Path | RemotePath, check: Check) -> Any:
    """Reads a JSON file within limits.

    It has at most 64 MiB, is nested at most 50 levels deep, and gives no name twice in an object.

    Args:
        path: The file.
        check: What it must hold, made of the functions below.

    Returns:
        What `check` returns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For anything else in it: the message names the file, the place and the fault.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "sizes.json"
    ...     _ = file.write_text('{"units": 5.5}')
    ...     try:
    ...         read_json(file, record({"units": whole(1)}))
    ...     except ValueError as error:
    ...         print(str(error).replace(folder, ""))
    '/sizes.json' cannot be read: `units` must be an integer of at least 1. Received: 5.5
    """
    try:
        return check("", _parsed(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error


def whole(least: int = 0, most: int = _MOST) -> Check:
    """An integer from `least` to `most`."""

    def check(place: str, value: Any) -> int:
        allowed = f"an integer of at least {least}"
        if most < _MOST:
            allowed += f" and at most {most}"
        # JSON's true is an int of Python.
        _require(type(value) is int and least <= value <= most, place, allowed, value)
        return int(value)

    return check


def text(pattern: str | None = None) -> Check:
    """A string, all of which matches a regular expression if one is given."""
    allowed = "a string" if pattern is None else f"a string such as matches {pattern}"

    def check(place: str, value: Any) -> str:
        is_text = isinstance(value, str)
        fits = is_text and (pattern is None or re.fullmatch(pattern, value) is not None)
        _require(fits, place, allowed, value)
        return str(value)

    return check


def flag(place: str, value: Any) -> bool:
    """True or false."""
    _require(isinstance(value, bool), place, "true or false", value)
    return bool(value)


def list_of(inner: Check, count: int | None = None) -> Check:
    """A list, of `count` values if that is given."""
    allowed = "a list" if count is None else f"a list of {count}"

    def check(place: str, value: Any) -> list[Any]:
        fits = isinstance(value, list) and count in (None, len(value))
        _require(fits, place, allowed, value)
        return [inner(f"{place}[{index}]", one) for index, one in enumerate(value)]

    return check


def mapping_of(inner: Check) -> Check:
    """An object with any names."""

    def check(place: str, value: Any) -> dict[str, Any]:
        _require(isinstance(value, dict), place, "an object", value)
        return {name: inner(_within(place, name), one) for name, one in value.items()}

    return check


def record(needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these names and no others."""
    optional = optional or {}
    known = {**needed, **optional}
    allowed = f"an object that holds {', '.join(needed)}"
    if optional:
        allowed += f" and may hold {', '.join(optional)}"

    def check(place: str, value: Any) -> dict[str, Any]:
        fits = isinstance(value, dict) and needed.keys() <= value.keys() <= known.keys()
        _require(fits, place, allowed, value)
        return {name: known[name](_within(place, name), one) for name, one in value.items()}

    return check


def anything(place: str, value: Any) -> Any:
    """Whatever JSON can hold."""
    return value


def _parsed(path: Path | RemotePath) -> Any:
    size = path.stat().st_size
    if size > _LARGEST:
        raise ValueError(f"it must have at most {_LARGEST} bytes. Received: {size}")
    try:
        value = json.loads(path.read_bytes().decode(), object_pairs_hook=_without_repetition)
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value, _DEEPEST)
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {reprlib.repr(twice)} must be given once in an object")
    return found


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise _too_deep()
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for child in children:
            _check_depth(child, left - 1)


def _too_deep() -> ValueError:
    return ValueError(f"it must be nested at most {_DEEPEST} levels deep")


def _within(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _require(fits: bool, place: str, allowed: str, value: Any) -> None:
    if not fits:
        named = f"`{place}`" if place else "it"
        raise ValueError(f"{named} must be {allowed}. Received: {reprlib.repr(value)}")
