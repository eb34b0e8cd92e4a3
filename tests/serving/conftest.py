import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from keras_luong.serving import cpp_loader

# Where `make test` puts the TensorFlow that the newest release of TF Serving is built from.
OTHER_PACKAGES = Path(sys.prefix) / "tensorflow-2.20"


@pytest.fixture(scope="session")
def cpp_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program of `cpp_loader`, for `cpp_loader.run(cpp_runner, ...)`.

    Where it cannot be built the test is skipped, or fails if KERAS_LUONG_REQUIRE_CPP is 1.
    """
    if reason := cpp_loader.obstacle():
        _skip(reason)
    return shared_by_workers(tmp_path_factory, "runner", cpp_loader.build)


@pytest.fixture(scope="session")
def runner_2_20(cpp_runner: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same program with TensorFlow 2.20; `run` then needs `packages=OTHER_PACKAGES`."""
    if not OTHER_PACKAGES.is_dir():
        _skip(f"no TensorFlow 2.20 in {OTHER_PACKAGES}, where `make test` installs it")
    return shared_by_workers(
        tmp_path_factory, "runner-2.20", lambda folder: cpp_loader.build(folder, OTHER_PACKAGES)
    )


def shared_by_workers(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]
) -> Path:
    """What `make` puts into a folder and returns, made by the first worker that asks for it."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= name
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = Path(f"{folder}.done")
        if not done.exists():
            folder.mkdir()
            done.write_text(str(make(folder)))
        return Path(done.read_text())


def _skip(reason: str) -> NoReturn:
    if os.environ.get("KERAS_LUONG_REQUIRE_CPP") == "1":
        pytest.fail(f"KERAS_LUONG_REQUIRE_CPP=1 and {reason}", pytrace=False)
    pytest.skip(reason)
