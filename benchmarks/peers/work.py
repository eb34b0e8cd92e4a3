"""The common work, the same for every peer. Only the standard library."""

import ctypes
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# Other sizes come as JSON in the environment.
_SIZES = json.loads(os.environ.get("WORK_SIZES", "{}"))
VOCABULARY = _SIZES.get("vocabulary", 8000)
EMBEDDING = _SIZES.get("embedding", 256)
ENCODER_UNITS = _SIZES.get("encoder_units", 256)  # each way
UNITS = _SIZES.get("units", 512)  # of the decoder, its attention and its attention vector
BATCH = _SIZES.get("batch", 32)  # of a search
TRAINING_BATCH = _SIZES.get("batch", 64)
SOURCE_LENGTH = _SIZES.get("source_length", 30)
BEAM_WIDTH = 5
STEPS = _SIZES.get("steps", 30)  # of a search; of training the target's length
PADDING_ID, START_ID, END_ID = 0, 2, 3
# Environment variables under which blocks of 64 kB and more go back to the system when freed:
# glibc's own threshold grows with use, and under oneDNN TensorFlow keeps what it ever had.
EXACT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "TF_ENABLE_ONEDNN_OPTS": "0"}
# The bias of the end in every peer's output layer: no search ends before its last step.
NEVER = -1e9


def source(batch: int = BATCH, length: int = SOURCE_LENGTH) -> list[list[int]]:
    """Source ids with padding behind: two thirds of the length and more are kept."""
    numbers = random.Random(1)
    lengths = [length - row % (length // 3 + 1) for row in range(batch)]
    return [
        [numbers.randrange(4, VOCABULARY) for _ in range(kept - 1)]
        + [END_ID]
        + [PADDING_ID] * (length - kept)
        for kept in lengths
    ]


def pairs(
    batch: int = TRAINING_BATCH,
) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Source, target input and labels of a training batch, padded as `source` is."""
    labels = source(batch, STEPS)[::-1]
    inputs = [[START_ID, *row[:-1]] for row in labels]
    # Where the label is padding, so is the input.
    inputs = [
        [one if label else PADDING_ID for one, label in zip(*both, strict=True)]
        for both in zip(inputs, labels, strict=True)
    ]
    return source(batch), inputs, labels


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


def peak_megabytes(function: Callable[[], object]) -> float:
    """Peak memory of this process in a call, above what it holds between calls.

    Meant for a process that `EXACT_MEMORY` started, where what is freed goes back to the system.
    """
    function()  # what a first call loads is not what is measured
    return statistics.median(_peak_megabytes(function) for _ in range(3))


def held_megabytes() -> float:
    """What this process holds now, after what earlier calls left behind was given back."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _status("VmRSS")


def _peak_megabytes(function: Callable[[], object]) -> float:
    idle = held_megabytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    function()
    return _status("VmHWM") - idle


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
