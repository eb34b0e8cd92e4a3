"""A process that stays alive and answers orders: JSON lines over its pipes.

Only the standard library: the peers' environments run the worker's side of it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

# What libraries print about themselves would bury the table.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}


class Worker:
    """The driver's end: `ask` sends one order and waits for its answer."""

    def __init__(self, python: str, script: str, *arguments: str, **environment: str) -> None:
        self.script = script
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        self.process = subprocess.Popen(
            [python, script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **_QUIET, **environment},
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def ask(self, order: str, /, **arguments: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps([order, arguments]) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.errors.seek(0)
            sys.stderr.write(self.errors.read()[-5000:])
            raise SystemExit(f"{self.script} ended at {order!r}; its error stands above.")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()  # the end of its orders ends the worker
        self.process.wait()


def serve(answers: dict[str, Callable[..., Any]]) -> None:
    """The worker's end: answers orders until there are no more."""
    # Answers alone go into the pipe; whatever else is printed goes to the error stream.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order, arguments = json.loads(line)
        print(json.dumps(answers[order](**arguments)), file=pipe, flush=True)
