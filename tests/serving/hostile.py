"""What a server is sent in the course of years, and what holds of every answer."""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

Columns = dict[str, list]

LONG = 10_000
TEXTS = {
    "plain": "one two three four",
    "empty": "",
    "spaces": "   \t\n\u00a0\u3000",
    "unknown": "犬 two 猫",
    "emoji": "🙂 one 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "hebrew": "שלום עולם one",
    "arabic": "مرحبا بالعالم two",
    "turned": "\u202eone\u202c \u2067two\u2069",
    "combining": "o\u0301\u0302\u0303ne " + "e" + "\u0300" * 50,
    "control": "\x00one\x01\x7f\u0085\ufeff",
    "symbols": "<s> one </s> <unk> <pad> ▁two",
    "last": "\U0010ffff\ufffe\uffff",
    "wide": "ｔｗｏ ﬁ ㍿",
    "long words": ("one two " * LONG)[:LONG],
    "long word": "a" * LONG,
    "long unknown": "犬" * LONG,
    "long spaces": " " * LONG,
    "long marks": "\u0301" * LONG,
    "short": "two",
}
# Sequences that are no UTF-8: alone, cut off, too long, surrogates, beyond the last character.
BROKEN = [
    *(b"\xff", b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x99", b"\xc0\xaf", b"\xe0\x80\xaf"),
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80"),
]
# Ids: none, only padding, below and far outside of a vocabulary, padding in the middle.
IDS = [[], [0, 0, 0], [-1, -1], [2**31 - 1, -(2**31)], [5, 0, 0, 7]]


# What is as long as a side of a sentence.
_OF_LENGTH = {
    "source": ("source_tokens",),
    "target": ("target_tokens", "target_ids", "token_log_probs"),
}


def random_bytes(count: int, seed: int) -> list[bytes]:
    """Strings of bytes: a third any bytes, a third broken text, a third text of any characters."""
    chance = random.Random(seed)
    words = [*(text.encode() for text in TEXTS.values() if len(text) < 100), *BROKEN, b" "]

    def any_bytes() -> bytes:
        return chance.randbytes(chance.randrange(60))

    def broken_text() -> bytes:
        text = bytearray(b"".join(chance.choices(words, k=chance.randrange(1, 6))))
        for _ in range(chance.randrange(4)):
            if text:
                text[chance.randrange(len(text))] = chance.randrange(256)
        return bytes(text)

    def any_characters() -> bytes:
        # Half of them where alphabets are, half anywhere; surrogates are no characters.
        ends = chance.choices((0x500, 0x110000), k=chance.randrange(40))
        codes = (chance.randrange(end) for end in ends)
        return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000).encode()

    kinds = (any_bytes, broken_text, any_characters)
    return [kinds[index % 3]() for index in range(count)]


def signature_defs(model_dir: Path) -> dict[str, Any]:
    """The signatures of a SavedModel as its file describes them."""
    saved = saved_model_pb2.SavedModel.FromString((model_dir / "saved_model.pb").read_bytes())
    (graph,) = saved.meta_graphs
    return {
        name: signature
        for name, signature in graph.signature_def.items()
        if not name.startswith("__")
    }


def columns_of(signature: Any, texts: Sequence[str | bytes], vocabulary: int) -> Columns:
    """A row for each text for every input of a signature, whatever its type.

    Ids are made of the bytes of the text, as many of them outside the vocabulary as in it; numbers
    come in turns, the worst among them, and a second text of a row is the text of another row.
    """
    columns = {}
    for name, info in sorted(signature.inputs.items()):
        kind = tf.as_dtype(info.dtype), len(info.tensor_shape.dim)
        if kind == (tf.string, 1):
            shift = 0 if name == "text" else 7
            columns[name] = [texts[(row + shift) % len(texts)] for row in range(len(texts))]
        elif kind == (tf.float32, 1):
            columns[name] = _in_turns((0.5, 0.0, 3.0, -1.0, np.inf, -np.inf, np.nan), len(texts))
        elif kind == (tf.int32, 1):
            columns[name] = _in_turns((0, 1, -7, 2**31 - 1, -(2**31)), len(texts))
        elif kind == (tf.int32, 2):
            columns[name] = [_ids(text, vocabulary) for text in texts]
        else:
            raise AssertionError(f"no requests are made up here for {name}: {info}")
    return columns


def rows_of(columns: Columns, size: int) -> Iterator[Columns]:
    """The rows in groups of a size. Ids are padded to the longest of their group."""
    count = len(next(iter(columns.values())))
    for start in range(0, count, size):
        yield {name: _padded(values[start : start + size]) for name, values in columns.items()}


def no_rows(columns: Columns) -> Columns:
    return {name: [] for name in columns}


def assert_sound(reply: Mapping[str, np.ndarray], rows: int) -> None:
    """Holds of every reply: rows, valid UTF-8, finite numbers, lengths that agree with the rest."""
    for name, array in reply.items():
        assert array.shape[0] == rows, (name, array.shape)
        if array.dtype == object:
            for text in array.ravel():
                text.decode()
        elif array.dtype.kind == "f":
            assert np.isfinite(array).all(), name
    for side in ("source", "target"):
        if f"{side}_length" in reply:
            _assert_lengths(reply, side)


def assert_same_row(
    together: Mapping[str, Any], alone: Mapping[str, Any], tolerance: float
) -> None:
    """A row of a batch is what it is alone, and where its batch mates are longer there is nothing.

    Numbers may differ by what another order of sums leaves.
    """
    assert set(together) == set(alone)
    for name, array in alone.items():
        array, there = np.asarray(array), np.asarray(together[name])
        inside = tuple(map(slice, array.shape))
        if array.dtype.kind == "f":
            np.testing.assert_allclose(
                there[inside], array, rtol=tolerance, atol=tolerance, err_msg=name
            )
        else:
            assert there[inside].tolist() == array.tolist(), name
        if array.ndim:
            beyond = there.copy()
            beyond[inside] = b"" if array.dtype == object else 0
            assert not any(beyond.ravel().tolist()), name


def row_of(reply: Mapping[str, np.ndarray], row: int) -> dict[str, Any]:
    return {name: array[row] for name, array in reply.items()}


def _assert_lengths(reply: Mapping[str, np.ndarray], side: str) -> None:
    lengths = reply[f"{side}_length"]
    assert (lengths >= 0).all()
    for name in _OF_LENGTH[side]:
        if name in reply:
            values = reply[name]
            assert values.shape[:-1] == lengths.shape, name
            # A batch of no rows may keep the width of the row that stood in.
            assert not lengths.size or values.shape[-1] == lengths.max(), name
            beyond = np.arange(values.shape[-1]) >= lengths[..., None]
            assert not any(values[beyond].tolist()), name
    if "attention_scores" in reply:
        scores = reply["attention_scores"]
        axis = -1 if side == "source" else -2
        _assert_attention(np.moveaxis(scores, axis, -1), lengths, is_target=side == "target")


def _assert_attention(scores: np.ndarray, lengths: np.ndarray, is_target: bool) -> None:
    """Scores `(..., other side, this side)` are 0 beyond lengths; a target step's sum to 1."""
    while lengths.ndim < scores.ndim - 1:
        lengths = lengths[..., None]
    inside = np.arange(scores.shape[-1]) < lengths[..., None]
    assert not np.where(inside, 0, scores).any()
    if is_target:
        np.testing.assert_allclose(scores.sum(-2), np.squeeze(inside, -2), atol=1e-4)


def _in_turns(values: Sequence[float], count: int) -> list:
    return [values[row % len(values)] for row in range(count)]


def _ids(text: str | bytes, vocabulary: int) -> list[int]:
    text = text if isinstance(text, bytes) else text.encode()
    return [byte % (2 * vocabulary) - 2 for byte in text]


def _padded(values: list) -> list:
    if not values or not isinstance(values[0], list):
        return values
    longest = max(map(len, values))
    return [[*row, *[0] * (longest - len(row))] for row in values]
