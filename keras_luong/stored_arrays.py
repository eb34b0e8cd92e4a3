"""Arrays that somebody else may have written: checked before memory is taken for them."""

import contextlib
import io
import math
import os
import reprlib
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

Shape = tuple[int | None, ...]

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

_KINDS = {"b": "boolean", "i": "integers", "u": "integers without sign", "f": "floats"}


class ArrayArchive(NamedTuple):
    """The arrays of an `.npz` file, read one by one.

    Attributes:
        path: The file.
        archive: Its arrays.
    """

    path: Path
    archive: zipfile.ZipFile

    def read(self, name: str, kinds: str, shape: Shape | None = None) -> np.ndarray:
        """Reads an array.

        Args:
            name: Its name.
            kinds: Letters of NumPy for the kinds of numbers that it may hold: `"iu"`, `"f"`.
            shape: The sizes that it must have, `None` for any; without it any shape.

        Raises:
            ValueError: If it is another one, or its header declares another size than it has.
        """
        with _naming(self.path, f"`{name}`"), self.archive.open(f"{name}.npy") as file:
            size = self.archive.getinfo(f"{name}.npy").file_size
            return _array(file, size, kinds, shape)


@contextlib.contextmanager
def array_archive(path: Path, names: Collection[str]) -> Iterator[ArrayArchive]:
    """Opens what `numpy.savez` wrote.

    Archives that are compressed raise: so no array takes more memory than its file has bytes.

    Args:
        path: The file.
        names: The arrays that it must hold, and no others.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such archive, or a truncated one.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "ids.npz"
    ...     np.savez(file, ids=np.arange(3))
    ...     with array_archive(file, ["ids"]) as archive:
    ...         print(archive.read("ids", "iu", (None,)))
    [0 1 2]
    """
    with contextlib.ExitStack() as opened:
        with _naming(path, "it"):
            archive = opened.enter_context(zipfile.ZipFile(path))
            check_members(archive, path)
            _check_names(archive.namelist(), names)
        yield ArrayArchive(path, archive)


def check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises for an archive whose members are more than its file has bytes for.

    Raises:
        ValueError: If a member is compressed, or they overlap.
    """
    packed = [one.filename for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ValueError(f"its parts must not be compressed. Received: {packed[:5]}")
    declared, there = sum(one.file_size for one in archive.infolist()), path.stat().st_size
    if declared > there:
        raise ValueError(f"its parts declare {declared} bytes, and it has {there}")


def read_array(path: Path, kinds: str, shape: Shape) -> np.ndarray:
    """Reads what `numpy.save` wrote, as `ArrayArchive.read` does."""
    with _naming(path, "the array"), path.open("rb") as file:
        return _array(file, os.fstat(file.fileno()).st_size, kinds, shape)


@contextlib.contextmanager
def _naming(path: Path, place: str) -> Iterator[None]:
    """Has errors name the file and the place."""
    try:
        yield
    # NotImplementedError and RuntimeError are zipfile's for features of other archives.
    except (ValueError, zipfile.BadZipFile, EOFError, RuntimeError, KeyError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {place}: {error}") from error


def _check_names(found: list[str], names: Collection[str]) -> None:
    wanted = sorted(f"{name}.npy" for name in names)
    if sorted(found) != wanted:
        missing, other = sorted({*wanted} - {*found})[:5], sorted({*found} - {*wanted})[:5]
        raise ValueError(
            f"it must hold {len(wanted)} arrays, each once. Received: {len(found)}; missing: "
            f"{missing}; unknown: {other}"
        )


def check_finite(place: str, array: np.ndarray, may_be_infinite: bool = False) -> None:
    """Raises for numbers that are none.

    Raises:
        ValueError: With the place.
    """
    if array.dtype.kind != "f":
        return
    wrong = np.isnan(array) if may_be_infinite else ~np.isfinite(array)
    if wrong.any():
        allowed, count = "no NaN" if may_be_infinite else "finite numbers", np.count_nonzero(wrong)
        raise ValueError(f"{place} must hold {allowed}. Received: {count} others of {wrong.size}")


def _array(file: IO[bytes], size: int, kinds: str, shape: Shape | None) -> np.ndarray:
    dtype, found = _header(file)
    if dtype.kind not in kinds:
        raise ValueError(
            f"its numbers must be {' or '.join(_KINDS[kind] for kind in kinds)}. Received: {dtype}"
        )
    if min(found, default=0) < 0 or not (shape is None or _fits(found, shape)):
        raise ValueError(f"it must have the shape {shape}. Received: {found}")
    declared, there = math.prod(found) * dtype.itemsize, size - file.tell()
    if declared != there:
        raise ValueError(f"its header declares {declared} bytes of numbers, and there are {there}")
    file.seek(0, io.SEEK_SET)
    return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    try:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = _HEADERS[version](file)
    except Exception as error:  # Python parses the header, and raises what it likes
        reason = reprlib.repr(f"{type(error).__name__}: {error}")
        raise ValueError(f"it has no header of an array ({reason})") from error
    return dtype, shape


def _fits(found: tuple[int, ...], shape: Shape) -> bool:
    return len(found) == len(shape) and all(
        wanted in (None, there) for there, wanted in zip(found, shape, strict=True)
    )
