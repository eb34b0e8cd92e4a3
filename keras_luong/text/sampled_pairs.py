"""Pairs whose subwords are drawn anew in every epoch: subword regularization."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from keras_luong.checked_numbers import above_0, count_of
from keras_luong.text.pairs import EncodedPairs, encode_with_texts
from keras_luong.text.subword_tokenizer import SubwordTokenizer, check_tokenizers

# A pair is as long as the longest of its best segmentation and this many drawn ones.
_DRAWS_FOR_LENGTH = 4
# How often a segmentation is drawn that does not fit into its batch, before the best is taken.
_DRAWS_FOR_BATCH = 8
_FOR_LENGTH, _FOR_BATCH = 0, 1


@dataclasses.dataclass(frozen=True)
class SampledPairs:
    """Pairs of sentences that `TrainingBatches` segments anew whenever it needs them.

    Attributes:
        best: Their best segmentations.
        source: The source texts.
        target: The target texts.
        source_tokenizer: Tokenizer of the source texts.
        target_tokenizer: Tokenizer of the target texts.
        alpha: As in `SubwordTokenizer.sample`.
        max_length: The most tokens that either side may have, the end not counted.
    """

    best: EncodedPairs
    source: list[str]
    target: list[str]
    source_tokenizer: SubwordTokenizer
    target_tokenizer: SubwordTokenizer
    alpha: float
    max_length: int

    def __len__(self) -> int:
        return len(self.best)

    @property
    def dropped(self) -> dict[str, int]:
        """How many pairs were left out, by reason."""
        return self.best.dropped

    def lengths(self, seed: int) -> np.ndarray:
        """How many tokens the longer side of each pair has at most, nearly always, `(n,)`.

        The most of the best segmentation and of a few drawn ones, and no more than `max_length`.
        """
        lengths = [self.best.source.row_lengths().numpy(), self.best.target.row_lengths().numpy()]
        for side, (texts, tokenizer) in enumerate(self._sides):
            for draw in range(_DRAWS_FOR_LENGTH):
                rows = tokenizer.sample(texts, self.alpha, _mixed(seed, _FOR_LENGTH, draw, side, 0))
                lengths.append(np.array([len(row) for row in rows]))
        return np.minimum(np.max(lengths, axis=0), self.max_length)

    def rows(
        self, indices: np.ndarray, length: int, seed: int, step: int
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Source and target ids of some pairs, at most `length` of each, as a step draws them.

        A segmentation that is longer is drawn again, and in the end the best one is taken, so that
        long segmentations of the longest sentences of a batch are rarer than they should be.
        """
        source, target = (
            self._of_side(side, indices, length, seed, step) for side in range(len(self._sides))
        )
        return source, target

    def _of_side(
        self, side: int, indices: np.ndarray, length: int, seed: int, step: int
    ) -> list[np.ndarray]:
        best = (self.best.source, self.best.target)[side]
        texts, tokenizer = self._sides[side]
        rows: dict[int, list[int]] = {}
        for attempt in range(_DRAWS_FOR_BATCH):
            missing = [index for index in indices if index not in rows]
            if not missing:
                break
            drawn = tokenizer.sample(
                [texts[index] for index in missing],
                self.alpha,
                _mixed(seed, _FOR_BATCH, step, side, attempt),
            )
            rows |= {i: row for i, row in zip(missing, drawn, strict=True) if len(row) <= length}
        return [np.array(rows[i], "int32") if i in rows else best[i].numpy() for i in indices]

    @property
    def _sides(self) -> list[tuple[list[str], SubwordTokenizer]]:
        return [(self.source, self.source_tokenizer), (self.target, self.target_tokenizer)]


def sample_pairs(
    pairs: Iterable[tuple[str, str]],
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    *,
    alpha: float,
    max_length: int = 100,
) -> SampledPairs:
    """Pairs for `TrainingBatches` that splits them into other subwords every time.

    A model that has seen many segmentations of a word knows more of its parts. Batches are drawn by
    seed and step alone, and have the few shapes that they always have: a pair goes to the bucket
    that holds the longest of its best segmentation and four drawn ones, and what does not fit there
    is drawn again.

    Args:
        pairs: As in `encode_pairs`.
        source_tokenizer: Tokenizer of the source texts.
        target_tokenizer: Tokenizer of the target texts; may be the same.
        alpha: As in `SubwordTokenizer.sample`.
        max_length: The most tokens that either side may have, the end not counted.

    Returns:
        The pairs that `encode_pairs` would keep.

    Raises:
        TypeError: As `encode_pairs`.
        ValueError: As `encode_pairs`, and as `SubwordTokenizer.sample`.

    Reference:
        [Kudo 2018](https://arxiv.org/abs/1804.10959).
    """
    check_tokenizers(source_tokenizer=source_tokenizer, target_tokenizer=target_tokenizer)
    alpha, max_length = above_0("alpha", alpha), count_of("max_length", max_length)
    for tokenizer in (source_tokenizer, target_tokenizer):
        tokenizer.sample([], alpha, 0)  # refuses what it cannot do now rather than in a thread
    encoded, source, target = encode_with_texts(
        pairs, source_tokenizer, target_tokenizer, max_length
    )
    return SampledPairs(
        encoded, source, target, source_tokenizer, target_tokenizer, alpha, max_length
    )


def _mixed(seed: int, purpose: int, *numbers: int) -> int:
    """A seed of its own for every purpose, step, side and attempt."""
    entropy = [seed % 2**64, purpose, *map(int, numbers)]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
