"""Encodes files, reads an epoch of their batches, and prints the most memory that it took.

What the pages of mapped files take is left out: the system takes them back when it needs them.
"""

import re
import sys
from pathlib import Path

import numpy as np

from keras_luong.text import TrainingBatches, encode_files, encoded_files
from tests.training.mortal import tokenizer

LETTERS, WORDS = np.array(list("abcdefgh")), 80


def write(path, count):
    """Lines of single letters, 160 bytes each."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(count):
            file.write(" ".join(LETTERS[rng.integers(0, 8, WORDS)]) + "\n")


def memory():
    """Bytes of this process that are of no file."""
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def main(folder, count):
    encoded_files._CHUNK = 4096  # so that a chunk is little beside the whole
    paths = Path(folder) / "source", Path(folder) / "target"
    for path in paths:
        write(path, int(count))
    encoded = encode_files(
        *paths, tokenizer(), tokenizer(), Path(folder) / "ids", max_length=2 * WORDS
    )
    batches, seen = TrainingBatches(encoded, batch_tokens=16384), [memory()]
    for _ in batches.dataset().take(batches.steps_per_epoch):
        seen.append(memory())
    assert len(seen) == batches.steps_per_epoch + 1 and len(encoded) == int(count)
    print(max(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
