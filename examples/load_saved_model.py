"""Translates the lines of standard input with an exported SavedModel.

    echo "the third of May 2021" | python examples/load_saved_model.py saved_models/dates_demo/1

This is all that a program needs to use the export from Python: TensorFlow, and tensorflow_text
for its ops. Neither keras_luong nor Keras is imported.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def model_path() -> str:
    """The argument, looked at before TensorFlow is imported: that takes seconds."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    if not Path(sys.argv[1], "saved_model.pb").is_file():
        raise SystemExit(f"{sys.argv[1]!r} is no SavedModel: it has no saved_model.pb.")
    return sys.argv[1]


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Hides the notes of TensorFlow's import, which come whatever its log level is."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            written.seek(0)
            for line in written:
                if not line.startswith((b"I0000 ", b"WARNING: All log messages before absl")):
                    os.write(2, line)


if __name__ == "__main__":
    PATH = model_path()

with without_notes():
    import tensorflow as tf
    import tensorflow_text  # noqa: F401


def main(path: str) -> None:
    translate = tf.saved_model.load(path).signatures["serving_default"]
    texts = [line.rstrip(b"\r\n") for line in sys.stdin.buffer]
    outputs = translate(text=tf.constant(texts, tf.string))
    for text, translation in zip(texts, outputs["translation"].numpy(), strict=True):
        said = " ".join(translation.decode().splitlines())  # one line for each
        print(f"{text.decode('utf-8', 'replace')}  ->  {said}")
    loaded = [name for name in sys.modules if name.split(".")[0] == "keras_luong"]
    print(f"(modules of keras_luong in this process: {len(loaded)})")


if __name__ == "__main__":
    main(PATH)
