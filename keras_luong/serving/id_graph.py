"""Ids that come from outside, and what a search found as ids: the graph around a bare model.

What a caller sends may be anything. It is read so that nothing of it crashes the model or changes
what another row gets, however a server has padded it.
"""

from typing import Any

import tensorflow as tf

from keras_luong.ids import END_ID, PADDING_ID, UNKNOWN_ID
from keras_luong.search import SearchResult

Tensor = Any


def read_ids(ids: Tensor, vocabulary_size: int, max_length: int) -> tuple[Tensor, Tensor]:
    """Turns ids of any width into what a model reads.

    A row ends at its first end id or padding, or at the edge. What stands behind that is ignored:
    TF Serving, when it pads rows to the length of others, pads with the first id of a request.

    Args:
        ids: int32 `(b, s)`, s may be 0.
        vocabulary_size: Ids outside it, negative ones too, are read as the unknown id.
        max_length: The most ids of a row, the end id not counted. What is longer is cut.

    Returns:
        `(source, truncated)`: int32 `(b, s)` as wide as the longest row, the end id last in each,
        padded with 0; and whether a row was cut, boolean `(b,)`.
    """
    ids = ids[:, : max_length + 1]
    is_over = (ids == END_ID) | (ids == PADDING_ID)
    is_inside = tf.cumsum(tf.cast(is_over, tf.int32), 1) == 0
    lengths = tf.math.count_nonzero(is_inside, axis=1, dtype=tf.int32)
    truncated = lengths > max_length
    lengths = tf.minimum(lengths, max_length)
    ids = tf.where((ids >= 0) & (ids < vocabulary_size), ids, UNKNOWN_ID)
    # A column more, for the end of a row that has none.
    ids = tf.pad(ids, [[0, 0], [0, 1]])[:, : tf.reduce_max(lengths) + 1]
    places, ends = tf.range(tf.shape(ids)[1]), lengths[:, None]
    after = tf.where(places == ends, END_ID, PADDING_ID)
    return tf.where(places < ends, ids, after), truncated


def trimmed(source: Tensor, result: SearchResult) -> dict[str, Tensor]:
    """What a search found, without what lies beyond the ends.

    A source of nothing (nothing before the end id) gets empty hypotheses, of length 0 and score 0:
    what a model would make of nothing is noise. So do empty slots, which come last. Their score is
    not minus infinity, for JSON has no such number.

    Args:
        source: int32 `(b, s)`, the end id last in each row.
        result: Of a search on `source`, with n hypotheses a sentence.

    Returns:
        `target_ids` `(b, n, t)`, `target_length`, `score` and `log_prob` `(b, n)` and, if the
        search kept them, `attention_scores` `(b, n, t, s)`; t is the length of the longest
        hypothesis of the batch. Ids and scores beyond a length are 0.
    """
    target_length = tf.where(_lengths(source)[:, None] > 1, result.lengths, 0)
    longest = tf.reduce_max(target_length)
    kept = tf.sequence_mask(target_length, longest)

    def of_text(values: Tensor) -> Tensor:
        return tf.where(target_length > 0, tf.cast(values, tf.float32), 0.0)

    outputs = {
        "target_ids": tf.where(kept, result.ids[:, :, :longest], PADDING_ID),
        "target_length": target_length,
        "score": of_text(result.scores),
        "log_prob": of_text(result.log_probs),
    }
    if result.attention_scores is not None:
        all_scores: Tensor = result.attention_scores
        scores = tf.cast(all_scores[:, :, :longest], tf.float32)
        outputs["attention_scores"] = tf.where(kept[..., None], scores, 0.0)
    return outputs


def write_ids(source: Tensor, result: SearchResult) -> dict[str, Tensor]:
    """The best hypotheses: what `trimmed` returns, without the axis n."""
    outputs = trimmed(source, best(result))
    return {name: tf.squeeze(output, axis=1) for name, output in outputs.items()}


def best(result: SearchResult) -> SearchResult:
    """The first hypothesis of every sentence."""
    fields: tuple[Tensor, ...] = result
    return SearchResult(*(None if field is None else field[:, :1] for field in fields))


def _lengths(ids: Tensor) -> Tensor:
    return tf.math.count_nonzero(ids, axis=1, dtype=tf.int32)
