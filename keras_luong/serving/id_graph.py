"""Ids that come from outside, and what a search found as ids: the graph around a bare model.

What a caller sends may be anything. It is read so that nothing of it crashes the model or changes
what another row gets, however a server has padded it.
"""

from typing import Any

import tensorflow as tf

from keras_luong.ids import END_ID, PADDING_ID, START_ID, UNKNOWN_ID
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
    target_length = tf.where(lengths_of(source)[:, None] > 1, result.lengths, 0)
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


def read_target_ids(
    ids: Tensor, vocabulary_size: int, max_length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Turns target ids into what forced decoding takes, read as `read_ids` reads them.

    As with texts, a row keeps what a search would have written of it: at most `max_length + 1` ids,
    the end id among them. So one of more is cut there, and has no end id.

    Args:
        ids: int32 `(b, t)`, t may be 0.
        vocabulary_size: Ids outside it, negative ones too, are read as the unknown id.
        max_length: The most ids of a row, the end id not counted.

    Returns:
        `(target_in, target_out, truncated)`: `[start] + ids` without the last one and
        `ids + [end]`, both `(b, t)`, padded with 0; and whether a row was cut, `(b,)`.
    """
    target, _ = read_ids(ids, vocabulary_size, max_length + 1)
    truncated = lengths_of(target) > max_length + 1
    target_out = target[:, : max_length + 1]
    start = tf.fill([tf.shape(target)[0], 1], START_ID)
    # Behind the end id of a row nothing goes in.
    before = tf.where(target_out == END_ID, PADDING_ID, target_out)[:, :-1]
    return tf.concat([start, before], axis=1), target_out, truncated


def scored_ids(source: Tensor, target: Tensor, scored: Any) -> dict[str, Tensor]:
    """What forced decoding says of target ids, without what lies beyond their ends.

    As in `trimmed`, what belongs to a source of nothing has length 0 and log-probability 0.

    Args:
        source: int32 `(b, s)`, the end id last in each row.
        target: int32 `(b, t)`: the `target_out` that was scored.
        scored: A `ScoredTarget` of them.

    Returns:
        `target_ids` and `token_log_probs` `(b, t)`, `log_prob` and `target_length` `(b,)` and
        `attention_scores` `(b, t, s)`; t is the length of the longest target of the batch.
    """
    target = tf.where(lengths_of(source)[:, None] > 1, target, PADDING_ID)
    target_length = lengths_of(target)
    longest = tf.reduce_max(target_length)
    kept = tf.sequence_mask(target_length, longest)
    token_log_probs = tf.cast(scored.token_log_probs[:, :longest], tf.float32)
    attention_scores = tf.cast(scored.attention_scores[:, :longest], tf.float32)
    return {
        "target_ids": target[:, :longest],
        "target_length": target_length,
        "log_prob": tf.where(target_length > 0, tf.cast(scored.log_probs, tf.float32), 0.0),
        "token_log_probs": tf.where(kept, token_log_probs, 0.0),
        "attention_scores": tf.where(kept[..., None], attention_scores, 0.0),
    }


def best(result: SearchResult) -> SearchResult:
    """The first hypothesis of every sentence."""
    fields: tuple[Tensor, ...] = result
    return SearchResult(*(None if field is None else field[:, :1] for field in fields))


def lengths_of(ids: Tensor) -> Tensor:
    """How many ids before the padding, `(b,)`."""
    return tf.math.count_nonzero(ids, axis=1, dtype=tf.int32)
