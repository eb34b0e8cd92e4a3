"""Paths, local ones and those with a scheme such as `gs://bucket/en_de`.

TensorFlow's file systems do the work where there is a scheme, and TensorFlow is imported then.
"""

import contextlib
import dataclasses
import fnmatch
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

PathLike = str | os.PathLike[str]

# Two letters at least: one is a drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)")


def path_of(path: PathLike) -> "Path | RemotePath":
    """The path that a user names: a `Path`, or what has its methods where there is a scheme.

    `~` is the home directory. `file://` is a local path. Another scheme is tried here, so that
    what cannot be written fails before any work.

    Raises:
        OSError: If the file system of the scheme does not answer.
        ValueError: If there is no file system for the scheme, and for `pathlib.Path("gs://...")`,
            which has one slash less.

    Example:

    >>> path_of("file:///tmp/en_de").name
    'en_de'
    """
    text = os.fspath(path)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Path(os.path.expanduser(text))
    if not scheme[2]:
        raise ValueError(
            f"A path with a scheme must have two slashes and be a `str`, since `pathlib.Path` "
            f"takes one away: '{scheme[1]}://...'. Received: {path!r}"
        )
    if scheme[1] == "file":
        return Path(text.removeprefix("file://"))
    _check_scheme(scheme[1], text)
    remote = RemotePath(text.rstrip("/") if text.count("/") > 2 else text)
    remote.exists()
    return remote


@contextlib.contextmanager
def local_copy(path: "Path | RemotePath") -> Iterator[Path]:
    """A file or folder for those who read local files only; of a remote one a copy, for a while."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        path.download(copy)
        yield copy


def remove_tree(folder: "Path | RemotePath") -> None:
    """Removes a folder and all that is in it, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder) if isinstance(folder, Path) else folder.rmtree()


class Facts(NamedTuple):
    """Of a file: its size in bytes, and when it was last written, in ns."""

    st_size: int
    st_mtime_ns: int


@dataclasses.dataclass(frozen=True)
class RemotePath:
    """The methods of `pathlib.Path` that this package calls, on the file systems of TensorFlow.

    Args:
        url: The path with its scheme, without a slash at the end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        return self.url

    def __truediv__(self, name: PathLike) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{os.fspath(name)}")

    @property
    def name(self) -> str:
        return self.url.partition("://")[2].rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> "RemotePath":
        scheme, _, rest = self.url.partition("://")
        return RemotePath(f"{scheme}://{rest.rpartition('/')[0] or rest}")

    def absolute(self) -> "RemotePath":
        return self

    def exists(self) -> bool:
        with _file_system() as files:
            return files.exists(self.url)

    def is_dir(self) -> bool:
        with _file_system() as files:
            return files.isdir(self.url)

    def is_file(self) -> bool:
        return self.exists() and not self.is_dir()

    def stat(self) -> Facts:
        with _file_system() as files:
            found = files.stat(self.url)
        return Facts(found.length, found.mtime_nsec)

    def iterdir(self) -> Iterator["RemotePath"]:
        with _file_system() as files:
            names = files.listdir(self.url)
        return (self / name.rstrip("/") for name in names)  # object stores mark folders so

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        there = self.iterdir() if self.is_dir() else iter(())
        return (one for one in there if fnmatch.fnmatchcase(one.name, pattern))

    def replace(self, target: "RemotePath") -> None:
        """Gives a file another name, over a file that has it. Few schemes can rename folders."""
        with _file_system() as files:
            files.rename(self.url, target.url, overwrite=True)

    def unlink(self) -> None:
        with _file_system() as files:
            files.remove(self.url)

    def rmtree(self) -> None:
        with _file_system() as files:
            files.rmtree(self.url)

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        with _file_system() as files:
            return io.BufferedReader(_RawFile(files.GFile(self.url, mode)))

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def download(self, target: Path) -> None:
        """Copies a file, or a folder with all that is in it, to this machine."""
        if self.is_dir():
            target.mkdir()
            for part in self.iterdir():
                part.download(target / part.name)
        else:
            with _file_system() as files:
                files.copy(self.url, str(target))

    def upload(self, source: Path) -> None:
        """Copies a local file, or a folder with all that is in it, to this path."""
        if source.is_dir():
            for part in source.iterdir():
                (self / part.name).upload(part)
            return
        with _file_system() as files:
            files.makedirs(self.parent.url)
            files.copy(str(source), self.url)


class _RawFile(io.RawIOBase):
    """A file of `tf.io.gfile`, whose own `readline` cannot stop before a line ends."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _file_system():
            read = self._file.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def _file_system() -> Iterator[Any]:
    """`tf.io.gfile`, whose errors are Python's own."""
    import tensorflow as tf

    try:
        yield tf.io.gfile
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(error.message) from error
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _check_scheme(scheme: str, path: str) -> None:
    try:
        with _file_system() as files:
            known = files.get_registered_schemes()
    except ImportError as error:
        raise ValueError(
            f"A path with a scheme needs TensorFlow, which is not installed. Received: {path!r}"
        ) from error
    if scheme not in known:
        named = ", ".join(sorted(f"{one}://" for one in known if one))
        raise ValueError(
            f"TensorFlow has no file system for {scheme}:// here. It has {named}; a package such "
            f"as tensorflow-io adds others when it is imported. Received: {path!r}"
        )
