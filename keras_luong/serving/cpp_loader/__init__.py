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

import numpy as np

Column = Sequence[str | bytes | int | float]

SOURCE = Path(__file__).with_name("saved_model_runner.cc")

# All that the program inherits: nothing of Python's, no flags that bring XLA back.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH")


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
    if not _tensorflow_libraries():
        return "this TensorFlow wheel has no libtensorflow_cc.so: the check needs Linux"
    return None


def build(folder: Path) -> Path:
    """Compiles the program against the installed TensorFlow wheel, in about 15 seconds."""
    import tensorflow as tf

    binary = folder / "saved_model_runner"
    command = [compiler(), "-O0", "-w", *tf.sysconfig.get_compile_flags(), str(SOURCE)]
    command += ["-o", str(binary), f"-L{tf.sysconfig.get_lib()}"]
    command += [f"-l:{library.name}" for library in _tensorflow_libraries()]
    command += [f"-Wl,-rpath,{tf.sysconfig.get_lib()}", "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RunnerError(f"{' '.join(command)} failed:\n{done.stderr}")
    return binary


def run(
    binary: Path,
    model_dir: Path | str,
    batches: Iterable[Column | Mapping[str, Column]],
    signature: str = "serving_default",
    variables: dict[str, str] | None = None,
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

    Returns:
        For each batch the outputs by name. Strings come as arrays of bytes objects, bfloat16 as
        float32.

    Raises:
        LoadError: If the model does not load.
        RunError: If a request fails.
        RunnerError: If anything else goes wrong.
    """
    requests = [batch if isinstance(batch, Mapping) else {"text": batch} for batch in batches]
    names = ",".join(requests[0]) if requests else "text"
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [str(binary), str(model_dir), signature, names, *_text_ops()],
        input="".join(map(_request, requests)),
        env=kept | quiet | (variables or {}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        error = _ERRORS.get(done.returncode, RunnerError)
        raise error(f"exit status {done.returncode}: {done.stderr.strip()}")
    return [_outputs(line) for line in done.stdout.splitlines()]


def _tensorflow_libraries() -> list[Path]:
    folder = _package_folder("tensorflow")
    return [] if folder is None else sorted(folder.glob("libtensorflow_*.so.[0-9]"))


def _text_ops() -> list[str]:
    """Returns the libraries of ops that the stock server has linked in."""
    folder = _package_folder("tensorflow_text")
    return [] if folder is None else sorted(map(str, folder.glob("python/ops/*.so")))


def _package_folder(name: str) -> Path | None:
    # Found without an import: tensorflow_text takes seconds.
    spec = importlib.util.find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec else None


def _request(columns: Mapping[str, Column]) -> str:
    return ";".join(map(_column, columns.values())) + "\n"


def _column(values: Column) -> str:
    texts = (value if isinstance(value, bytes) else str(value).encode() for value in values)
    return "".join(text.hex() + "," for text in texts)


def _outputs(line: str) -> dict[str, np.ndarray]:
    return {name: _array(**tensor) for name, tensor in json.loads(line).items()}


def _array(dtype: str, shape: list[int], values: list) -> np.ndarray:
    if dtype == "string":
        values, dtype = [bytes.fromhex(value) for value in values], "object"
    # NumPy has no bfloat16; float32 holds its values exactly.
    dtype = "float32" if dtype == "bfloat16" else dtype
    return np.array(values, dtype).reshape(shape)
