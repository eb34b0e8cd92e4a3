import fcntl
import os
from pathlib import Path

import pytest

from keras_luong.serving import cpp_loader


@pytest.fixture(scope="session")
def cpp_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program of `cpp_loader`, for `cpp_loader.run(cpp_runner, ...)`.

    Where it cannot be built the test is skipped, or fails if KERAS_LUONG_REQUIRE_CPP is 1.
    """
    if reason := cpp_loader.obstacle():
        if os.environ.get("KERAS_LUONG_REQUIRE_CPP") == "1":
            pytest.fail(f"KERAS_LUONG_REQUIRE_CPP=1 and {reason}", pytrace=False)
        pytest.skip(reason)
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # shared by the workers: the first one compiles
    with open(folder / "saved_model_runner.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        binary = folder / "saved_model_runner"
        return binary if binary.exists() else cpp_loader.build(folder)
