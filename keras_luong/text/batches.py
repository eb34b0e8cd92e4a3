"""Batches of few static shapes from encoded pairs, as tf.data pipelines.

Every element is `((source, target_in), target_out)` with `source = tokens +
[end]`, `target_in = [start] + tokens`, `target_out = tokens + [end]`: int32, padded with 0, each of
shape `(rows, length)`. The lengths are those of a few buckets, because XLA compiles a model once
for every shape, and all batches of a bucket have as many rows: its last one is filled up with rows
of padding alone.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_luong.checked_numbers import count_of, integer_of, optional_count_of
from keras_luong.ids import END_ID, PADDING_ID, START_ID
from keras_luong.iterables import rows_in_order
from keras_luong.text.encoded_files import EncodedFiles
from keras_luong.text.pairs import EncodedPairs
from keras_luong.text.sampled_pairs import SampledPairs

Tensor = Any
Encoded = EncodedPairs | EncodedFiles

# A further bucket must save more than this share of the cost: XLA compiles for it, for seconds.
_WORTH_A_SHAPE = 0.02

_FILL = -1  # the index of a row that is padding alone
_NO_ROW = -2  # stands behind the indices of a batch that has fewer rows than others


def bucket_boundaries(lengths: Any, buckets: int, batch_size: int = 1) -> list[int]:
    """Finds the lengths to pad to: few of them, that cost little padding.

    A sentence goes to the smallest boundary that holds it. The cost is the number of positions in
    all batches, those of the rows that fill up a bucket's last batch included. There are as few
    boundaries as cost at most 2 % more than the cheapest choice, since XLA compiles for each.

    Args:
        lengths: Lengths of the sentences, `(n,)`.
        buckets: The most boundaries there may be.
        batch_size: Sentences in a batch.

    Returns:
        At most `buckets` increasing lengths, the last one the greatest of `lengths`: the cheapest
        choice of that many.

    Example:

    >>> bucket_boundaries([3, 3, 4, 9, 9, 20], buckets=3)
    [4, 9, 20]
    """
    lengths = np.asarray(rows_in_order(lengths))
    if lengths.ndim != 1 or not lengths.size or lengths.min() < 1:
        raise ValueError("`lengths` must be a row of positive integers, at least one of them.")
    buckets, batch_size = count_of("buckets", buckets), count_of("batch_size", batch_size)
    distinct, counts = np.unique(lengths, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    # cost[j] and cuts[j]: the cheapest way to serve the j shortest distinct lengths, and its
    # boundaries as indices. One more bucket is allowed in every round.
    count = len(distinct)
    cost = [0.0] + [np.inf] * count
    cuts: list[list[int]] = [[] for _ in range(count + 1)]
    choices = []
    for _ in range(min(buckets, count)):
        previous_cost, previous_cuts = cost, cuts
        cost, cuts = list(cost), list(cuts)
        for j in range(1, count + 1):
            rows = -(-(below[j] - below[:j]) // batch_size) * batch_size
            totals = previous_cost[:j] + rows * distinct[j - 1]
            i = int(np.argmin(totals))
            if totals[i] < cost[j]:
                cost[j], cuts[j] = totals[i], [*previous_cuts[i], j - 1]
        choices.append((cost[count], cuts[count]))
    most = choices[-1][0] * (1 + _WORTH_A_SHAPE)
    chosen = next(cuts for total, cuts in choices if total <= most)
    return [int(distinct[i]) for i in chosen]


class TrainingBatches:
    """Endless shuffled batches that can start at any step.

    All pairs are shuffled anew in every epoch, within their bucket, and so is the order of the
    batches. The order of an epoch depends on `seed` and on the number of the epoch alone.
    The elements are described at the top of this module. As they never end, Keras has to be told
    where an epoch does: `model.fit(batches.dataset(), steps_per_epoch=batches.steps_per_epoch,
    shuffle=False)`.

    Args:
        encoded: What `encode_pairs` or `encode_files` returns; or what `sample_pairs` does, whose
            subwords depend on `seed` and on the number of the step.
        batch_size: Pairs in a batch.
        batch_tokens: Instead of `batch_size`: tokens of one side in a batch, padding included. The
            longer the pairs of a bucket, the fewer there are in its batches, but at least one.
        buckets: The most shapes there may be.
        seed: Integer that fixes all orders.

    Attributes:
        steps_per_epoch: Batches in an epoch, the same for every epoch.
        shapes: The shapes `(rows, length)` of the batches, shortest first.
        words_per_epoch: Source and target tokens of all pairs, start and end not counted; those of
            the best segmentations where they are drawn.

    Example:

    >>> from keras_luong.text import SubwordTokenizer, encode_pairs
    >>> tokenizer = SubwordTokenizer.train(["one two", "eins zwei"], 14)
    >>> encoded = encode_pairs([("one", "eins"), ("two", "zwei")], tokenizer, tokenizer)
    >>> batches = TrainingBatches(encoded, batch_size=2)
    >>> inputs, target = next(iter(batches.dataset()))
    >>> target.shape == batches.shapes[0]
    True
    """

    def __init__(
        self,
        encoded: Encoded | SampledPairs,
        batch_size: int | None = None,
        *,
        batch_tokens: int | None = None,
        buckets: int = 5,
        seed: int = 0,
    ) -> None:
        self.seed = seed = integer_of("seed", seed)
        lengths = (
            encoded.lengths(seed) if isinstance(encoded, SampledPairs) else _lengths_of(encoded)
        )
        self._buckets = _Buckets.of(lengths, batch_size, batch_tokens, buckets)
        self._rows = _rows_of(encoded, seed)
        self.shapes = self._buckets.shapes
        self.steps_per_epoch = self._buckets.steps
        fixed = encoded.best if isinstance(encoded, SampledPairs) else encoded
        sides = fixed.source, fixed.target
        self.words_per_epoch = sum(int(np.sum(side.row_lengths())) for side in sides)

    def dataset(self, start_step: int = 0) -> tf.data.Dataset:
        """The batches from a step on, counted from 0 over all epochs; they never end.

        `dataset(k)` yields what `dataset()` yields after `k` batches, without making those.
        """
        first = count_of("start_step", start_step, least=0)
        epoch, step = divmod(first, self.steps_per_epoch)
        plan = tf.data.Dataset.counter(epoch).flat_map(
            lambda epoch: tf.data.Dataset.from_tensor_slices(self._epoch(epoch))
        )
        batches = _batches(plan.skip(step), self._rows, self._buckets.rows)
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def _epoch(self, epoch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batches of an epoch: indices of pairs `(steps, rows)`, lengths and steps `(steps,)`.

        A graph of stateless operations: the same on every machine, wherever training resumes.
        """
        parts = []
        for number, members in enumerate(self._buckets.members):
            members = tf.gather(members, self._permutation(len(members), epoch, number))
            parts.append(self._buckets.fill_up(members, number))
        order = self._permutation(self.steps_per_epoch, epoch, len(parts))
        steps = epoch * self.steps_per_epoch + tf.range(self.steps_per_epoch, dtype=tf.int64)
        return (
            tf.gather(tf.concat(parts, 0), order),
            tf.gather(self._buckets.lengths, order),
            steps,
        )

    def _permutation(self, count: int, epoch: Tensor, number: int) -> Tensor:
        """A random order of `count` things; `number` tells the orders of one epoch apart."""
        stream = epoch * (len(self._buckets.members) + 1) + number
        # The algorithm is named because the default differs between devices.
        keys = tf.random.stateless_uniform(
            [count], [self.seed, stream], None, None, tf.int64, alg="philox"
        )
        return tf.argsort(keys)


def evaluation_batches(encoded: Encoded, batch_size: int, *, buckets: int = 5) -> tf.data.Dataset:
    """All pairs once, in an order that is always the same: shortest bucket first.

    The elements are described at the top of this module.

    Args:
        encoded: What `encode_pairs` or `encode_files` returns.
        batch_size: Pairs in a batch.
        buckets: The most shapes there may be.

    Returns:
        A finite `tf.data.Dataset` of known cardinality.
    """
    bucketed = _Buckets.of(_lengths_of(encoded), batch_size, None, buckets)
    with tf.device("CPU:0"):
        filled = [bucketed.fill_up(members, i) for i, members in enumerate(bucketed.members)]
        steps = np.arange(bucketed.steps)
        plan = tf.data.Dataset.from_tensor_slices((tf.concat(filled, 0), bucketed.lengths, steps))
    return _batches(plan, _rows_of(encoded), bucketed.rows)


@dataclasses.dataclass(frozen=True)
class _Buckets:
    """Which pairs share a shape.

    `members` holds the indices of each bucket's pairs, `lengths` the length of each of the
    `steps` batches, bucket after bucket.
    """

    shapes: list[tuple[int, int]]
    members: list[np.ndarray]
    lengths: np.ndarray

    @classmethod
    def of(
        cls, lengths: np.ndarray, batch_size: int | None, batch_tokens: int | None, buckets: int
    ) -> "_Buckets":
        """From the tokens of the longer side of each pair, without start and end."""
        batch_size, batch_tokens = _size(batch_size, batch_tokens)
        lengths = 1 + lengths
        boundaries = bucket_boundaries(lengths, buckets, batch_size or 1)
        bucket = np.searchsorted(boundaries, lengths)
        members = [np.flatnonzero(bucket == i) for i in range(len(boundaries))]
        shapes = [(batch_size or max(1, (batch_tokens or 0) // one), one) for one in boundaries]
        steps = [
            -(-len(indices) // rows) for indices, (rows, _) in zip(members, shapes, strict=True)
        ]
        return cls(shapes, members, np.repeat(boundaries, steps))

    @property
    def steps(self) -> int:
        return len(self.lengths)

    @property
    def rows(self) -> int | None:
        """How many rows every batch has, or `None` where they differ."""
        counts = {rows for rows, _ in self.shapes}
        return counts.pop() if len(counts) == 1 else None

    def fill_up(self, members: Tensor, bucket: int) -> Tensor:
        """Cuts the indices of a bucket's pairs into batches, `(steps, most rows of a bucket)`."""
        rows = self.shapes[bucket][0]
        filled = tf.pad(members, [[0, -len(members) % rows]], constant_values=_FILL)
        missing = max(count for count, _ in self.shapes) - rows
        return tf.pad(
            tf.reshape(filled, [-1, rows]), [[0, 0], [0, missing]], constant_values=_NO_ROW
        )


def _size(batch_size: int | None, batch_tokens: int | None) -> tuple[int | None, int | None]:
    if (batch_size is None) == (batch_tokens is None):
        raise ValueError(
            "Either `batch_size` or `batch_tokens` must be given. Received: "
            f"batch_size={batch_size}, batch_tokens={batch_tokens}"
        )
    return (
        optional_count_of("batch_size", batch_size),
        optional_count_of("batch_tokens", batch_tokens),
    )


def _lengths_of(encoded: Encoded) -> np.ndarray:
    return np.maximum(encoded.source.row_lengths(), encoded.target.row_lengths())


def _rows_of(encoded: Encoded | SampledPairs, seed: int = 0) -> "_Rows | _FileRows | _SampledRows":
    if isinstance(encoded, SampledPairs):
        return _SampledRows(encoded, seed)
    return _FileRows(encoded) if isinstance(encoded, EncodedFiles) else _Rows.of(encoded)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The pairs with start and end, then one row of nothing to fill batches up with."""

    source: tf.RaggedTensor
    target_in: tf.RaggedTensor
    target_out: tf.RaggedTensor

    @classmethod
    def of(cls, encoded: EncodedPairs) -> "_Rows":
        with tf.device("CPU:0"):
            start = tf.fill([len(encoded), 1], START_ID)
            end = tf.fill([len(encoded), 1], END_ID)
            nothing = tf.ragged.constant([[]], tf.int32, row_splits_dtype=tf.int64)
            source = tf.concat([encoded.source, end], 1)
            target_in = tf.concat([start, encoded.target], 1)
            target_out = tf.concat([encoded.target, end], 1)
            return cls(*(tf.concat([x, nothing], 0) for x in (source, target_in, target_out)))

    def batch(self, indices: Tensor, length: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Source, target in and target out of some pairs, padded to a length; the same always."""
        indices = tf.where(indices == _FILL, self.source.nrows() - 1, indices)
        shape = [tf.size(indices, length.dtype), length]
        source, target_in, target_out = (
            tf.gather(side, indices).to_tensor(PADDING_ID, shape=shape)
            for side in (self.source, self.target_in, self.target_out)
        )
        return source, target_in, target_out


@dataclasses.dataclass(frozen=True)
class _FileRows:
    """The same of pairs that stand in files."""

    encoded: EncodedFiles

    def batch(self, indices: Tensor, length: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `_Rows.batch`. The files are read by NumPy, outside of the graph."""
        return tf.numpy_function(self._read, [indices, length], [tf.int32] * 3, stateful=False)

    def _read(self, indices: np.ndarray, length: int) -> tuple[np.ndarray, ...]:
        pairs = indices[indices != _FILL]
        source = [self.encoded.source[i] for i in pairs]
        target = [self.encoded.target[i] for i in pairs]
        return _padded(source, target, indices, length)


@dataclasses.dataclass(frozen=True)
class _SampledRows:
    """The same of pairs whose subwords are drawn."""

    pairs: SampledPairs
    seed: int

    def batch(self, indices: Tensor, length: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `_Rows.batch`, of the subwords of a step. sentencepiece runs outside of the graph."""
        arguments = [indices, length, step]
        return tf.numpy_function(self._draw, arguments, [tf.int32] * 3, stateful=False)

    def _draw(self, indices: np.ndarray, length: int, step: int) -> tuple[np.ndarray, ...]:
        pairs = indices[indices != _FILL]
        rows = self.pairs.rows(pairs, int(length) - 1, self.seed, int(step))
        return _padded(*rows, indices, length)


def _padded(
    source_rows: list[np.ndarray], target_rows: list[np.ndarray], indices: np.ndarray, length: int
) -> tuple[np.ndarray, ...]:
    """Source, target in and target out, from the rows of the indices that are no filling."""
    shape = (len(indices), length)
    source, target_in, target_out = (np.full(shape, PADDING_ID, np.int32) for _ in range(3))
    places = np.flatnonzero(indices != _FILL)
    for row, source_ids, target_ids in zip(places, source_rows, target_rows, strict=True):
        source[row, : len(source_ids) + 1] = *source_ids, END_ID
        target_in[row, : len(target_ids) + 1] = START_ID, *target_ids
        target_out[row, : len(target_ids) + 1] = *target_ids, END_ID
    return source, target_in, target_out


def _batches(
    plan: tf.data.Dataset, rows: "_Rows | _FileRows | _SampledRows", count: int | None
) -> tf.data.Dataset:
    def batch(indices: Tensor, length: Tensor, step: Tensor) -> tuple[Any, Tensor]:
        parts = rows.batch(tf.boolean_mask(indices, indices != _NO_ROW), length, step)
        source, target_in, target_out = (tf.ensure_shape(one, [count, None]) for one in parts)
        return (source, target_in), target_out

    # Not tuned while it runs: the thread that does it sleeps twice as long every time, for up to a
    # minute, and whoever is done with the batches may have to wait until it wakes.
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = plan.map(batch, num_parallel_calls=2, deterministic=True)
    return batches.prefetch(4).with_options(options)
