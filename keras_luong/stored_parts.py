"""The files of a folder that somebody else may have written, and their hashes."""

import contextlib
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from keras_luong.paths import RemotePath, local_copy

SUMS: Final = "SHA256SUMS"

_BLOCK: Final = 2**20
_LARGEST_SUMS: Final = 2**16  # bytes
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def part_of(folder: Path | RemotePath, name: str) -> Path | RemotePath:
    """The path of a file in a folder.

    Raises:
        ValueError: If it is not there, is no file, or a link that leads out of the folder: whoever
            hands on a folder would choose which file of this machine is read.
    """
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} must hold a file {name!r}.")
    leads_out = isinstance(path, Path) and not path.resolve().is_relative_to(Path(folder).resolve())
    if leads_out:
        raise ValueError(
            f"{str(path)!r} must be a file of its folder. It is a link that leads out of it: copy "
            f"the folder with its links followed (cp -rL), if you trust them."
        )
    return path


@contextlib.contextmanager
def local_parts(folder: Path | RemotePath, names: Collection[str]) -> Iterator[dict[str, Path]]:
    """Files of a folder by name, as `part_of` allows them; of a remote one copies, for a while."""
    with contextlib.ExitStack() as copies:
        yield {name: copies.enter_context(local_copy(part_of(folder, name))) for name in names}


def write_sums(folder: Path) -> None:
    """Writes the SHA-256 of every file in a folder into its `SHA256SUMS`.

    The format is that of `sha256sum`: in the folder, `sha256sum -c SHA256SUMS` checks it too.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    lines = [f"{_sum_of(path)}  {path.name}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(folder: Path | RemotePath, names: Collection[str]) -> dict[str, str]:
    """The SHA-256 of files by name, from the `SHA256SUMS` of their folder.

    Raises:
        ValueError: If it has not exactly those names, or is no such file.
    """
    file = part_of(folder, SUMS)
    size = file.stat().st_size
    lines = file.read_bytes().decode(errors="replace").splitlines() if size < _LARGEST_SUMS else []
    matches = [_LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in matches if match}
    if len(sums) != len(lines) or sums.keys() != {*names}:
        raise ValueError(
            f"{str(file)!r} must hold the SHA-256 of {', '.join(sorted(names))}, as sha256sum "
            "writes them."
        )
    return sums


def check_sums(folder: Path | RemotePath, parts: Mapping[str, Path]) -> None:
    """Reads files through, by name, and compares each with the `SHA256SUMS` of their folder.

    Raises:
        ValueError: For the first that differs.
    """
    sums = read_sums(folder, parts)
    for name, path in parts.items():
        check_sum(path, sums[name], folder)


def check_sum(path: Path, expected: str, folder: Path | RemotePath) -> None:
    """Reads a file through, and raises a `ValueError` if its SHA-256 is another."""
    for _ in checked_blocks(path, expected, folder):
        pass


def checked_blocks(path: Path, expected: str, folder: Path | RemotePath) -> Iterator[bytes]:
    """The content of a file in blocks of 1 MiB.

    Args:
        path: The file, or a copy of it.
        expected: Its SHA-256.
        folder: Where it belongs, for the error.

    Raises:
        ValueError: At the end, if its SHA-256 is another.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            yield block
    if digest.hexdigest() != expected:
        raise ValueError(
            f"{str(folder / path.name)!r} is not what was written there: its SHA-256 must be "
            f"{expected}, as {SUMS} says. Received: {digest.hexdigest()}"
        )


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
