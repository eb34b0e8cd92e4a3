"""The types of options, which say in plain English what they take."""

import argparse
import ipaddress
import json
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from keras_luong_cli.import_notes import without_import_notes

if TYPE_CHECKING:
    from keras_luong.paths import RemotePath

AnyPath: TypeAlias = "Path | RemotePath"
Number = TypeVar("Number", int, float)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def positive(text: str) -> int:
    """An integer of at least 1."""
    return _number(text, int, lambda value: value >= 1, "a whole number of at least 1")


def count(text: str) -> int:
    """An integer of at least 0."""
    return _number(text, int, lambda value: value >= 0, "a whole number of at least 0")


def seed(text: str) -> int:
    """What NumPy takes as a seed."""
    return _number(
        text, int, lambda value: 0 <= value < 2**32, f"a whole number from 0 to {2**32 - 1}"
    )


def fraction(text: str) -> float:
    """A rate of dropout."""
    return _number(text, float, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def not_negative(text: str) -> float:
    """A weight or an exponent."""
    return _number(
        text, float, lambda value: 0 <= value < math.inf, "a finite number of at least 0"
    )


def above_zero(text: str) -> float:
    """A rate or a duration."""
    return _number(text, float, lambda value: 0 < value < math.inf, "a finite number above 0")


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address of this machine."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be an IP address, such as 127.0.0.1 or 0.0.0.0, not {text!r}"
        ) from None


def path(text: str) -> AnyPath:
    """A path as the library takes it; what has a scheme costs the import of TensorFlow."""
    if ":/" not in text:
        return local_path(text)
    try:
        with without_import_notes():
            from keras_luong.paths import path_of
        return path_of(text)
    except (OSError, ValueError, ImportError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def local_path(text: str) -> Path:
    """A path of this machine. `~` is expanded, for a shell leaves it in `--out=~/en_de`."""
    if not text or _SCHEME.match(text):
        raise argparse.ArgumentTypeError(f"must be a path of this machine, not {text!r}")
    return Path(os.path.expanduser(text))


def scores(text: str) -> dict[str, object]:
    """A JSON file with scores by name, or `-` for standard input."""
    if text == "-" and sys.stdin is None:
        raise argparse.ArgumentTypeError("cannot be read from standard input, which is closed")
    try:
        found = json.loads(sys.stdin.read() if text == "-" else path(text).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"must be a JSON file. {text!r}: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"must hold an object: scores by name. {text!r} does not")
    return found


def _number(
    text: str,
    convert: Callable[[str], Number],
    is_allowed: Callable[[Number], bool],
    allowed: str,
) -> Number:
    try:
        value = convert(text)
    except ValueError:
        pass
    else:
        if is_allowed(value):
            return value
    raise argparse.ArgumentTypeError(f"must be {allowed}, not {text!r}")
