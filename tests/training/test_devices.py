import json
import os
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


def test_data_parallel_on_jax():
    pytest.importorskip("jax")
    differences = found("jax", "sharded")
    assert max(differences["with dropout"].values()) < TOLERANCE


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
def test_a_worker_killed_on_jax(tmp_path):
    pytest.importorskip("jax")
    results = [tmp_path / "0.npz", tmp_path / "1.npz"]
    for process in (running := workers(tmp_path / "whole", results)):
        process.communicate()
    assert [process.returncode for process in running] == [0, 0]
    whole = weights(results[0])
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
