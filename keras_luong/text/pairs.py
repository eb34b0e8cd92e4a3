"""Sentence pairs: read from two parallel files, and encoded once to ids."""

import dataclasses
import gzip
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_luong.checked_numbers import integer
from keras_luong.text.subword_tokenizer import SubwordTokenizer

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
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


def read_pairs(
    source_path: str | os.PathLike[str], target_path: str | os.PathLike[str]
) -> list[tuple[str, str]]:
    """Reads two parallel files whole: the list of what `stream_pairs` yields.

    Raises:
        FileNotFoundError: As `stream_pairs`.
        ValueError: As `stream_pairs`.
    """
    return list(stream_pairs(source_path, target_path))


def stream_pairs(
    source_path: str | os.PathLike[str], target_path: str | os.PathLike[str]
) -> Iterator[tuple[str, str]]:
    r"""Reads two parallel files line by line, line n of one being the translation of the other's.

    Files whose name ends in `.gz` are unpacked. Lines end at `\n` or `\r\n` and nowhere else; a
    byte order mark at the start is removed. Empty lines stay: `encode_pairs` drops and counts them.

    Yields:
        Tuples of source and target text. No more than a line of each file is in memory.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is empty, is not UTF-8 (with the number of the line), cannot be
            unpacked, or has more lines than the other (with both counts). What was yielded before
            is right, so a caller that wants all or nothing reads to the end first.
    """
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
        pairs: Tuples of source and target text.
        source_tokenizer: Tokenizer of the source texts.
        target_tokenizer: Tokenizer of the target texts; may be the same.
        max_length: The most tokens that either side may have, the end not counted.

    Returns:
        The pairs that have at least 1 and at most `max_length` tokens on both sides, in the order
        they came in.

    Raises:
        TypeError: If a pair is no tuple of two strings.
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
    max_length = integer("max_length", max_length, 1)
    source = _tokenize_all(source_texts, source_tokenizer)
    target = _tokenize_all(target_texts, target_tokenizer)
    source_lengths, target_lengths = source.row_lengths().numpy(), target.row_lengths().numpy()
    empty = np.minimum(source_lengths, target_lengths) == 0
    too_long = ~empty & (np.maximum(source_lengths, target_lengths) > max_length)
    dropped = {"empty": int(empty.sum()), "too_long": int(too_long.sum())}
    kept = np.flatnonzero(~empty & ~too_long)
    with tf.device("CPU:0"):
        return EncodedPairs(tf.gather(source, kept), tf.gather(target, kept), dropped), kept


def _check_left(encoded: EncodedPairs, max_length: int) -> None:
    if not len(encoded):
        empty, too_long = encoded.dropped["empty"], encoded.dropped["too_long"]
        raise ValueError(
            f"No pair remains of {empty + too_long}: {empty} have an empty side, "
            f"{too_long} have a side of more than {max_length} tokens (`max_length`)."
        )


def _lines(path: str | os.PathLike[str]) -> Iterator[str]:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    is_empty = True
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            # Lines of bytes end at \n alone. Those of text end where other tools do not end them,
            # such as at U+2028, and two parallel files would no longer agree.
            for number, line in enumerate(file, start=1):
                line = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
                if line:  # a byte order mark alone is no line
                    is_empty = False
                    yield _decode(line.removesuffix(b"\n").removesuffix(b"\r"), path, number)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"The file {str(path)!r} is no complete gzip file: {error}") from error
    if is_empty:
        raise ValueError(f"The file {str(path)!r} is empty.")


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Line {number} of {str(path)!r} is not UTF-8: byte {line[error.start]:#04x} at "
            f"position {error.start}."
        ) from error


def _split_pairs(pairs: Iterable[tuple[str, str]]) -> tuple[list[bytes], list[bytes]]:
    source, target = [], []
    for i, pair in enumerate(pairs):
        if not isinstance(pair, tuple) or [type(text) for text in pair] != [str, str]:
            raise TypeError(f"Every pair must be a tuple of two str. Received: {pair!r} at {i}")
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
