"""Sentence pairs: read from two parallel files, and encoded once to ids."""

import dataclasses
import gzip
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

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
    r"""Reads two parallel files, line n of one being the translation of line n of the other.

    Files whose name ends in `.gz` are unpacked. Lines end at `\n` or `\r\n` and nowhere else; a
    byte order mark at the start is removed. Empty lines stay: `encode_pairs` drops and counts them.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is empty, is not UTF-8 (with the number of the line), cannot be
            unpacked, or has more lines than the other (with both counts).
    """
    source, target = _read_lines(source_path), _read_lines(target_path)
    if len(source) != len(target):
        raise ValueError(
            "Parallel files must have the same number of lines. Received: "
            f"{str(source_path)!r} with {len(source)} and {str(target_path)!r} with {len(target)}"
        )
    return list(zip(source, target, strict=True))


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
    if not isinstance(max_length, int) or max_length < 1:
        raise ValueError(f"`max_length` must be an integer of at least 1. Received: {max_length!r}")
    source_texts, target_texts = _split_pairs(pairs)
    source = _tokenize_all(source_texts, source_tokenizer)
    target = _tokenize_all(target_texts, target_tokenizer)
    source_lengths, target_lengths = source.row_lengths().numpy(), target.row_lengths().numpy()
    empty = np.minimum(source_lengths, target_lengths) == 0
    too_long = ~empty & (np.maximum(source_lengths, target_lengths) > max_length)
    dropped = {"empty": int(empty.sum()), "too_long": int(too_long.sum())}
    kept = np.flatnonzero(~empty & ~too_long)
    if not len(kept):
        raise ValueError(
            f"No pair remains of {len(source_texts)}: {dropped['empty']} have an empty side, "
            f"{dropped['too_long']} have a side of more than {max_length} tokens (`max_length`)."
        )
    with tf.device("CPU:0"):
        return EncodedPairs(tf.gather(source, kept), tf.gather(target, kept), dropped)


def _read_lines(path: str | os.PathLike[str]) -> list[str]:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    data = _read_bytes(path).removeprefix(_BYTE_ORDER_MARK)
    if not data:
        raise ValueError(f"The file {str(path)!r} is empty.")
    # Not splitlines(): it also splits at characters that other tools leave inside a line, such as
    # U+2028, and two parallel files would no longer agree.
    lines = data.removesuffix(b"\n").split(b"\n")
    return [_decode(line.removesuffix(b"\r"), path, i) for i, line in enumerate(lines, start=1)]


def _read_bytes(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"The file {str(path)!r} is no complete gzip file: {error}") from error


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
