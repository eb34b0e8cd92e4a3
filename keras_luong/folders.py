"""Folders and files that appear complete or not at all."""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from keras_luong.paths import PathLike, RemotePath, path_of, remove_tree

# That a file system cannot flush a folder, as CIFS, vboxsf and some of FUSE say it.
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


@contextlib.contextmanager
def whole_folder(path: PathLike, last: str = "") -> Iterator[Path]:
    """A folder to fill, which becomes `path` when it is full and on the disk, or never.

    It is filled beside `path` under another name, flushed to the disk and renamed, so that neither
    a crash nor a full disk leaves half of it under the name that others read. Where the file system
    cannot flush, that step is left out.

    A `path` with a scheme is filled in a local temporary folder and copied file by file, since
    object stores have no folders to rename. There each file is whole, and all are there when the
    one called `last` is: readers look for it first. A copy that fails is removed; a process that
    dies in the middle of one leaves some files, without `last`.

    Args:
        path: What the folder is to be called. Its parents are made.
        last: The file in the folder that is copied last.

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
    if isinstance(target, RemotePath):
        with tempfile.TemporaryDirectory() as stand_in:
            yield Path(stand_in)
            _check_still_free(target)
            _upload(Path(stand_in), target, last)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
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
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path: PathLike) -> Iterator[Path]:
    """A file to write, which then takes the place of `path`, or never.

    Args:
        path: What the file is to be called. Its folder must be there.
    """
    target = path_of(path)
    if isinstance(target, RemotePath):
        with tempfile.TemporaryDirectory() as stand_in:
            yield Path(stand_in) / target.name
            unfinished = target.parent / _unfinished_name(target)
            unfinished.upload(Path(stand_in) / target.name)
            unfinished.replace(target)
        return
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


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)
