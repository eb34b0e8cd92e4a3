"""Exports TensorFlow Addons' model with our weights; runs in tfa's environment.

    python export_tfa.py WEIGHTS FOLDER

`greedy` and `beam` become SavedModels of these names in FOLDER, each with a `serving_default` from
`source_ids` `(b, s)` to `target_ids` `(b, t)`. `WORK_SIZES` in the environment says how large the
model is.
"""

import sys
from pathlib import Path

import tensorflow as tf

sys.path.append(str(Path(__file__).parents[1] / "peers"))

from forced_tfa import Addons  # noqa: E402 - found there

SOURCE = tf.TensorSpec((None, None), tf.int32, name="source_ids")


def main() -> None:
    weights, folder = sys.argv[1:]
    addons = Addons(weights)
    for name in ("greedy", "beam"):
        search = getattr(addons, name)
        serve = tf.function(lambda source_ids: {"target_ids": search(source_ids)[0]})  # noqa: B023
        traced = serve.get_concrete_function(SOURCE)
        tf.saved_model.save(addons, f"{folder}/{name}", signatures=traced)


if __name__ == "__main__":
    main()
