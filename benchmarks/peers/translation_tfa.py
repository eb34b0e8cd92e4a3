"""Worker of `translation.py`: TensorFlow Addons' beam search with our trained weights.

    python translation_tfa.py WEIGHTS

`WORK_SIZES` in the environment says how large the model is.
"""

import sys
import time

import tensorflow as tf
import tensorflow_addons as tfa
import work
from forced_tfa import Addons
from worker import serve


class Translation(Addons):
    def describe(self) -> dict:
        # Its head is a matrix of its own, which in ours is the target embedding.
        versions = f"TensorFlow {tf.__version__}, TensorFlow Addons {tfa.__version__}"
        return {"versions": versions, "parameters": super().describe()["parameters"]}

    def translate(self, batches: list[list[list[int]]]) -> dict:
        """Times batches of padded source ids, ids in, ids of the best hypotheses out."""
        start = time.perf_counter()
        found = [self.beam(tf.constant(batch, tf.int32))[0].numpy() for batch in batches]
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "ids": [_until_end(row) for rows in found for row in rows]}


def _until_end(ids) -> list[int]:
    row = ids.tolist()
    return row[: row.index(work.END_ID) + 1] if work.END_ID in row else row


def main() -> None:
    translation = Translation(sys.argv[1])
    names = ("describe", "translate")
    serve({name: getattr(translation, name) for name in names})


if __name__ == "__main__":
    main()
