"""Encodes files, reads an epoch of their batches, and prints the most memory that it took."""

import resource
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


def main(folder, count):
    encoded_files._CHUNK = 4096  # so that a chunk is little beside the whole
    paths = Path(folder) / "source", Path(folder) / "target"
    for path in paths:
        write(path, int(count))
    encoded = encode_files(
        *paths, tokenizer(), tokenizer(), Path(folder) / "ids", max_length=2 * WORDS
    )
    batches = TrainingBatches(encoded, batch_tokens=16384)
    read = sum(1 for _ in batches.dataset().take(batches.steps_per_epoch))
    assert read == batches.steps_per_epoch and len(encoded) == int(count)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
