"""Where the time of a TensorFlow function goes: milliseconds of its operations, by part."""

import collections
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

# The first pattern that an operation's name matches says what it belongs to.
_PARTS = {
    "encoder": r"^encoder",
    "vocabulary product": r"head",
    "LSTM cell": r"lstm_cell",
    "attention vector": r"attention_vector",
    "attention": r"attention_decoder_cell",
    "embedding": r"embedding",
    "normalizer": r"LogSumExp|[Ss]oftmax",
    "top k, maximum": r"TopK|ArgMax|sort",
    "gathers": r"Gather",
    "where": r"SelectV2",
}


def profile(function: Callable[[], object], most: int = 12) -> dict:
    """Runs the function once under TensorFlow's profiler.

    An operation counts with the time from its start to its end, whatever threads helped it. Two may
    run at a time, and the profiler costs some: the sum is near the wall time, not equal to it.
    """
    function()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        function()
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        times = _operations(path.read_bytes())
    parts: collections.Counter[str] = collections.Counter()
    for name, milliseconds in times.items():
        parts[_part(name)] += milliseconds
    operations = [
        ("/".join(name.split("/")[-3:]), milliseconds)  # the loop's path says nothing
        for name, milliseconds in times.most_common(most)
    ]
    return {"parts": parts.most_common(), "operations": operations}


def _operations(profile: bytes) -> "collections.Counter[str]":
    # In TensorFlow's wheel, but in no documented place.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(profile)
    times: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                # "path:Type" is an operation; a function's or a thread's work has no such name.
                if re.fullmatch(r"[^:\s]+:\w+", name) and "::" not in name:
                    times[name] += event.duration_ps / 1e9
    return times


def _part(name: str) -> str:
    return next((part for part, pattern in _PARTS.items() if re.search(pattern, name)), "rest")
