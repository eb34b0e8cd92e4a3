"""What every test starts from: quiet logs, fixed seeds, and only what the backend at hand runs."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers already fill the cores
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import pytest

# What speaks `keras.ops` alone. The rest of the package, and its tests, need TensorFlow.
BACKEND_NEUTRAL = ("functional", "layers", "search", "models", "rooms")

collect_ignore = []
if keras.config.backend() != "tensorflow":
    collect_ignore = [
        path.name
        for path in Path(__file__).parent.iterdir()
        if not path.stem.removeprefix("test_").startswith(BACKEND_NEUTRAL)
    ]


@pytest.fixture(autouse=True)
def same_start():
    """Fixes the seeds before a test, and gives back the precision that it found."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.utils.set_random_seed(2015)
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
