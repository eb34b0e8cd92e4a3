"""Which ops the stock TF Serving has, by release: `servable_ops.txt`, read."""

import functools
from pathlib import Path

_LIST = Path(__file__).with_name("servable_ops.txt")


@functools.cache
def _table() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """The releases, oldest first, and those that have an op, by op."""
    releases: tuple[str, ...] = ()
    having = {}
    for line in _LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith("# Releases: "):
            releases = tuple(line.split()[2:])
        elif not line.startswith("#"):
            op, *some = line.split()
            having[op] = tuple(some) or releases
    return releases, having


def releases() -> tuple[str, ...]:
    """The releases that are known, oldest first.

    Example:

    >>> releases()
    ('2.18', '2.19', '2.20')
    """
    return _table()[0]


def releases_with(op: str) -> tuple[str, ...]:
    """The releases that have a CPU kernel for an op.

    Example:

    >>> releases_with("MatMul"), releases_with("TFText>RoundRobinTrim"), releases_with("Mine")
    (('2.18', '2.19', '2.20'), ('2.20',), ())
    """
    return _table()[1].get(op, ())
