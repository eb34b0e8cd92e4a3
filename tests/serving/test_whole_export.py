"""An export is whole or not there: killed at any moment, and on a disk that is full."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_luong.serving import next_version

ROOT = Path(__file__).resolve().parents[2]
PARTS = {
    "saved_model.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    "assets.extra/model_card.json",
    "assets.extra/tf_serving_warmup_requests",
}

# Exports one version after another of a model of 4 MB, so that much of the time goes into writing.
EXPORTS = """
import os, resource, sys
import keras
import tensorflow as tf
from keras_luong.serving import Signature, export_saved_model, next_version

model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(500_000, use_bias=True)])

def total(text):
    lengths = tf.cast(tf.strings.length(text), tf.float32)[:, None]
    return {"total": tf.reduce_sum(model(lengths) * 0 + lengths, axis=1)}

text = tf.TensorSpec((None,), tf.string)
signatures = {"serving_default": Signature(total, {"text": text}, {"text": ["abc"]})}
folder = sys.argv[1]

def export():
    export_saved_model(next_version(folder), model, signatures)
"""
FOREVER = EXPORTS + "export()\nprint('ready', flush=True)\nwhile True:\n    export()\n"
ON_FULL_DISKS = """
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for most in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        export()
    except (OSError, tf.errors.OpError) as error:
        failure = type(error).__name__
    else:
        failure = None
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(most, failure, *sorted(os.listdir(folder)))
export()
"""


def started(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_whole(version):
    parts = {str(part.relative_to(version)) for part in version.rglob("*") if part.is_file()}
    assert parts - {"fingerprint.pb"} == PARTS
    answer = tf.saved_model.load(str(version)).signatures["serving_default"]
    assert answer(text=tf.constant(["abc", ""]))["total"].numpy().tolist() == [1_500_000, 0]
    assert (
        "serving_default"
        in json.loads((version / "assets.extra/model_card.json").read_text())["signatures"]
    )


def test_a_version_is_whole_or_not_there_whenever_the_exporter_is_killed(tmp_path):
    process = started(FOREVER, tmp_path / "m")
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    # Stopped at random moments, the folder is looked at as it would be found after a crash.
    draw, moments, unfinished = np.random.default_rng(), 0, 0
    while moments < 20 or unfinished < 5:
        moments += 1
        assert moments < 200, f"{unfinished} of {moments} moments fell into the writing"
        time.sleep(draw.uniform(0, 0.15))
        process.send_signal(signal.SIGSTOP)
        versions, others = split(tmp_path / "m")
        for version in versions[-1:]:
            assert_whole(version)
        unfinished += bool(others)
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    versions, others = split(tmp_path / "m")
    for version in versions:
        assert_whole(version)
    # What a crash leaves has a name that the server does not read, and is in nobody's way.
    assert all(other.name.startswith(".") for other in others)
    assert next_version(tmp_path / "m").name == str(len(versions) + 1)


def split(folder):
    """The versions as the server sees them, oldest first, and what else there is."""
    parts = list(folder.iterdir())
    versions = sorted((part for part in parts if part.name.isdecimal()), key=lambda p: int(p.name))
    return versions, [part for part in parts if part not in versions]


def test_a_full_disk_leaves_nothing_and_the_next_export_works(tmp_path):
    (tmp_path / "m").mkdir()
    limits = [0, 50, 300, 2_000, 100_000, 3_900_000]
    process = started(EXPORTS + ON_FULL_DISKS, tmp_path / "m", *limits)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    for line, most in zip(output.splitlines(), limits, strict=True):
        limit, failure, *left = line.split()
        assert (int(limit), left) == (most, []) and failure != "None", line
    assert [part.name for part in (tmp_path / "m").iterdir()] == ["1"]
    assert_whole(tmp_path / "m" / "1")


@pytest.mark.parametrize("used", ["auto", True, False])
def test_layers_are_traced_without_cudnn_and_get_back_what_they_had(used):
    import keras

    from keras_luong.serving.export import without_cudnn

    class Outer(keras.Layer):
        def __init__(self):
            super().__init__()
            self.inner = {"rnn": [keras.layers.GRU(2, use_cudnn=used)]}

    source = keras.Input((None, 3))
    lstm = keras.layers.LSTM(2, return_sequences=True, use_cudnn=used)
    both = keras.layers.Bidirectional(lstm)
    outer = Outer()
    model = keras.Model(source, both(source))
    model.outer = outer
    layers = [both.forward_layer, both.backward_layer, outer.inner["rnn"][0]]
    before = [layer.use_cudnn for layer in layers]
    with pytest.raises(RuntimeError, match="inside"), without_cudnn(model):
        assert [layer.use_cudnn for layer in layers] == [False] * 3
        raise RuntimeError("inside")
    assert [layer.use_cudnn for layer in layers] == before
