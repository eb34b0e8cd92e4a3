"""What every test starts from: quiet logs, fixed seeds, and only what the backend at hand runs."""

import atexit
import contextlib
import ctypes
import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers already fill the cores
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if os.environ.get("KERAS_BACKEND") == "jax":
    # A test's program runs once or twice: to compile it takes longer than to run it. What one test
    # has compiled others find in a folder, which the process that made it removes in the end.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compilations = tempfile.mkdtemp(prefix="keras_luong_jax_")
        atexit.register(shutil.rmtree, compilations, ignore_errors=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compilations
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import keras
import pytest

if keras.config.backend() == "torch":
    import torch

    # On a GPU float32 may otherwise be multiplied as tf32, with three of its seven digits.
    torch.set_float32_matmul_precision("highest")

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would all that they
# start: those that send one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What speaks `keras.ops` alone. The rest of the package, and its tests, need TensorFlow.
BACKEND_NEUTRAL = ("functional", "layers", "search", "models", "rooms")

collect_ignore = []
if keras.config.backend() != "tensorflow":
    collect_ignore = [
        path.name
        for path in Path(__file__).parent.iterdir()
        if not path.stem.removeprefix("test_").startswith(BACKEND_NEUTRAL)
    ]


# The files that take longest: they come first, or a worker would wait for the other in the end.
LONGEST = (
    *("test_soak", "test_signatures", "test_export", "test_translator"),
    *("test_devices", "test_killed", "test_training_checkpoint"),
    *("test_translate", "test_commands", "test_dates"),
    *("test_options", "test_attention_decoder_numbers", "test_attention_decoder"),
    *("test_seq2seq", "test_quantize", "test_luong_seq2seq", "test_shortlist"),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Begins with what takes longest; on JAX, has but the first case of most tests.

    There each case compiles programs of its own, for seconds. The others run on TensorFlow and
    torch, and on JAX with all that is `long`. Every option of the layers runs always.
    """
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))
    seen = set()
    for item in items:
        if keras.config.backend() == "jax" and not item.path.stem.startswith("test_options"):
            name = item.path, item.originalname
            if name in seen:
                item.add_marker("long")
            seen.add(name)


# ---------------------------------------------------------------------------------------------
# Memory
# ---------------------------------------------------------------------------------------------

GIGABYTE = 2**30
# None has been seen above: the Makefile gives each group of tests processes of its own.
FOR_A_WORKER = 3 * GIGABYTE
peaks = []


def available_memory():
    """Bytes that new processes can have; where the system does not say, as if there were enough."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return sys.maxsize
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """As many workers as there are cores and memory for, four at the most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores, 4, available_memory() // FOR_A_WORKER))


def pytest_sessionfinish(session):
    """Each process says how large it has been: a worker to the one that started it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak_memory"] = peak
    elif not peaks:
        peaks.append(peak)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    peaks.append(getattr(node, "workeroutput", {}).get("peak_memory", 0))


def pytest_terminal_summary(terminalreporter):
    if peaks:
        sizes = ", ".join(f"{peak / GIGABYTE:.1f}" for peak in peaks)
        terminalreporter.write_line(f"Peak memory of each process that ran tests: {sizes} GB")
    # What a test that passes has counted (`record_property`).
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


# ---------------------------------------------------------------------------------------------
# Around each test
# ---------------------------------------------------------------------------------------------


def pytest_runtest_teardown(nextitem):
    """Makes JAX forget what it compiled before the process is too large.

    Each program takes memory that nothing else gives back, and several mappings of it, of which
    Linux gives a process 65,530. What comes after them is a segmentation fault in the compiler.
    """
    if keras.config.backend() != "jax" or sys.platform != "linux":
        return
    global _since
    _since += 1
    maps = Path("/proc/self/maps")
    if _since < _CHECKED_EVERY or not maps.exists():
        return
    _since = 0
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    is_large = pages * resource.getpagesize() > _FOR_PROGRAMS
    if is_large or maps.read_bytes().count(b"\n") > _MANY_MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # else it stays the process's


_since, _CHECKED_EVERY, _FOR_PROGRAMS, _MANY_MAPPINGS = 0, 20, 2 * GIGABYTE, 20_000


@pytest.fixture(autouse=True)
def operation_by_operation(request):
    """Runs what is tested of models and search without graphs on TensorFlow, if it is not `traced`.

    To trace a graph takes seconds, to run it once takes milliseconds. The layers are trained in
    graphs, and exports hold graphs of every search.
    """
    if (
        keras.config.backend() != "tensorflow"
        or request.path.parent.name not in ("models", "search")
        or request.node.get_closest_marker("traced")
    ):
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def same_start():
    """Fixes the seeds before a test, and gives back the precision that it found."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.utils.set_random_seed(2015)
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def small_disk():
    """A block in which no file grows beyond some bytes, as on a disk that has no more."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
