"""Runs a SavedModel in the C++ loader of TF Serving, in a process without Python.

`saved_model_runner.cc` says how the program is called and what it prints.
"""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Of a matrix a value is a row.
Column = Sequence[str | bytes | int | float | Sequence[int]]
Batches = Iterable[Column | Mapping[str, Column]]

SOURCE = Path(__file__).with_name("saved_model_runner.cc")

# All that the program inherits: nothing of Python's, no flags that bring XLA back.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH")

# What `tf.sysconfig.get_compile_flags` says, for a TensorFlow that cannot be imported here.
_FLAGS = ("-std=c++17", "-D_GLIBCXX_USE_CXX11_ABI=1", "-DEIGEN_MAX_ALIGN_BYTES=64")


class RunnerError(RuntimeError):
    """The program was called wrongly, crashed, or found Python in its process."""


class LoadError(RunnerError):
    """The model does not load."""


class RunError(RunnerError):
    """The model loads and fails on a request."""


_ERRORS = {3: LoadError, 4: RunError}


def compiler() -> str | None:
    """Returns the path of a C++ compiler, or None."""
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def obstacle() -> str | None:
    """Returns why the program cannot be built here, or None."""
    if compiler() is None:
        return "no C++ compiler: the check in TF Serving's loader needs g++ or clang++"
    if not _tensorflow_libraries(None):
        return "this TensorFlow wheel has no libtensorflow_cc.so: the check needs Linux"
    return None


def build(folder: Path, packages: Path | None = None) -> Path:
    """Compiles the program against a TensorFlow wheel.

    Args:
        folder: Where the program shall stand.
        packages: The folder of installed packages that holds the wheel; by default the one that
            runs here. Another one need not be importable: its libraries and headers are used.
    """
    binary = folder / "saved_model_runner"
    program, tensorflow = compiler(), _package_folder("tensorflow", packages)
    if program is None or tensorflow is None:
        raise RunnerError(obstacle())
    command = [program, "-O0", "-w", *_FLAGS, f"-I{tensorflow / 'include'}", str(SOURCE)]
    command += ["-o", str(binary), f"-L{tensorflow}"]
    command += [f"-l:{library.name}" for library in _tensorflow_libraries(packages)]
    command += [f"-Wl,-rpath,{tensorflow}", "-ldl", "-pthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RunnerError(f"{' '.join(command)} failed:\n{done.stderr}")
    return binary


def run(
    binary: Path,
    model_dir: Path | str,
    batches: Batches,
    signature: str = "serving_default",
    variables: dict[str, str] | None = None,
    *,
    threads: int | None = None,
    packages: Path | None = None,
    timeout: float = 300,
) -> list[dict[str, np.ndarray]]:
    """Sends batches through a signature, all of them in one fresh process.

    Args:
        binary: What `build` returned.
        model_dir: The SavedModel.
        batches: Each one request: a column of values for each input, `(rows,)`, by the input's
            name, the same names in all; or a column alone, which is `text`. A batch may have no
            rows, a text any bytes.
        signature: The signature's name.
        variables: More environment variables for the process.
        threads: How many threads share the session; by default each request is answered before
            the next one is read.
        packages: What `build` was given: its tensorflow-text is loaded too.
        timeout: Seconds for all of it.

    Returns:
        For each batch the outputs by name. Strings come as arrays of bytes objects, bfloat16 as
        float32.

    Raises:
        LoadError: If the model does not load.
        RunError: If a request fails.
        RunnerError: If anything else goes wrong.
    """
    options = [] if threads is None else [f"--threads={threads}"]
    command = [str(binary), *options, str(model_dir), signature]
    return [outputs(line) for line in _lines(command, batches, variables, packages, timeout)]


def measure(
    binary: Path,
    model_dir: Path | str,
    batches: Batches,
    signature: str = "serving_default",
    *,
    threads: int = 1,
    packages: Path | None = None,
    timeout: float = 300,
) -> list[dict[str, Any]]:
    """Sends batches as `run` does, and returns what each took instead of what it said.

    Args:
        binary: As for `run`, like the rest that is not named here.
        model_dir: The SavedModel.
        batches: The requests.
        signature: The signature's name.
        threads: How many threads share the session. Each sends its next request when it has the
            reply to the last one.
        packages: What `build` was given.
        timeout: Seconds for all of it.

    Returns:
        For each batch when it `"began"`, in seconds after the first, how many `"seconds"` it took,
        and the bytes of memory that the process held then, `"resident"`.
    """
    options = [f"--threads={threads}", "--measure"]
    command = [str(binary), *options, str(model_dir), signature]
    return [json.loads(line) for line in _lines(command, batches, None, packages, timeout)]


def soak(
    binary: Path,
    models: Sequence[Sequence[Path | str]],
    rows: Iterable[tuple[int, str, Mapping[str, Any]]],
    seconds: float,
    *,
    swap: float = 0,
    threads: int = 2,
    packages: Path | None = None,
    timeout: float = 300,
) -> dict[str, Any]:
    """Sends random batches to models for some seconds, and compares each row with its answer alone.

    Args:
        binary: As for `run`, like the rest that is not named here.
        models: The SavedModels that serve: of each model one version or more, which have the same
            signatures and take turns.
        rows: Each the index of its model, a signature and a value for each input. All rows of a
            signature have the same inputs.
        seconds: How long batches are sent. Before that each row is sent alone.
        swap: After how many seconds another version is loaded in the place of the one that
            serves; by default none is.
        threads: How many threads ask.
        packages: What `build` was given.
        timeout: Seconds beyond `seconds`.

    Returns:
        What `client.h` counts, `"swaps"`, `"seconds"`, and for moments between requests, at most
        once a second, the bytes that were `"allocated"` and those that the process held,
        `"resident"`.
    """
    command = [str(binary), f"--soak={seconds}", f"--swap={swap}", f"--threads={threads}"]
    lines = [f"model {_column([str(path) for path in paths])}\n" for paths in models]
    lines += [f"row {model} {name} {_named(values)}\n" for model, name, values in rows]
    command += _text_ops(packages)
    return json.loads(_printed(command, "".join(lines), None, seconds + timeout))


def _lines(
    command: list[str],
    batches: Batches,
    variables: dict[str, str] | None,
    packages: Path | None,
    timeout: float,
) -> list[str]:
    """What the program prints, a line for each batch."""
    requests = [batch if isinstance(batch, Mapping) else {"text": batch} for batch in batches]
    names = ",".join(requests[0]) if requests else "text"
    command = [*command, names, *_text_ops(packages)]
    return _printed(command, "".join(map(_request, requests)), variables, timeout).splitlines()


def _printed(
    command: list[str], lines: str, variables: dict[str, str] | None, timeout: float
) -> str:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        command,
        input=lines,
        env=kept | quiet | (variables or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        error = _ERRORS.get(done.returncode, RunnerError)
        raise error(f"exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _tensorflow_libraries(packages: Path | None) -> list[Path]:
    folder = _package_folder("tensorflow", packages)
    return [] if folder is None else sorted(folder.glob("libtensorflow_*.so.[0-9]"))


def _text_ops(packages: Path | None) -> list[str]:
    """Returns the libraries of ops that the stock server has linked in."""
    folder = _package_folder("tensorflow_text", packages)
    return [] if folder is None else sorted(map(str, folder.glob("python/ops/*.so")))


def _package_folder(name: str, packages: Path | None) -> Path | None:
    if packages is not None:
        return packages / name
    # Found without an import: tensorflow_text takes seconds.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _request(columns: Mapping[str, Column]) -> str:
    return ";".join(map(_column, columns.values())) + "\n"


def _named(values: Mapping[str, Any]) -> str:
    """One row, with the names of its inputs."""
    return ",".join(values) + " " + ";".join(_column([value]) for value in values.values())


def _column(values: Column) -> str:
    return "".join(_bytes(value).hex() + "," for value in values)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(map(str, value)).encode()
    return str(value).encode()


def outputs(line: str) -> dict[str, np.ndarray]:
    """Reads one reply as the program prints it."""
    return {name: _array(**tensor) for name, tensor in json.loads(line).items()}


def _array(dtype: str, shape: list[int], values: list) -> np.ndarray:
    if dtype == "string":
        values, dtype = [bytes.fromhex(value) for value in values], "object"
    # NumPy has no bfloat16; float32 holds its values exactly.
    dtype = "float32" if dtype == "bfloat16" else dtype
    return np.array(values, dtype).reshape(shape)
