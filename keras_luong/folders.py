"""Folders and files that appear complete or not at all."""

import contextlib
import errno
import logging
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from keras_luong.paths import PathLike, RemotePath, path_of, remove_tree

# That a file system cannot flush a folder, as CIFS, vboxsf and some of FUSE say it.
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
_LOGGER = logging.getLogger("keras_luong")
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}\.unfinished", re.DOTALL)
_ABANDONED = 3600  # seconds


@contextlib.contextmanager
def whole_folder(path: PathLike, last: str = "") -> Iterator[Path]:
    """A folder to fill, which becomes `path` when it is full and on the disk, or never.

    It is filled beside `path` under another name, flushed to the disk and renamed, so that neither
    a crash nor a full disk leaves half of it under the name that others read. Where the file system
    cannot flush, that step is left out. A process that is killed leaves the other name,
    `.<name>.<letters>.unfinished`. The next call in the same parent folder removes such leftovers
    once they are an hour old.

    A `path` with a scheme is filled in a local temporary folder and copied file by file, since
    object stores have no folders to rename. There each file is whole, and all are there when the
    one called `last` is: readers look for it first. A copy that fails is removed; a process that
    dies in the middle of one leaves some files, without `last`.

    Args:
        path: What the folder is to be called. Its parents are made.
        last: The file in the folder that is copied last.

    Raises:
        FileExistsError: If `path` exists, at the start or when the folder is full.
        OSError: If it cannot be written, as on a full disk.
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
    if isinstance(target, RemotePath):
        with tempfile.TemporaryDirectory() as stand_in:
            yield Path(stand_in)
            _check_still_free(target)
            _upload(Path(stand_in), target, last)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_unfinished(target.parent)
    folder = target.with_name(_unfinished_name(target))
    folder.mkdir()
    try:
        yield folder
        for part in (*folder.rglob("*"), folder):
            _flush_to_disk(part)
        # A rename would replace an empty folder in silence.
        _check_still_free(target)
        folder.rename(target)
        _flush_to_disk(target.parent)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        # What a `write` raises does not say where there is no room.
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path: PathLike) -> Iterator[Path]:
    """A file to write, which then takes the place of `path`, or never.

    Args:
        path: What the file is to be called. Its parents are made.
    """
    target = path_of(path)
    if isinstance(target, RemotePath):
        with tempfile.TemporaryDirectory() as stand_in:
            yield Path(stand_in) / target.name
            unfinished = target.parent / _unfinished_name(target)
            unfinished.upload(Path(stand_in) / target.name)
            unfinished.replace(target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_unfinished(target.parent)
    partial = target.with_name(_unfinished_name(target))
    try:
        yield partial
        _flush_to_disk(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _check_still_free(path: Path | RemotePath) -> None:
    if path.exists():
        raise FileExistsError(f"{str(path)!r} appeared meanwhile and is not overwritten.")


def _upload(folder: Path, target: RemotePath, last: str) -> None:
    """Copies what is in a folder; all or, if that fails, nothing."""
    try:
        for part in sorted(folder.iterdir(), key=lambda part: part.name == last):
            (target / part.name).upload(part)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong before says more
            remove_tree(target)
        raise


def _unfinished_name(path: Path | RemotePath) -> str:
    # A leading dot and letters: TF Serving, which looks for integers, never takes it for a version.
    return f".{path.name}.{uuid.uuid4().hex}.unfinished"


def sweep_unfinished(parent: Path) -> None:
    """Removes what killed processes left in a folder of what they were filling; a log line says so.

    What has been written into within the hour stays: its process may still be at work.
    """
    for left in parent.glob(".*.unfinished"):
        if _UNFINISHED.fullmatch(left.name) and time.time() - _last_written(left) > _ABANDONED:
            _LOGGER.warning("%s was left by a process that died, and is removed.", left)
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()


def _last_written(path: Path) -> float:
    """When a file, or anything in a folder, was last written; now if it is just going."""
    try:
        return max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)
