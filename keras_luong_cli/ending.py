"""How the command ends when its standard streams or signals do not let it go on."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

TERMINATED = 128 + signal.SIGTERM


@contextlib.contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """Has SIGTERM raise `SystemExit(143)` meanwhile, so that what is half written goes."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread set signal handlers
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def open_streams() -> bool:
    """Has what a process was started without lead nowhere, lest a file take its number.

    What TensorFlow then says on standard error would stand in the file. And what Python prints to
    a standard error that is closed goes to standard output.

    Returns:
        Whether standard output was open.
    """
    closed = [number for number in range(3) if not _is_open(number)]
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # the lowest free number is given out
    if 2 in closed:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    return 1 not in closed


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def naming_standard_output() -> Iterator[None]:
    """Has errors of a write to it name it, as those of files do."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def say(text: str) -> None:
    """Writes a line to standard error, if there is somebody to read it."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def drop_unwritten() -> None:
    """Keeps Python from writing at its end what could not be written before."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
