"""Tables of characters with which sentencepiece ends the process."""

import numpy as np
import pytest

from keras_luong.text.charsmap import check_charsmap

# A trie of one block: the root has the offset 0, "a" is a leaf of it.
UNITS = np.zeros(256, "<u4")


def charsmap(units=UNITS, strings=b"b\0", size=None):
    size = 4 * len(units) if size is None else size
    return size.to_bytes(4, "little") + np.asarray(units, "<u4").tobytes() + strings


def changed(place, unit):
    units = UNITS.copy()
    units[place] = unit
    return units


def test_a_table_that_is_whole():
    check_charsmap(b"")
    check_charsmap(charsmap())
    check_charsmap(charsmap(changed(97, 1 << 31 | 1)))
    check_charsmap(charsmap(changed(0, 255 << 10)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xff\xff\x7fabc", "cut off"),
        (b"\0", "cut off"),
        (charsmap(size=8192), "cut off"),
        (charsmap(UNITS[:100]), "cut off"),
        (charsmap(UNITS[:0]), "cut off"),
        (charsmap(strings=b"b"), "cut off"),
        (charsmap(strings=b""), "cut off"),
        (charsmap(changed(97, 1 << 31 | 2)), "leads out"),
        (charsmap(changed(0, 256 << 10)), "leads out"),
        (charsmap(changed(5, 1 << 10 | 1 << 9)), "leads out"),
        (charsmap(np.full(256, 2**31 - 1)), "leads out"),
        (charsmap(np.full(256, 2**32 - 1)), "leads out"),
    ],
)
def test_a_table_that_is_not(content, message):
    with pytest.raises(ValueError, match=f"Not a SentencePiece model: its table .* {message}"):
        check_charsmap(content)
