import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

SCRIPT = Path(__file__).with_name("devices.py")
# Sums over the batch are added up in another order, in float32: 1e-7 of a weight a step, and Adam
# divides by the root of gradients that are small themselves.
TOLERANCE = 1e-5


def start(backend, *arguments, **options):
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(SCRIPT.parents[2])}
    return subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def found(backend, *arguments):
    process = start(backend, *arguments)
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def test_mirrored_on_tensorflow(tmp_path):
    differences = found("tensorflow", "mirrored", tmp_path)
    assert max(differences["without dropout"].values()) < TOLERANCE
    assert differences["resumed"] == 0
    assert differences["guided alignment"] < 1e-6
    assert differences["divergence"] < 1e-6
    # What docs/devices.md says of Keras: it clips what each replica has before it adds that up, and
    # the replicas draw the same masks.
    assert differences["clipped"] > 10 * TOLERANCE
    assert differences["masks"] == 0


def test_data_parallel_on_jax(tmp_path):
    pytest.importorskip("jax")
    differences = found("jax", "sharded", tmp_path)
    assert max(differences["with dropout"].values()) < TOLERANCE
    # A log is written there, too, without the norms of gradients.
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        *("alignments", "hyper_parameters", "texts", "train", "validation")
    ]
    assert "gradient_norm" not in differences["with dropout"]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def workers(directory, results):
    port = free_port()
    return [
        start("jax", "worker", number, port, directory, result)
        for number, result in enumerate(results)
    ]


def weights(path):
    with np.load(path) as file:
        return [file[name] for name in file.files]


@pytest.mark.long
def test_what_keras_says_to_several_workers_of_tensorflow():
    """The program at the end of docs/devices.md: a Keras that trains there makes this test fail."""
    page = (SCRIPT.parents[2] / "docs" / "devices.md").read_text()
    program = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)[-1]
    workers = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    running = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CONFIG": json.dumps(task)}
        arguments = [sys.executable, "-c", program]
        running.append(
            subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
        )
    said = [process.communicate(timeout=200)[1] for process in running]
    assert any("Attempt to convert a value (PerReplica:{" in one for one in said), said


@pytest.mark.long
def test_two_processes_on_jax(tmp_path):
    """As one device, dropout included; and again when either of them has been killed."""
    pytest.importorskip("jax")
    results = [tmp_path / "0.npz", tmp_path / "1.npz"]
    for process in (running := workers(tmp_path / "whole", results)):
        process.communicate()
    assert [process.returncode for process in running] == [0, 0]
    whole = weights(results[0])
    found("jax", "alone", tmp_path / "alone.npz")
    for here, there in zip(whole, weights(tmp_path / "alone.npz"), strict=True):
        np.testing.assert_allclose(here, there, atol=TOLERANCE, rtol=0)
    for victim in (1, 0):
        running = workers(tmp_path / "parts", results)
        for _ in range(5):
            while running[victim].stdout.readline() != "step\n":
                assert running[victim].poll() is None
        running[victim].kill()
        # The other one cannot go on: it ends of itself after a while, or is ended.
        running[1 - victim].kill()
        for process in running:
            process.communicate()
    for process in (running := workers(tmp_path / "parts", results)):
        process.communicate()
    assert [process.returncode for process in running] == [0, 0]
    for result in results:
        for here, there in zip(weights(result), whole, strict=True):
            np.testing.assert_allclose(here, there, atol=TOLERANCE, rtol=0)
