"""`Shortlist`: the words that a translation may hold, by the words of its source."""

import io
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_luong.checked_numbers import count_of
from keras_luong.folders import whole_file
from keras_luong.functional import IdRange
from keras_luong.iterables import rows_in_order
from keras_luong.paths import PathLike, local_copy, path_of
from keras_luong.stored_arrays import array_archive

Array = Any


class Shortlist:
    """The target ids that a search considers, by the source ids of a sentence.

    A translation holds the words that belong to those of its source, and some that any sentence may
    hold. A search that is given a shortlist computes the logits of these alone, and the softmax
    over them: the vocabulary product shrinks to those of the batch's sentences together, and each
    sentence gets its own of them, so that what it gets still depends on no other.

    How many ids a batch needs shapes what is compiled. So they are filled up to `size`, or twice as
    many, four times and so on, at most to the whole vocabulary.

    Args:
        aligned: int `(source vocabulary, c)`: for each source id the target ids that belong to it,
            -1 where there are fewer than c.
        frequent: Target ids that any sentence may hold. Start and end always may.
        size: The least number of ids that logits are computed of.

    Raises:
        ValueError: For arrays of another kind, and a size below 1.

    Example:

    >>> shortlist = Shortlist([[-1, -1], [7, 9], [8, -1]], frequent=[3, 4], size=4)
    >>> ids, allowed = shortlist.of([[1, 0], [2, 2]], vocabulary_size=10)
    >>> print(ids.tolist())
    [0, 1, 2, 3, 4, 7, 8, 9]
    >>> print([ids[row].tolist() for row in allowed])
    [[3, 4, 7, 9], [3, 4, 8]]

    Reference:
        [Jean et al. 2015](https://arxiv.org/abs/1412.2007), section 3.2: candidates by source word
        from word alignments, and the most frequent words.
    """

    def __init__(self, aligned: Array, frequent: Array, *, size: int = 1024) -> None:
        self.aligned, self.frequent = (
            np.asarray(rows_in_order(ids)) for ids in (aligned, frequent)
        )
        for name, ids, rank in (("aligned", self.aligned, 2), ("frequent", self.frequent, 1)):
            if ids.ndim != rank or (ids.size and ids.dtype.kind not in "iu"):
                raise ValueError(
                    f"{name} must be integer ids of rank {rank}. Received shape {ids.shape}, dtype "
                    f"{ids.dtype}"
                )
        if min(self.frequent, default=0) < 0:
            negative = self.frequent[self.frequent < 0][:5].tolist()
            raise ValueError(f"frequent ids must be at least 0. Received: {negative}")
        self.size = count_of("size", size)

    @classmethod
    def learnt(
        cls,
        alignments: Iterable[tuple[Array, Array, Array]],
        source_vocabulary_size: int,
        *,
        per_word: int = 20,
        num_frequent: int = 500,
        size: int = 1024,
    ) -> "Shortlist":
        """Counts which words belong together.

        The count of a pair of ids is the sum of the attention scores between them; that of a target
        id, how often it stands.

        Args:
            alignments: Batches of source ids `(b, s)`, target ids `(b, t)`, both padded with 0, and
                attention scores `(b, t, s)`.
            source_vocabulary_size: Number of source ids.
            per_word: How many target ids belong to a source id: those with the largest counts.
            num_frequent: How many of the most frequent target ids any sentence may hold.
            size: As in the constructor.

        Raises:
            ValueError: If there is no batch, for source ids beyond the vocabulary, and for shapes
                that do not fit each other.
        """
        per_word = count_of("per_word", per_word, least=0)
        num_frequent = count_of("num_frequent", num_frequent, least=0)
        source_vocabulary_size = count_of("source_vocabulary_size", source_vocabulary_size)
        known = IdRange("source", source_vocabulary_size)
        keys: Array = np.zeros(0, "int64")
        counts: Array = np.zeros(0)
        for source, target, scores in alignments:
            source, target, scores = map(np.asarray, (source, target, scores))
            # Others would be counted as those of another word.
            known.check(source)
            _check_shapes(source, target, scores)
            pairs = source[:, None, :].astype("int64") + source_vocabulary_size * target[:, :, None]
            # What is next to nothing is left out, to keep few pairs; padding has no score at all.
            kept = (scores > _NEXT_TO_NOTHING) & (source[:, None] > 0) & (target[:, :, None] > 0)
            keys, places = np.unique(np.concatenate([keys, pairs[kept]]), return_inverse=True)
            counts = np.bincount(places, np.concatenate([counts, scores[kept]]), len(keys))
        if not len(keys):
            raise ValueError("alignments must hold at least one batch with words that are aligned.")
        target_ids, source_ids = np.divmod(keys, source_vocabulary_size)
        totals = np.bincount(target_ids, counts)
        frequent = np.argsort(-totals, kind="stable")[: min(num_frequent, np.count_nonzero(totals))]
        aligned = np.full((source_vocabulary_size, per_word), -1)
        order = np.lexsort((-counts, source_ids))
        source_ids, target_ids = source_ids[order], target_ids[order]
        first = np.searchsorted(source_ids, source_ids)
        ranks = np.arange(len(order)) - first
        kept = ranks < per_word
        aligned[source_ids[kept], ranks[kept]] = target_ids[kept]
        return cls(aligned, np.sort(frequent), size=size)

    def of(
        self, source: Array, vocabulary_size: int, *also: Array
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids that the sentences of a batch may hold.

        Args:
            source: int `(b, s)`, padded with 0.
            vocabulary_size: Number of target ids.
            *also: Ids that a sentence may hold besides, `(b, ...)`, below 0 where nothing stands;
                such as a prefix.

        Returns:
            Increasing ids, int32 `(n,)`, and which of them each sentence may hold, boolean
            `(b, n)`.

        Raises:
            ValueError: For source or target ids beyond the vocabularies.
        """
        source = np.asarray(source)
        self._check(source, vocabulary_size)
        rows = np.arange(len(source))[:, None]
        # The last column, in the place -1, takes what stands for nothing.
        marks: Array = np.zeros((len(source), vocabulary_size + 1), bool)
        marks[:, self.frequent] = True
        for ids in (self.aligned[source], *also):
            of_rows = np.reshape(ids, (len(source), math.prod(np.shape(ids)[1:])))
            marks[rows, np.maximum(of_rows, -1)] = True
        allowed = marks[:, :-1]
        is_used = allowed.any(axis=0)
        size, count = self.size, np.count_nonzero(is_used)
        while size < count:
            size *= 2
        is_used[np.flatnonzero(~is_used)[: max(size - count, 0)]] = True
        return np.flatnonzero(is_used).astype("int32"), allowed[:, is_used]

    def _check(self, source: np.ndarray, vocabulary_size: int) -> None:
        IdRange("source", len(self.aligned)).check(source)
        largest = max(np.max(self.aligned, initial=0), np.max(self.frequent, initial=0))
        if largest >= vocabulary_size:
            raise ValueError(
                f"The shortlist must hold ids below the vocabulary's size {vocabulary_size}. "
                f"Received: {largest}"
            )

    def save(self, path: PathLike) -> None:
        """Writes the shortlist to one `.npz` file, whole or not at all."""
        arrays = io.BytesIO()
        np.savez(arrays, aligned=self.aligned, frequent=self.frequent, size=np.array(self.size))
        with whole_file(path) as file:
            file.write_bytes(arrays.getvalue())

    @classmethod
    def load(cls, path: PathLike) -> "Shortlist":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds anything else; nothing in it can take more memory than it has
                bytes.
        """
        with (
            local_copy(path_of(path)) as file,
            array_archive(file, ("aligned", "frequent", "size")) as stored,
        ):
            aligned = stored.read("aligned", "iu", (None, None))
            frequent = stored.read("frequent", "iu", (None,))
            size = int(stored.read("size", "iu", ()))
        try:
            return cls(aligned, frequent, size=size)
        except ValueError as error:
            raise ValueError(f"{str(path)!r} cannot be read: {error}") from error


_NEXT_TO_NOTHING = 0.01


def _check_shapes(source: np.ndarray, target: np.ndarray, scores: np.ndarray) -> None:
    if source.ndim != 2 or scores.shape != (*target.shape, source.shape[-1]):
        raise ValueError(
            "alignments must hold source ids (b, s), target ids (b, t) and attention scores "
            f"(b, t, s). Received shapes {source.shape}, {target.shape} and {scores.shape}"
        )
