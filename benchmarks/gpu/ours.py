"""Worker of `run.py`: keras_luong, trained by `model.fit` on JAX.

python ours.py float32|tf32|bfloat16
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))

import jax
import keras
import numpy as np
import sizes
import work
from our_model import our_model
from peer_weights import save_weights
from worker import serve

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    LuongAttention,
    MaskedCrossentropy,
    Seq2Seq,
    rnn_encoder,
)

# What a product of float32 tensors is computed in; without a word JAX takes tf32 where it can.
_PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "tensorfloat32"}


def english_vietnamese() -> Seq2Seq:
    """The sizes of tensorflow/nmt's recipe: 2 x 512, scaled general score, dropout 0.2."""
    units, drop = sizes.NMT_UNITS, 0.2
    encoder = rnn_encoder(
        sizes.NMT_SOURCE_VOCABULARY, units, units, state_sizes=[units] * 4, dropout=drop
    )
    cells = [keras.layers.LSTMCell(units), keras.layers.LSTMCell(units, dropout=drop)]
    attention = LuongAttention("general", use_scale=True)
    cell = AttentionDecoderCell(keras.layers.StackedRNNCells(cells), attention, units)
    return Seq2Seq(
        encoder,
        keras.layers.Embedding(sizes.NMT_TARGET_VOCABULARY, units),
        AttentionDecoder(cell),
        keras.layers.Dense(sizes.NMT_TARGET_VOCABULARY),
        dropout=drop,
    )


_MODELS = {"common": our_model, "english_vietnamese": english_vietnamese}


class Training:
    def __init__(self, precision: str) -> None:
        jax.config.update("jax_default_matmul_precision", _PRODUCTS[precision])
        policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"
        keras.config.set_dtype_policy(policy)
        self.dtype = "bfloat16" if precision == "bfloat16" else "float32"
        self.models: dict[str, Seq2Seq] = {}
        self.arrays: dict[tuple[str, int], list[np.ndarray]] = {}

    def versions(self) -> str:
        device = jax.devices()[0].device_kind
        return f"JAX {jax.__version__}, Keras {keras.__version__}, {device}"

    def weights(self, path: str) -> None:
        """Writes the first weights, for the peers."""
        save_weights(self._model("common"), path)

    def _model(self, task: str) -> Seq2Seq:
        if task not in self.models:
            keras.utils.set_random_seed(1)
            model = _MODELS[task]()
            is_common = task == "common"
            optimizer = keras.optimizers.Adam(1e-3) if is_common else keras.optimizers.SGD(1.0)
            optimizer.global_clipnorm = 5.0
            model.compile(optimizer, MaskedCrossentropy(), jit_compile=True)
            self.models[task] = model
        return self.models[task]

    def first(self, batch: int, task: str = "common") -> tuple[float, float]:
        """Seconds of the first step, which compiles, and its loss."""
        start = time.perf_counter()
        loss = self._fit(task, batch, 1)
        return time.perf_counter() - start, loss

    def run(self, batch: int, steps: int, task: str = "common") -> float:
        """Milliseconds a step."""
        self._batch(task, batch)
        return work.milliseconds(lambda: self._fit(task, batch, steps)) / steps

    def _fit(self, task: str, batch: int, steps: int) -> float:
        source, target_in, target_out = self._batch(task, batch)
        batches = (((source, target_in), target_out) for _ in range(steps))
        history = self._model(task).fit(batches, steps_per_epoch=steps, verbose=0)
        return float(history.history["loss"][0])

    def _batch(self, task: str, batch: int) -> list[np.ndarray]:
        key = task, batch
        if key not in self.arrays:
            self.arrays[key] = [np.array(ids, "int32") for ids in sizes.batch_of(task, batch)]
        return self.arrays[key]

    def rate(self, size: int) -> float:
        """TFLOP/s of a square product."""
        one = jax.numpy.ones((size, size), self.dtype) * 0.5
        product = jax.jit(jax.numpy.matmul)
        product(one, one).block_until_ready()

        def several() -> None:
            last = one
            for _ in range(20):
                last = product(one, last)
            last.block_until_ready()

        return 20 * 2 * size**3 / work.milliseconds(several) / 1e9

    def trace(self, batch: int, folder: str) -> None:
        """Writes a profile of three steps."""
        with jax.profiler.trace(folder):
            self._fit("common", batch, 3)


def main() -> None:
    training = Training(sys.argv[1])
    names = ("versions", "weights", "first", "run", "rate", "trace")
    serve({name: getattr(training, name) for name in names})


if __name__ == "__main__":
    main()
