"""Results that are kept as they come in: one line of JSON each, outside the tree.

A result holds for the code, the versions, the machine and the options that it was measured with.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# What a change of makes a result another one: not the tables and this file.
CODE = ("keras_luong/**/*.py", "benchmarks/peers/*.py")
VERSIONS = ("keras", "numpy", "tensorflow")  # the peers' stand in `environments.py`, which is code


class Kept:
    """Results by what they were measured with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Read once: a change while the run measures must not be taken for what was measured.
        self.code, self.commit, self.machine = code(), commit(), machine()
        self.results: dict[str, dict] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    result = json.loads(line)
                except json.JSONDecodeError:  # empty, or the run was ended while it wrote
                    continue
                self.results[result["key"]] = result

    def find(self, name: str, arguments: dict) -> dict | None:
        return self.results.get(self._key(name, arguments))

    def add(self, name: str, arguments: dict, found: Any, seconds: float) -> dict:
        result = {
            "key": self._key(name, arguments),
            "name": name,
            "arguments": arguments,
            "date": datetime.date.today().isoformat(),
            "commit": self.commit,
            "machine": self.machine,
            "seconds": round(seconds, 1),
            "found": found,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            # The line break stands before it too: the last line may have been cut off.
            file.write("\n" + json.dumps(result) + "\n")
        self.results[result["key"]] = result
        return result

    def _key(self, name: str, arguments: dict) -> str:
        versions = [importlib.metadata.version(one) for one in VERSIONS]
        parts = [name, arguments, self.code, self.machine, versions]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def code() -> str:
    """A hash of the package and of what measures it."""
    total = hashlib.sha256()
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def commit() -> str:
    """The commit that stands in the tree, and whether what measures differs from it."""
    changed = _git("status", "--porcelain", "--", *(pattern.split("/*")[0] for pattern in CODE))
    return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    """Empty where there is no git."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine() -> str:
    """Cores and processor."""
    return f"{os.cpu_count()} cores of {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
