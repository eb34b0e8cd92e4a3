"""Which sentence pairs are worth learning from."""

import dataclasses
from collections.abc import Iterable, Iterator

from keras_luong.checked_numbers import count_of, number_of
from keras_luong.iterables import pairs_of
from keras_luong.layers.arguments import checked_flag

Pair = tuple[str, str]


@dataclasses.dataclass
class PairFilter:
    """Leaves out pairs that teach a model the wrong thing, and counts them by reason.

    Words are what stands between spaces. A pair is dropped for the first reason that holds, in this
    order: `"empty"`, a side has no words; `"too_long"`; `"ratio"`, one side has so many more words
    than the other that it can hardly be its translation; `"copy"`, both sides are the same text;
    `"duplicate"`, the pair was there before.

    Args:
        max_words: The most words that either side may have.
        max_ratio: The most that the longer side may have as a multiple of the shorter.
        copies: Whether pairs stay whose sides are equal.
        duplicates: Whether pairs stay that were there before. To know them, a number is kept of
            every pair.

    Attributes:
        dropped: Number of pairs dropped so far, by reason.
        kept: Number of pairs kept so far.

    Raises:
        ValueError: If `max_words` is no integer from 1 on, or `max_ratio` is below 1.
        TypeError: If `copies` or `duplicates` is not True or False.

    Example:

    >>> only = PairFilter(max_words=3, max_ratio=2.0)
    >>> pairs = [("a dog", "ein Hund"), ("a dog", "ein Hund"), ("no", "und so weiter"), ("a", "")]
    >>> list(only(pairs))
    [('a dog', 'ein Hund')]
    >>> print(only.dropped)
    {'empty': 1, 'too_long': 0, 'ratio': 1, 'copy': 0, 'duplicate': 1}

    Reference:
        Limits of length and ratio are those of the field's usual recipes, such as
        [Koehn et al. 2007](https://aclanthology.org/P07-2045).
    """

    max_words: int = 100
    max_ratio: float = 9.0
    copies: bool = False
    duplicates: bool = False
    kept: int = dataclasses.field(default=0, init=False, repr=False)
    dropped: dict[str, int] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.max_words = count_of("max_words", self.max_words)
        self.max_ratio = number_of("max_ratio", self.max_ratio)
        if not self.max_ratio >= 1:
            raise ValueError(f"`max_ratio` must be at least 1. Received: {self.max_ratio}")
        self.copies = checked_flag("copies", self.copies)
        self.duplicates = checked_flag("duplicates", self.duplicates)
        self.dropped = dict.fromkeys(("empty", "too_long", "ratio", "copy", "duplicate"), 0)
        self._seen: set[int] = set()

    def __call__(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Yields the pairs that stay, in their order, one at a time: files may be of any size."""
        for pair in pairs_of("pairs", pairs):
            reason = self._reason(*pair)
            if reason:
                self.dropped[reason] += 1
            else:
                self.kept += 1
                yield pair

    def _reason(self, source: str, target: str) -> str | None:
        shorter, longer = sorted((len(source.split()), len(target.split())))
        if not shorter:
            return "empty"
        if longer > self.max_words:
            return "too_long"
        if longer > self.max_ratio * shorter:
            return "ratio"
        if not self.copies and source.strip() == target.strip():
            return "copy"
        return None if self.duplicates or self._is_new(source, target) else "duplicate"

    def _is_new(self, source: str, target: str) -> bool:
        # Hashes of 64 bits instead of texts: of 10^8 pairs they confuse less than one.
        key = hash((source.strip(), target.strip()))
        if key in self._seen:
            return False
        self._seen.add(key)
        return True
