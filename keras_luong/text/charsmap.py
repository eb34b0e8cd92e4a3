"""The tables by which a SentencePiece model normalizes text, which its libraries do not check."""

import numpy as np

_OFFSET_SHIFT, _EXTENSION_BIT, _LEAF_BIT = 10, 9, 31


def check_charsmap(charsmap: bytes) -> None:
    """Raises for a table in which a look-up would read outside of it, and end the process.

    A table is the size of a trie in 4 bytes, the trie, and strings that end with a NUL. The trie is
    a double array: unit i with the offset o has its child by the byte c at `i ^ o ^ c`, and a leaf
    holds where its string begins. Whoever looks up text reads the child's unit to see whether it
    is one, so the units of all 256 bytes must be there.

    Raises:
        ValueError: For such a table.
    """
    if not charsmap:
        return
    size = int.from_bytes(charsmap[:4], "little")
    strings = charsmap[4 + size :]
    if len(charsmap) < 4 + size or not size or size % 1024 or not strings.endswith(b"\0"):
        raise ValueError("Not a SentencePiece model: its table of characters is cut off.")
    units = np.frombuffer(charsmap, "<u4", size // 4, offset=4).astype("int64")
    leaves = (units >> _LEAF_BIT) == 1
    offsets = (units >> _OFFSET_SHIFT) << ((units & (1 << _EXTENSION_BIT)) >> 6)
    children = (np.arange(len(units)) ^ offsets) | 0xFF
    starts = units & ((1 << _LEAF_BIT) - 1)
    if (children[~leaves] >= len(units)).any() or (starts[leaves] >= len(strings)).any():
        raise ValueError("Not a SentencePiece model: its table of characters leads out of itself.")
