"""Worker that measures what the rows stand beside: the machine's rate of matrix products.

python products.py
"""

import keras
import tensorflow as tf
import work
from worker import serve

_SIZE = 2048
_REPEATS = 4


def rate() -> float:
    """GFLOP/s of large float32 products in TensorFlow."""
    left, right = (tf.random.stateless_uniform((_SIZE, _SIZE), (seed, 1)) for seed in range(2))

    def products() -> None:
        for _ in range(_REPEATS):
            last = tf.matmul(left, right)
        last.numpy()

    return _REPEATS * 2 * _SIZE**3 / work.milliseconds(products) / 1e6


def idle_megabytes() -> float:
    """What a process holds that imported TensorFlow and Keras and has done nothing."""
    return work.held_megabytes()


def describe() -> dict:
    return {"versions": f"TensorFlow {tf.__version__}, Keras {keras.__version__}"}


if __name__ == "__main__":
    serve({"rate": rate, "idle_megabytes": idle_megabytes, "describe": describe})
