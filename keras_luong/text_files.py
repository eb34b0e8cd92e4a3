"""Text files, opened in one place: one text a line, plain, gzipped or from standard input."""

import contextlib
import gzip
import logging
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from keras_luong.paths import PathLike, path_of

STANDARD_INPUT = "-"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CHUNK = 65_536
# What a line may have besides its text, and a byte that tells that there is more.
_MORE = len(_BYTE_ORDER_MARK) + len(b"\r\n") + 1
_LOGGER = logging.getLogger("keras_luong")
# How files begin that are no UTF-8 text, and what to do with them.
_OTHERS = {
    b"\x1f\x8b": "gzipped: let its name end in .gz, or unpack it with gunzip",
    b"BZh": "packed by bzip2: unpack it with bunzip2",
    b"\xfd7zXZ": "packed by xz: unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it with unzstd",
    b"PK\x03\x04": "a zip archive: unpack it with unzip",
    b"\xff\xfe": "UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
}


def read_lines(path: PathLike, *, errors: str = "strict", most: int | None = None) -> Iterator[str]:
    r"""Reads a text file line by line, with one line in memory.

    A file whose name ends in `.gz` is unpacked, and `"-"` is standard input. The text is UTF-8; a
    byte order mark at its start is removed. Lines end at `\n` or `\r\n` and nowhere else, and their
    ends are removed.

    Args:
        path: The file.
        errors: What becomes of bytes that are not UTF-8: `"strict"` raises, `"replace"` reads
            U+FFFD.
        most: How many bytes of a line are read; what follows is dropped, and a log line says so.
            By default all.

    Yields:
        Strings. An empty file yields none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be unpacked, is packed in another way, is UTF-16 (it has NUL
            bytes, with or without a byte order mark), or is not UTF-8, with the number of the line.
    """
    name = "standard input" if is_standard_input(path) else repr(str(path))
    try:
        with _opened(path, most) as file:
            # Lines of bytes end at \n alone. Those of text end where other tools do not end them,
            # such as at U+2028, and two parallel files would no longer agree.
            for number, line in enumerate(file, start=1):
                if number == 1:
                    _check_start(line, name)
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                if line:  # a byte order mark alone is no line
                    line = line.removesuffix(b"\n").removesuffix(b"\r")
                    if most is not None and len(line) > most:
                        _LOGGER.warning(
                            "Line %d of %s is cut: it has more than %d bytes.", number, name, most
                        )
                    yield _decoded(line[:most], errors, name, number)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"The file {name} is no complete gzip file: {error}") from error


def is_standard_input(path: PathLike) -> bool:
    """Whether a path is the `-` that stands for standard input."""
    return os.fspath(path) == STANDARD_INPUT


def standard_input(most: int | None = None) -> Iterator[bytes]:
    """The lines of standard input, read without a file of Python's.

    Of a line of more than `most` bytes some end is missing.

    Such a file is closed in the end, and Python aborts or hangs there if a thread still waits for a
    line of it.

    Raises:
        OSError: If it is closed.
    """
    if sys.stdin is None:
        raise OSError("Standard input is closed.")
    rest = b""
    while chunk := os.read(sys.stdin.fileno(), _CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if most is not None:
            rest = rest[: most + _MORE]
    if rest:
        yield rest


@contextlib.contextmanager
def _opened(named: PathLike, most: int | None) -> Iterator[Iterable[bytes]]:
    if is_standard_input(named):
        yield standard_input(most)
        return
    path = path_of(named)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    is_packed = path.suffix.lower() == ".gz"
    with (
        path.open("rb") as stored,
        gzip.open(stored) if is_packed else contextlib.nullcontext(stored) as file,
    ):
        yield file if most is None else _beginnings(file, most + _MORE)


def _beginnings(file: Any, most: int) -> Iterator[bytes]:
    """The lines of a file, of which so many bytes are in memory."""
    while line := file.readline(most):
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(_CHUNK)


def _check_start(line: bytes, name: str) -> None:
    for start, kind in _OTHERS.items():
        if line.startswith(start):
            raise ValueError(f"The file {name} is no UTF-8 text. It is {kind}.")


def _decoded(line: bytes, errors: str, name: str, number: int) -> str:
    if b"\0" in line:
        raise ValueError(
            f"Line {number} of {name} is no UTF-8 text: it has a NUL byte. UTF-16 can be converted "
            "with iconv -f UTF-16LE -t UTF-8."
        )
    try:
        return line.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Line {number} of {name} is not UTF-8: byte {line[error.start]:#04x} at "
            f"position {error.start}."
        ) from error
