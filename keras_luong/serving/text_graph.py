"""Text to ids, and what a search or a score found to text: the TensorFlow graph around a model.

`Translator` and the export run these same functions, so they cannot disagree.
"""

from typing import Any

import tensorflow as tf

from keras_luong.ids import END_ID, PADDING_ID, START_ID
from keras_luong.search import SearchResult
from keras_luong.serving.id_graph import best, trimmed
from keras_luong.text import SubwordTokenizer

Tensor = Any


def source_ids(tokenizer: SubwordTokenizer, texts: Tensor, max_length: int) -> tf.RaggedTensor:
    """Turns texts `(b,)` into ids `(b, None)`, the end id last in each row.

    Texts of more than `max_length` subwords are cut there.
    """
    return _ended(tokenizer.tokenize(texts)[:, :max_length])


def read_source(
    tokenizer: SubwordTokenizer, texts: Tensor, max_length: int
) -> tuple[Tensor, Tensor]:
    """`source_ids` as a dense `(b, s)`, padded with 0; and whether a text was cut, `(b,)`."""
    tokens = tokenizer.tokenize(texts)
    source = _ended(tokens[:, :max_length]).to_tensor(PADDING_ID)
    return source, tokens.row_lengths() > max_length


def read_target(
    tokenizer: SubwordTokenizer, texts: Tensor, max_length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Turns target texts `(b,)` into what forced decoding takes.

    A text keeps what a search would have written of it: at most `max_length + 1` tokens, the end
    token among them. So one of more subwords is cut there, and has no end token.

    Returns:
        `(target_in, target_out, truncated)`: `[start] + tokens` without the last one and
        `tokens + [end]`, both `(b, t)`, padded with 0; and whether a text was cut, `(b,)`.
    """
    tokens = tokenizer.tokenize(texts)
    target_out = _ended(tokens)[:, : max_length + 1]
    start = tf.fill([target_out.nrows(), 1], tf.cast(START_ID, target_out.dtype))
    target_in = tf.concat([start, target_out[:, :-1]], axis=1)
    truncated = tokens.row_lengths() > max_length
    return target_in.to_tensor(PADDING_ID), target_out.to_tensor(PADDING_ID), truncated


def write_translations(
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    source: Tensor,
    result: SearchResult,
) -> dict[str, Tensor]:
    """Turns the best hypotheses into text.

    Args:
        source_tokenizer: Of the source ids.
        target_tokenizer: Of the generated ids.
        source: int32 `(b, s)`.
        result: Of a search on `source`.

    Returns:
        What `write_n_best` returns, without the axis n.
    """
    outputs = write_n_best(source_tokenizer, target_tokenizer, source, best(result))
    of_source = ("source_tokens", "source_length")
    return {
        name: output if name in of_source else tf.squeeze(output, axis=1)
        for name, output in outputs.items()
    }


def write_n_best(
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    source: Tensor,
    result: SearchResult,
) -> dict[str, Tensor]:
    """Turns all hypotheses into text, best first.

    A source without text gets empty translations, of length 0 and score 0, and so do empty slots:
    see `trimmed`.

    Args:
        source_tokenizer: Of the source ids.
        target_tokenizer: Of the generated ids.
        source: int32 `(b, s)`.
        result: Of a search on `source`, with n hypotheses a sentence.

    Returns:
        `translation`, `score`, `log_prob` and `target_length` `(b, n)`, `target_tokens`
        `(b, n, t)`, `attention_scores` `(b, n, t, s)` if the search kept them, `source_tokens`
        `(b, s)` and `source_length` `(b,)`: dense, with batch first; t is the length of the longest
        translation of the batch. Tokens and scores beyond a length are empty and 0.
    """
    outputs = trimmed(source, result)
    ids, places = outputs.pop("target_ids"), tf.shape(outputs["target_length"])
    texts = target_tokenizer.detokenize(tf.reshape(ids, [tf.reduce_prod(places), tf.shape(ids)[2]]))
    return outputs | {
        "translation": tf.reshape(texts, places),
        "source_tokens": source_tokenizer.pieces(source),
        "target_tokens": target_tokenizer.pieces(ids),
        "source_length": tf.math.count_nonzero(source, axis=1, dtype=tf.int32),
    }


def write_scores(
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    source: Tensor,
    target: Tensor,
    scored: Any,
) -> dict[str, Tensor]:
    """Names the subwords of target texts that were scored.

    As in `write_n_best`, what belongs to a source without text has length 0 and log-probability 0.

    Args:
        source_tokenizer: Of the source ids.
        target_tokenizer: Of the target ids.
        source: int32 `(b, s)`.
        target: int32 `(b, t)`: `target_out` of `read_target`.
        scored: A `ScoredTarget` of them.

    Returns:
        `log_prob` `(b,)`, `token_log_probs` `(b, t)`, `attention_scores` `(b, t, s)`,
        `source_tokens` `(b, s)`, `target_tokens` `(b, t)`, `source_length` `(b,)`,
        `target_length` `(b,)`: dense, with batch first.
    """
    source_length = tf.math.count_nonzero(source, axis=1, dtype=tf.int32)
    target = tf.where(source_length[:, None] > 1, target, PADDING_ID)
    target_length = tf.math.count_nonzero(target, axis=1, dtype=tf.int32)
    longest = tf.reduce_max(target_length)
    kept = tf.sequence_mask(target_length, longest)
    token_log_probs = tf.cast(scored.token_log_probs[:, :longest], tf.float32)
    attention_scores = tf.cast(scored.attention_scores[:, :longest], tf.float32)
    return {
        "log_prob": tf.where(target_length > 0, tf.cast(scored.log_probs, tf.float32), 0.0),
        "token_log_probs": tf.where(kept, token_log_probs, 0.0),
        "attention_scores": tf.where(kept[..., None], attention_scores, 0.0),
        "source_tokens": source_tokenizer.pieces(source),
        "target_tokens": target_tokenizer.pieces(target[:, :longest]),
        "source_length": source_length,
        "target_length": target_length,
    }


def _ended(ids: tf.RaggedTensor) -> tf.RaggedTensor:
    """Rows of ids with the end id after the last."""
    end = tf.fill([ids.nrows(), 1], tf.cast(END_ID, ids.dtype))
    return tf.concat([ids, end], axis=1)
