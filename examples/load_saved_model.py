"""Translates the lines of standard input with an exported SavedModel.

    echo "the third of May 2021" | python examples/load_saved_model.py saved_models/dates_demo/1

This is all that a program needs to use the export from Python: TensorFlow, and tensorflow_text
for its ops. Neither keras_luong nor Keras is imported.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf  # noqa: E402
import tensorflow_text  # noqa: E402, F401


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    translate = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
    texts = sys.stdin.read().splitlines()
    outputs = translate(text=tf.constant(texts, tf.string))
    for text, translation in zip(texts, outputs["translation"].numpy(), strict=True):
        print(f"{text}  ->  {translation.decode()}")
    loaded = [name for name in sys.modules if name.split(".")[0] == "keras_luong"]
    print(f"(modules of keras_luong in this process: {len(loaded)})")


if __name__ == "__main__":
    main()
