"""Folders and files that appear complete or not at all."""

import contextlib
import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from keras_luong.paths import PathLike, RemotePath, path_of, remove_tree

# That a file system cannot flush a folder, as CIFS, vboxsf and some of FUSE say it.
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


@contextlib.contextmanager
def whole_folder(path: PathLike) -> Iterator[Path]:
    """A folder to fill, which becomes `path` when it is full and on the disk, or never.

    It is filled beside `path` under another name, flushed to the disk and renamed, so that neither
    a crash nor a full disk leaves half of it under the name that others read. Where the file system
    cannot flush, that step is left out.

    A `path` with a scheme is filled in a local temporary folder, copied beside `path` and renamed
    there. On a file system with folders (HDFS) that is the same promise. An object store (GCS, S3)
    renames file by file: each file is whole, and for that moment, or after a crash in it, not all
    of them are there.

    Args:
        path: What the folder is to be called. Its parents are made.

    Raises:
        FileExistsError: If `path` exists, at the start or when the folder is full.
        OSError: If it cannot be written.
        ValueError: For a scheme that has no file system here.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with whole_folder(f"{parent}/1") as folder:
    ...         _ = (folder / "file").write_text("content")
    ...     print(sorted(os.listdir(parent)))
    ['1']
    """
    target = path_of(path)
    if target.exists():
        raise FileExistsError(f"{str(target)!r} exists and is not overwritten.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(target)
    try:
        with _filled(unfinished) as folder:
            yield folder
        # A rename would replace an empty folder in silence.
        if target.exists():
            raise FileExistsError(f"{str(target)!r} appeared meanwhile and is not overwritten.")
        unfinished.rename(target)  # type: ignore[arg-type]
        _flush_to_disk(target.parent)
    finally:
        with contextlib.suppress(OSError):  # what went wrong before says more
            remove_tree(unfinished)


@contextlib.contextmanager
def whole_file(path: PathLike) -> Iterator[Path | RemotePath]:
    """A file to write, which then takes the place of `path`, or never.

    Args:
        path: What the file is to be called. Its folder must be there.
    """
    target = path_of(path)
    unfinished = _unfinished(target)
    try:
        yield unfinished
        _flush_to_disk(unfinished)
        unfinished.replace(target)  # type: ignore[arg-type]
    finally:
        unfinished.unlink(missing_ok=True)


def _unfinished(path: Path | RemotePath) -> Path | RemotePath:
    # A leading dot and letters: TF Serving, which looks for integers, never takes it for a version.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")


@contextlib.contextmanager
def _filled(path: Path | RemotePath) -> Iterator[Path]:
    """A new folder, on the disk when it is filled; of a remote one, a local stand-in."""
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            path.upload(Path(folder))
        return
    path.mkdir()
    yield path
    for part in (*path.rglob("*"), path):
        _flush_to_disk(part)


def _flush_to_disk(path: Path | RemotePath) -> None:
    if isinstance(path, RemotePath):
        return  # whole when it is closed
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)
