"""Environments of the peers, made where they are missing, outside the tree.

They stand in `$KERAS_LUONG_BENCH`, or in `~/.cache/keras_luong_bench`. Each is made once, by uv
where it is to be had and by pip else; torch always by pip, which may know of an index that uv does
not; `$TORCH_PIP` holds options for that, as in the Makefile. To make one anew, remove its folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# What each peer needs, installer by installer. Joey NMT 2.3.0 asks for versions that no longer
# stand beside torch 2.13 (protobuf below 3.21) and for its own tests' tools: it comes without its
# requirements, and what it imports is listed here. sentencepiece 0.2.0 is the last that it was seen
# to work with.
_TORCH = ["torch==2.13.0", "numpy"]
_REQUIREMENTS = {
    "tfa": [("uv", ["tensorflow==2.15.1", "tensorflow-addons==0.23.0"])],
    "torch": [("pip", _TORCH)],
    "joey": [
        ("pip", _TORCH),
        ("pip", ["--no-deps", "joeynmt==2.3.0"]),
        (
            "uv",
            "sentencepiece==0.2.0 importlib_metadata packaging pyyaml sacrebleu sacremoses "
            "subword-nmt matplotlib tensorboard tqdm plotly setuptools".split(),
        ),
    ],
}
# TensorFlow 2.15.1 has wheels for 3.9 to 3.11.
_PYTHONS = {"tfa": (3, 11)}


def cache() -> Path:
    """The folder of environments and trained models."""
    default = Path.home() / ".cache" / "keras_luong_bench"
    return Path(os.environ.get("KERAS_LUONG_BENCH", default)).absolute()


def interpreter(peer: str) -> str:
    """The python of a peer's environment, which is made if it is missing."""
    folder = cache() / peer
    done = folder / ".complete"
    python = folder / "bin" / "python"
    if not done.exists():
        print(f"Making {folder}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run([_python(peer), "-m", "venv", str(folder)])
        for installer, arguments in _REQUIREMENTS[peer]:
            _install(python, installer, arguments)
        done.touch()
    return str(python)


def _python(peer: str) -> str:
    """An interpreter that the peer has wheels for."""
    newest = _PYTHONS.get(peer)
    if newest is None or sys.version_info[:2] <= newest:
        return sys.executable
    name = f"python{newest[0]}.{newest[1]}"
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"The peer {peer!r} needs {name} or older, and none was found.")
    return found


def _install(python: Path, installer: str, arguments: list[str]) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if installer == "uv" and uv:
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *arguments])
    else:
        options = os.environ.get("TORCH_PIP", "").split() if arguments == _TORCH else []
        _run([str(python), "-m", "pip", "install", "--quiet", *options, *arguments])


def _run(command: list[str]) -> None:
    # What they print goes to the error stream: the output is the table.
    subprocess.run(command, check=True, stdout=sys.stderr)
