"""One process at a time: locks that a process loses when it ends, however it ends."""

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from keras_luong.paths import RemotePath

_LOGGER = logging.getLogger("keras_luong")
# What a lock that another process holds is, by POSIX; anything else says that there are no locks.
_HELD = {errno.EACCES, errno.EAGAIN}


class _Lock(NamedTuple):
    descriptor: int
    holders: int


# Of this process. POSIX gives a process its locks back when it closes *any* descriptor of the file:
# it must be opened once.
_locks: dict[Path, _Lock] = {}


def locked_folder(folder: Path | RemotePath) -> contextlib.AbstractContextManager[None]:
    """Keeps other processes out of a folder that is written into for long.

    Its file `.lock` names the process, and is removed at the end. The lock of a killed process
    ends with it, although the file stays. One process may take a lock several times. A file system
    without locks keeps no one out, and a warning is logged.

    Args:
        folder: Made when it is missing; removed again if it is still empty then.

    Raises:
        BlockingIOError: If another process is there, with its number and host.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with locked_folder(Path(parent) / "checkpoints"):
    ...         print(os.listdir(f"{parent}/checkpoints"))
    ...     print(os.listdir(parent))
    ['.lock']
    []
    """
    return _locked(folder, folder, ".lock")


def locked_name(path: Path | RemotePath) -> contextlib.AbstractContextManager[None]:
    """Keeps other processes from making a file or folder of this name, as `locked_folder` does.

    The lock, `.<name>.lock`, stands beside it.
    """
    return _locked(path, path.parent, f".{path.name}.lock")


@contextlib.contextmanager
def _locked(subject: Path | RemotePath, folder: Path | RemotePath, name: str) -> Iterator[None]:
    if isinstance(folder, RemotePath):
        _say_unlocked(subject)
        yield
        return
    missing = [one for one in (folder, *folder.absolute().parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _held(folder.resolve() / name, subject):
            yield
    finally:
        with contextlib.suppress(OSError):  # of one that has something in it by then
            for one in missing:
                one.rmdir()


@contextlib.contextmanager
def _held(file: Path, subject: Path | RemotePath) -> Iterator[None]:
    lock = _locks.get(file) or _Lock(_acquired(file, subject), 0)
    _locks[file] = lock._replace(holders=lock.holders + 1)
    try:
        yield
    finally:
        lock = _locks[file]
        if lock.holders > 1:
            _locks[file] = lock._replace(holders=lock.holders - 1)
        else:
            del _locks[file]
            file.unlink(missing_ok=True)  # before the lock ends: it is still ours
            os.close(lock.descriptor)


def _acquired(file: Path, subject: Path | RemotePath) -> int:
    while True:
        # No link is followed, for what is behind it would be overwritten.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                holder = os.read(descriptor, 1000).decode(errors="replace").strip()
                os.close(descriptor)
                raise BlockingIOError(
                    f"{str(subject)!r} is being written by {holder or 'another process'}: wait for "
                    "it, stop it, or give another path."
                ) from None
            _say_unlocked(subject)
        if _is_still(descriptor, file):
            with contextlib.suppress(OSError):  # on a full disk it is a lock all the same
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)  # whoever held it has just removed it


def _is_still(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _say_unlocked(subject: object) -> None:
    _LOGGER.warning("%s has no locks: see to it that no other process writes there.", subject)
