"""TensorFlow's import, without its notes."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator

# Six lines of TensorFlow 2.21: about oneDNN, about CUDA, and that they come before the log's start.
_NOTE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|I\d{4} [\d:.]+ +\d+ [\w/]+\.cc:\d+\] "
)


@contextlib.contextmanager
def without_import_notes() -> Iterator[None]:
    """Hides what TensorFlow notes about processor and GPU while it is imported.

    C++ writes these notes before it reads `TF_CPP_MIN_LOG_LEVEL`. So standard error goes through a
    second process meanwhile, which passes on all other lines: at once, and even if this one dies.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules or sys.stderr is None or not hasattr(os, "fork"):
        yield
        return
    sys.stderr.flush()
    standard_error = os.dup(2)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        _pass_on(reading)
    os.close(reading)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(standard_error, 2)
        os.close(standard_error)
        os.waitpid(child, 0)


def _pass_on(reading: int) -> None:
    """Writes to standard error what is read until its end, without the notes; ends the process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the other process says what becomes of them
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError), os.fdopen(reading, "rb") as lines:
        for line in lines:
            if not _NOTE.match(line):
                os.write(2, line)
    os._exit(0)
