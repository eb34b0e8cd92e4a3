"""How well attention aligns words, against alignments made by people."""

import re
import reprlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from keras_luong.iterables import list_of, list_of_texts
from keras_luong.paths import PathLike
from keras_luong.text_files import read_lines
from keras_luong.training.alignment_images import Alignment

Links = frozenset[tuple[int, int]]

# `3-4` is sure, `3p4` and `3?4` are possible.
_LINK = re.compile(r"([0-9]{1,9})([-p?])([0-9]{1,9})")
_WORD_START = "▁"


class GoldAlignment(NamedTuple):
    """What people say of a sentence, as pairs of word numbers (source, target) from 0.

    Attributes:
        sure: Links that must be there.
        possible: Links that may be there; every sure link is one of them.
    """

    sure: Links
    possible: Links


def read_gold_alignments(path: PathLike) -> list[GoldAlignment]:
    """Reads alignments in the Pharaoh format: one sentence a line, links as `source-target`.

    Words are counted from 0. A link `3-4` is sure; `3p4` or `3?4` is possible and no more. A
    sentence without links is an empty line. `.gz` is unpacked, and `"-"` is standard input.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For anything else in a line, with its number.
    """
    return [_gold(line, number, path) for number, line in enumerate(read_lines(path), start=1)]


def _gold(line: str, number: int, path: PathLike) -> GoldAlignment:
    sure, possible = set(), set()
    for word in line.split():
        match = _LINK.fullmatch(word)
        if match is None:
            raise ValueError(
                f"Line {number} of {str(path)!r} must hold links such as 3-4 (sure) or 3p4 "
                f"(possible). Received: {reprlib.repr(word)}"
            )
        link = int(match[1]), int(match[3])
        possible.add(link)
        if match[2] == "-":
            sure.add(link)
    return GoldAlignment(frozenset(sure), frozenset(possible))


def word_links(alignment: Alignment) -> Links:
    """The source word that each target word looks at most, as links.

    A word is what begins with `"▁"` and goes on to the next such token; before the first, tokens
    are a word too. What stands for no word (the end token) takes no part: it is told by being a
    token `"</s>"`. The attention of a word on a word is summed over the tokens of the source's and
    averaged over those of the target's, so the argmax is that of the sum of both; ties go to the
    first word.

    Args:
        alignment: Tokens and scores of one sentence: what `Translator.align` returns, or, of given
            translations, the `alignment` of what `Translator.score` does.

    Example:

    >>> tokens = ["▁ein", "▁Hu", "nd"], ["▁a", "▁dog"]
    >>> sorted(word_links(Alignment(*tokens, [[0.5, 0.3, 0.2], [0.4, 0.3, 0.3]])))
    [(0, 0), (1, 1)]
    """
    source, target = words_of(alignment.source_tokens), words_of(alignment.target_tokens)
    scores = np.asarray(alignment.scores, "float64")
    if not source or not target:
        return frozenset()
    of_words = np.stack([scores[rows].sum(axis=0) for rows in target])
    between = np.stack([of_words[:, columns].sum(axis=1) for columns in source], axis=1)
    return frozenset((int(column), row) for row, column in enumerate(between.argmax(axis=1)))


def words_of(tokens: Sequence[str]) -> list[list[int]]:
    """The token numbers of each word."""
    words: list[list[int]] = []
    for index, token in enumerate(list_of_texts("tokens", tokens)):
        if token == "</s>":
            continue
        if token.startswith(_WORD_START) or not words:
            words.append([])
        words[-1].append(index)
    return words


def alignment_error_rate(predicted: Iterable[Links], gold: Iterable[GoldAlignment]) -> float:
    """`1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|)`, counted over all sentences: 0 is perfect, 1 is none.

    With A the predicted links, S the sure ones and P the possible ones.

    Args:
        predicted: Links of each sentence, as `word_links` makes them of a forced translation.
        gold: What people say of each.

    Raises:
        ValueError: If there are not as many of one as of the other, or no links at all.

    Example:

    >>> gold = [GoldAlignment(frozenset({(0, 0)}), frozenset({(0, 0), (1, 1)}))]
    >>> alignment_error_rate([frozenset({(0, 0), (1, 1), (2, 1)})], gold)
    0.25

    Reference:
        [Och, Ney 2003](https://doi.org/10.1162/089120103321337421), section 6.1.
    """
    gold = list_of("gold", gold, "`GoldAlignment`s")
    predicted = [frozenset(map(tuple, one)) for one in list_of("predicted", predicted, "links")]
    if len(predicted) != len(gold):
        raise ValueError(
            "There must be one set of predicted links for each sentence. Received: "
            f"{len(predicted)} of predicted and {len(gold)} of gold links"
        )
    pairs = list(zip(predicted, gold, strict=True))
    hits = sum(len(links & one.sure) + len(links & one.possible) for links, one in pairs)
    total = sum(len(links) + len(one.sure) for links, one in pairs)
    if not total:
        raise ValueError("The error rate of no links is not defined: all alignments are empty.")
    return 1.0 - hits / total
