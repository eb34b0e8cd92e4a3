"""Sentence pairs: read from two parallel files, and encoded once to ids."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_luong.checked_numbers import count_of
from keras_luong.iterables import pairs_of
from keras_luong.paths import PathLike
from keras_luong.text.subword_tokenizer import SubwordTokenizer, check_tokenizers
from keras_luong.text_files import is_standard_input, read_lines

# A subword has 16 characters of 4 bytes at most, as SentencePiece makes them; the rest is for runs
# of spaces. A text of more bytes for each that is allowed is not tokenized: it is too long.
_BYTES_A_SUBWORD = 256
# Texts for one call of the tokenizer: enough to keep it busy, few enough to hold in memory.
_CHUNK = 8192


@dataclasses.dataclass(frozen=True)
class EncodedPairs:
    """Pairs of sentences as ids, without start and end.

    Args:
        source: Ragged int32, `(n, None)`.
        target: Ragged int32, `(n, None)`.
        dropped: How many pairs were left out, by reason: `"empty"` and `"too_long"`.
    """

    source: tf.RaggedTensor
    target: tf.RaggedTensor
    dropped: dict[str, int]

    def __len__(self) -> int:
        return int(self.source.nrows())


def read_pairs(source_path: PathLike, target_path: PathLike) -> list[tuple[str, str]]:
    """Reads two parallel files whole: the list of what `stream_pairs` yields.

    Raises:
        FileNotFoundError: As `stream_pairs`.
        ValueError: As `stream_pairs`.
    """
    return list(stream_pairs(source_path, target_path))


def stream_pairs(source_path: PathLike, target_path: PathLike) -> Iterator[tuple[str, str]]:
    r"""Reads two parallel files line by line, line n of one being the translation of the other's.

    Each is read as `read_lines` says: UTF-8, `.gz` is unpacked, `"-"` is standard input, lines end
    at `\n` or `\r\n` and nowhere else. Empty lines stay: `encode_pairs` drops and counts them.

    Yields:
        Tuples of source and target text. No more than a line of each file is in memory.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is empty, is not UTF-8 (with the number of the line), cannot be
            unpacked, or has more lines than the other (with both counts), and if both are standard
            input. What was yielded before is right, so a caller that wants all or nothing reads to
            the end first.
    """
    if is_standard_input(source_path) and is_standard_input(target_path):
        raise ValueError("Only one of two files can be standard input. Received: '-' for both")
    counts = [0, 0]
    for pair in itertools.zip_longest(_lines(source_path), _lines(target_path)):
        counts = [count + (text is not None) for count, text in zip(counts, pair, strict=True)]
        if counts[0] == counts[1]:
            yield pair
    if counts[0] != counts[1]:
        raise ValueError(
            "Parallel files must have the same number of lines. Received: "
            f"{str(source_path)!r} with {counts[0]} and {str(target_path)!r} with {counts[1]}"
        )


def encode_pairs(
    pairs: Iterable[tuple[str, str]],
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    *,
    max_length: int = 100,
) -> EncodedPairs:
    """Tokenizes all pairs once, and keeps those that can be learnt from.

    Args:
        pairs: Source and target texts: an iterable of tuples, or of rows of two.
        source_tokenizer: Tokenizer of the source texts.
        target_tokenizer: Tokenizer of the target texts; may be the same.
        max_length: The most tokens that either side may have, the end not counted.

    Returns:
        The pairs that have at least 1 and at most `max_length` tokens on both sides, in the order
        they came in. A side of more than 256 bytes for each token that is allowed is too long,
        whatever it has.

    Raises:
        TypeError: If a pair is not two strings, and for what is no tokenizer.
        ValueError: If no pair remains.
    """
    encoded = encode_some(pairs, source_tokenizer, target_tokenizer, max_length)
    _check_left(encoded, max_length)
    return encoded


def encode_some(
    pairs: Iterable[tuple[str, str]],
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    max_length: int,
) -> EncodedPairs:
    """What `encode_pairs` does, for a part of the pairs, of which none may remain."""
    source, target = _split_pairs(pairs)
    return _encode_kept(source, target, source_tokenizer, target_tokenizer, max_length)[0]


def encode_with_texts(
    pairs: Iterable[tuple[str, str]],
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    max_length: int,
) -> tuple[EncodedPairs, list[str], list[str]]:
    """What `encode_pairs` does, and the source and target texts of the pairs that remain."""
    source, target = _split_pairs(pairs)
    encoded, kept = _encode_kept(source, target, source_tokenizer, target_tokenizer, max_length)
    _check_left(encoded, max_length)
    return encoded, [source[i].decode() for i in kept], [target[i].decode() for i in kept]


def _encode_kept(
    source_texts: Sequence[bytes],
    target_texts: Sequence[bytes],
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    max_length: int,
) -> tuple[EncodedPairs, np.ndarray]:
    """The pairs that can be learnt from, and which of the given ones they are."""
    max_length = count_of("max_length", max_length)
    check_tokenizers(source_tokenizer=source_tokenizer, target_tokenizer=target_tokenizer)
    most = _BYTES_A_SUBWORD * max_length
    longest = np.fromiter(map(max, map(len, source_texts), map(len, target_texts)), int)
    unread = longest > most
    source = _tokenize_all(_without_longer(source_texts, most), source_tokenizer)
    target = _tokenize_all(_without_longer(target_texts, most), target_tokenizer)
    source_lengths, target_lengths = source.row_lengths().numpy(), target.row_lengths().numpy()
    empty = ~unread & (np.minimum(source_lengths, target_lengths) == 0)
    too_long = unread | ~empty & (np.maximum(source_lengths, target_lengths) > max_length)
    dropped = {"empty": int(empty.sum()), "too_long": int(too_long.sum())}
    kept = np.flatnonzero(~empty & ~too_long)
    with tf.device("CPU:0"):
        return EncodedPairs(tf.gather(source, kept), tf.gather(target, kept), dropped), kept


def _without_longer(texts: Sequence[bytes], most: int) -> list[bytes]:
    return [text if len(text) <= most else b"" for text in texts]


def _check_left(encoded: EncodedPairs, max_length: int) -> None:
    if not len(encoded):
        empty, too_long = encoded.dropped["empty"], encoded.dropped["too_long"]
        raise ValueError(
            f"No pair remains of {empty + too_long}: {empty} have an empty side, "
            f"{too_long} have a side of more than {max_length} tokens (`max_length`)."
        )


def _lines(path: PathLike) -> Iterator[str]:
    is_empty = True
    for line in read_lines(path):
        is_empty = False
        yield line
    if is_empty:
        raise ValueError(f"The file {str(path)!r} is empty.")


def _split_pairs(pairs: Iterable[tuple[str, str]]) -> tuple[list[bytes], list[bytes]]:
    source, target = [], []
    for i, pair in enumerate(pairs_of("pairs", pairs)):
        try:
            source.append(pair[0].encode())
            target.append(pair[1].encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"The pair at {i} cannot be written as UTF-8: {error}") from error
    return source, target


def _tokenize_all(texts: Sequence[bytes], tokenizer: SubwordTokenizer) -> tf.RaggedTensor:
    with tf.device("CPU:0"):
        # At least one chunk, so that no pairs give no rows.
        chunks = [
            tokenizer.tokenize(tf.constant(texts[i : i + _CHUNK], tf.string))
            for i in range(0, max(len(texts), 1), _CHUNK)
        ]
        return tf.concat([chunk.with_row_splits_dtype(tf.int64) for chunk in chunks], axis=0)
