"""Writes `keras_luong/serving/servable_ops.txt`: what releases of TF Serving can run.

    python tests/serving/make_op_lists.py [FOLDER]

Each release is taken apart into the TensorFlow and the tensorflow-text that it is built from
(tensorflow/serving, WORKSPACE and tensorflow_serving/workspace.bzl at the release's tag), these are
installed with uv into environments of their own under FOLDER, and each is asked for the ops that it
has a CPU kernel for. The server links all kernels of TensorFlow's core, and tensorflow-text's
`ops_lib` (tensorflow_serving/model_servers/BUILD, SUPPORTED_TENSORFLOW_OPS), whose parts are the
libraries that the wheel has in `tensorflow_text/python/ops` and `.../metrics`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path(__file__).parents[2] / "keras_luong" / "serving" / "servable_ops.txt"

# Serving 2.18.0 to 2.19.1 embed tensorflow-text 2.12.1, which needs TensorFlow 2.12.
ENVIRONMENTS = {
    "tensorflow-2.18": ["tensorflow==2.18.0"],
    "tensorflow-2.19": ["tensorflow==2.19.1"],
    "tensorflow-2.20": ["tensorflow==2.20.0", "tensorflow-text==2.20.0"],
    # tensorflow-hub, which this one imports, needs pkg_resources.
    "tensorflow-text-2.12.1": [*("tensorflow==2.12.1", "tensorflow-text==2.12.1", "setuptools<81")],
}
PYTHON = "3.11"  # the newest that TensorFlow 2.12 has a wheel for

ASK = """
import importlib.util
import json
import tensorflow
from tensorflow.python.framework import kernels

def on_cpu():
    every = kernels.get_all_registered_kernels().kernel
    return {kernel.op for kernel in every if kernel.device_type in ("CPU", "DEFAULT")}

core = on_cpu()
if importlib.util.find_spec("tensorflow_text"):
    import tensorflow_text
print(json.dumps({"core": sorted(core), "text": sorted(on_cpu() - core)}))
"""

HEADER = """\
# The ops that releases of TF Serving have a CPU kernel for, or those behind its name alone.
# Source: the libraries that the server is built from. Written by tests/serving/make_op_lists.py.
"""
# By release of the server: the environment of the core's ops, and that of tensorflow-text's.
RELEASES = {
    "2.18": ("tensorflow-2.18", "tensorflow-text-2.12.1"),
    "2.19": ("tensorflow-2.19", "tensorflow-text-2.12.1"),
    "2.20": ("tensorflow-2.20", "tensorflow-2.20"),
}


def asked(folder: Path, packages: list[str]) -> dict[str, list[str]]:
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "--python", PYTHON, folder], check=True)
        subprocess.run(["uv", "pip", "install", "--python", python, *packages], check=True)
    done = subprocess.run([python, "-c", ASK], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    found = {name: asked(folder / name, packages) for name, packages in ENVIRONMENTS.items()}
    # What begins with "_" is the runtime's own, and stands in no saved graph.
    by_release = {
        release: {
            op for op in (*found[core]["core"], *found[text]["text"]) if not op.startswith("_")
        }
        for release, (core, text) in RELEASES.items()
    }
    lines = [f"# Releases: {' '.join(RELEASES)}\n"]
    for op in sorted(set().union(*by_release.values())):
        having = [release for release, ops in by_release.items() if op in ops]
        lines.append(" ".join([op, *(having if len(having) < len(by_release) else [])]) + "\n")
    OUT.write_text(HEADER + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
