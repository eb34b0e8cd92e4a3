"""What says which pairs a model was trained on."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from keras_luong.stored_json import record, text, whole

Pair = tuple[str, str]
_SHA256 = text("[0-9a-f]{64}")
# What `Fingerprint.facts` returns, where it is read from a file.
CHECKED_FACTS = record({"pairs": whole(), "source_sha256": _SHA256, "target_sha256": _SHA256})


def fingerprint_of(pairs: Iterable[Pair]) -> dict[str, Any]:
    """`Fingerprint.facts` of pairs that are at hand."""
    fingerprint = Fingerprint()
    for _ in fingerprint.of(pairs):
        pass
    return fingerprint.facts()


class Fingerprint:
    r"""Counts pairs as they pass, and takes the SHA-256 of both sides, every line ended by `\n`.

    So the sums are what `sha256sum` says of two files with one sentence a line.

    Example:

    >>> fingerprint = Fingerprint()
    >>> list(fingerprint.of([("one", "eins")]))
    [('one', 'eins')]
    >>> fingerprint.facts()["source_sha256"][:16]  # printf 'one\n' | sha256sum
    '2c8b08da5ce60398'
    """

    def __init__(self) -> None:
        self._count = 0
        self._source, self._target = hashlib.sha256(), hashlib.sha256()

    def of(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Hands the pairs on."""
        for source, target in pairs:
            self._source.update(source.encode() + b"\n")
            self._target.update(target.encode() + b"\n")
            self._count += 1
            yield source, target

    def facts(self) -> dict[str, Any]:
        """`pairs`, `source_sha256` and `target_sha256` of all that passed."""
        return {
            "pairs": self._count,
            "source_sha256": self._source.hexdigest(),
            "target_sha256": self._target.hexdigest(),
        }
