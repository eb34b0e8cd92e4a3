"""Text to source ids, and search results to text: the TensorFlow graph around a model.

`Translator.translate` and the export run these same functions, so they cannot disagree.
"""

from typing import Any

import tensorflow as tf

from keras_luong.ids import END_ID, PADDING_ID
from keras_luong.search import SearchResult
from keras_luong.text import SubwordTokenizer

Tensor = Any


def read_source(tokenizer: SubwordTokenizer, texts: Tensor, max_length: int) -> Tensor:
    """Turns texts `(b,)` into ids `(b, s)`, padded with 0, the end id last in each row.

    Texts of more than `max_length` subwords are cut there.
    """
    ids = tokenizer.tokenize(texts)[:, :max_length]
    end = tf.fill([ids.nrows(), 1], END_ID)
    return tf.concat([ids, tf.cast(end, ids.dtype)], axis=1).to_tensor(PADDING_ID)


def write_translations(
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    source: Tensor,
    result: SearchResult,
) -> dict[str, Tensor]:
    """Turns the best hypotheses into text.

    A source without text (nothing before the end id) gets the empty translation, of length 0 and
    score 0: what a model would make of nothing is noise.

    Args:
        source_tokenizer: Of the source ids.
        target_tokenizer: Of the generated ids.
        source: int32 `(b, s)`.
        result: Of a search on `source`.

    Returns:
        `translation` `(b,)`, `score` `(b,)`, `attention_scores` `(b, t, s)`,
        `source_tokens` `(b, s)`, `target_tokens` `(b, t)`, `source_length` `(b,)`,
        `target_length` `(b,)`: dense, with batch first; t is the length of the longest translation
        of the batch. Tokens and scores beyond a length are empty and 0.
    """
    source_length = tf.reduce_sum(tf.cast(source != PADDING_ID, tf.int32), axis=1)
    has_text = source_length > 1
    target_length = tf.where(has_text, result.lengths[:, 0], 0)
    longest = tf.reduce_max(target_length, axis=0)
    kept = tf.sequence_mask(target_length, longest)
    ids = tf.where(kept, result.ids[:, 0, :longest], PADDING_ID)
    all_scores: Tensor = result.attention_scores
    attention_scores = tf.cast(all_scores[:, 0, :longest], tf.float32)
    return {
        "translation": target_tokenizer.detokenize(ids),
        "score": tf.where(has_text, tf.cast(result.scores[:, 0], tf.float32), 0.0),
        "attention_scores": tf.where(kept[:, :, None], attention_scores, 0.0),
        "source_tokens": source_tokenizer.pieces(source),
        "target_tokens": target_tokenizer.pieces(ids),
        "source_length": source_length,
        "target_length": target_length,
    }
