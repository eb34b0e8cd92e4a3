"""Text to ids, and what a search or a score found to text: the TensorFlow graph around a model.

`Translator` and the export run these same functions, so they cannot disagree.
"""

from typing import Any

import tensorflow as tf

from keras_luong.ids import END_ID, PADDING_ID, START_ID
from keras_luong.search import SearchResult
from keras_luong.serving.id_graph import lengths_of, scored_ids, trimmed
from keras_luong.text import SubwordTokenizer

Tensor = Any

# A subword has 16 characters at most, as SentencePiece makes them; the rest is for runs of spaces
# and of unknown characters, each of which is one subword or none.
_CHARACTERS_A_SUBWORD = 64


def source_ids(tokenizer: SubwordTokenizer, texts: Tensor, max_length: int) -> tf.RaggedTensor:
    """Turns texts `(b,)` into ids `(b, None)`, the end id last in each row.

    Texts of more than `max_length` subwords are cut there. What a text of so many never has, more
    than 64 characters for each, is not even read: the work is bounded, whatever is sent.
    """
    return _ended(_tokens(tokenizer, texts, max_length)[0][:, :max_length])


def read_source(
    tokenizer: SubwordTokenizer, texts: Tensor, max_length: int
) -> tuple[Tensor, Tensor]:
    """`source_ids` as a dense `(b, s)`, padded with 0; and whether a text was cut, `(b,)`."""
    tokens, truncated = _tokens(tokenizer, texts, max_length)
    return _ended(tokens[:, :max_length]).to_tensor(PADDING_ID), truncated


def read_target(
    tokenizer: SubwordTokenizer, texts: Tensor, max_length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Turns target texts `(b,)` into what forced decoding takes.

    A text keeps what a search would have written of it: at most `max_length + 1` tokens, the end
    token among them. So one of more subwords is cut there, and has no end token. As in
    `source_ids`, no more than 64 characters a subword are read.

    Returns:
        `(target_in, target_out, truncated)`: `[start] + tokens` without the last one and
        `tokens + [end]`, both `(b, t)`, padded with 0; and whether a text was cut, `(b,)`.
    """
    tokens, truncated = _tokens(tokenizer, texts, max_length)
    target_out = _ended(tokens)[:, : max_length + 1]
    start = tf.fill([target_out.nrows(), 1], tf.cast(START_ID, target_out.dtype))
    target_in = tf.concat([start, target_out[:, :-1]], axis=1)
    return target_in.to_tensor(PADDING_ID), target_out.to_tensor(PADDING_ID), truncated


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
        "source_length": lengths_of(source),
    }


def write_scores(
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    source: Tensor,
    target: Tensor,
    scored: Any,
) -> dict[str, Tensor]:
    """Names the subwords of target texts that were scored.

    What belongs to a source without text has length 0 and log-probability 0: see `scored_ids`.

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
    outputs = scored_ids(source, target, scored)
    ids = outputs.pop("target_ids")
    return outputs | {
        "source_tokens": source_tokenizer.pieces(source),
        "target_tokens": target_tokenizer.pieces(ids),
        "source_length": lengths_of(source),
    }


def _tokens(
    tokenizer: SubwordTokenizer, texts: Tensor, max_length: int
) -> tuple[tf.RaggedTensor, Tensor]:
    """The subwords of what is read of texts, and whether a text has more than `max_length`."""
    texts, shortened = _shortened(texts, max_length)
    tokens = tokenizer.tokenize(texts)
    return tokens, shortened | (tokens.row_lengths() > max_length)


def _shortened(texts: Tensor, max_length: int) -> tuple[Tensor, Tensor]:
    """The beginnings of texts, and whether that is not all of them, `(b,)`."""
    limit = _CHARACTERS_A_SUBWORD * max_length
    # Bytes first, four for the longest character, so that no character is cut in two: of bytes
    # that are none, a character may have any number.
    start = tf.strings.substr(tf.strings.substr(texts, 0, 4 * limit), 0, limit, unit="UTF8_CHAR")
    return start, tf.strings.length(start) < tf.strings.length(texts)


def _ended(ids: tf.RaggedTensor) -> tf.RaggedTensor:
    """Rows of ids with the end id after the last."""
    end = tf.fill([ids.nrows(), 1], tf.cast(END_ID, ids.dtype))
    return tf.concat([ids, end], axis=1)
