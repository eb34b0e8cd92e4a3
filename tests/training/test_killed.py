"""A training that is killed again and again ends with the weights of one that nobody disturbed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from tests.training.mortal import SECONDS_A_FLUSH

SCRIPT = Path(__file__).with_name("mortal.py")


def start(directory, result):
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, SCRIPT, directory, result]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def lines_until(process, count):
    """Waits for so many steps; whether the training was over before."""
    for line in process.stdout:
        count -= line == "step\n"
        if line == "done\n":
            return True
        if count <= 0:
            return False
    raise AssertionError(f"the training died of itself: {process.wait()}")


def unfinished(directory):
    return list(directory.glob(".checkpoint-*.unfinished"))


def kill(process, directory, rng, in_a_write):
    """Kills, at a moment that the generator chooses; whether a checkpoint was being written."""
    deadline = time.monotonic() + 20
    while in_a_write and not unfinished(directory) and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 3 * SECONDS_A_FLUSH))  # a checkpoint takes four
    process.kill()
    process.stdout.close()
    assert process.wait() == -9
    return bool(unfinished(directory))


def terminate(process, directory):
    """Ends it by SIGTERM; it writes a checkpoint, and says so."""
    process.terminate()
    said = process.stdout.read()
    assert process.wait() == 143
    (folder,) = directory.iterdir()
    assert "Interrupted. The training can be resumed after step" in said and str(folder) in said


def numbers(path):
    with np.load(path) as file:
        return [file[name] for name in file.files]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder / "checkpoints", folder / "result.npz")
    assert lines_until(process, 1000)
    assert process.wait() == 0
    return numbers(folder / "result.npz")


@pytest.mark.parametrize(("seed", "kills"), [(1, 1), pytest.param(2, 10, marks=pytest.mark.long)])
def test_killed_again_and_again(tmp_path, undisturbed, seed, kills):
    rng = np.random.default_rng(seed)
    directory, result = tmp_path / "checkpoints", tmp_path / "result.npz"
    process = start(directory, result)
    assert not lines_until(process, 2)  # before the first checkpoint that is due
    terminate(process, directory)
    in_writes = lives = 0
    while lives < kills or not in_writes:
        process = start(directory, result)
        # Few steps, so that something is left for later lives; some save nothing at all.
        assert not lines_until(process, int(rng.integers(1, 7 if kills < 5 else 3)))
        in_writes += kill(process, directory, rng, in_a_write=lives % 2 == 0)
        lives += 1
    process = start(directory, result)
    assert lines_until(process, 1000)
    assert process.wait() == 0
    assert len(list(directory.iterdir())) == 1  # What was half written is gone.
    for index, (here, there) in enumerate(zip(numbers(result), undisturbed, strict=True)):
        np.testing.assert_array_equal(here, there, err_msg=f"variable {index}")
