"""Worker of `training.py`: keras_luong and what a Keras user would write instead.

    python training_ours.py MODEL xla|plain POLICY [WEIGHTS]

MODEL is `ours`; `ours_general`, without the decoder's fast loop; `naive`, a cell as tutorials write
it inside `keras.layers.RNN`; or `no_attention`, the same encoder and decoder and no attention. Its
first weights go to the file WEIGHTS, for the peers.
"""

import sys

import keras
import numpy as np
import tensorflow as tf
import work
from keras import ops
from our_model import our_model
from peer_weights import save_weights
from steps import Steps, serve_steps

from keras_luong import LuongAttention, MaskedCrossentropy


class NaiveCell(keras.layers.Layer):
    """Luong attention with input feeding; the memory rides along in the cell's constants."""

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.lstm = keras.layers.LSTMCell(units)
        self.vector = keras.layers.Dense(units, activation="tanh", use_bias=False)
        self.state_size = [units, units, units]
        self.output_size = units
        self.memory = self.keys = self.mask = None

    def build(self, shape):
        self.lstm.build((shape[0], shape[-1] + self.output_size))
        self.vector.build((shape[0], 2 * self.output_size))

    def call(self, inputs, states):
        hidden, carry, fed = states
        inputs = ops.concatenate([inputs, fed], axis=-1)
        output, (hidden, carry) = self.lstm(inputs, [hidden, carry])
        logits = ops.einsum("bd,bsd->bs", output, self.keys)
        scores = ops.softmax(ops.where(self.mask, logits, -1e9), axis=-1)
        context = ops.einsum("bs,bsd->bd", scores, self.memory)
        vector = self.vector(ops.concatenate([context, output], axis=-1))
        return vector, [hidden, carry, vector]


class NaiveDecoder(keras.layers.Layer):
    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.cell = NaiveCell(units)
        self.rnn = keras.layers.RNN(self.cell, return_sequences=True)
        self.project = keras.layers.Dense(units, use_bias=False)

    def build(self, shape):
        self.rnn.build(shape)
        self.project.build((None, None, 2 * work.ENCODER_UNITS))

    def call(self, sequences, memory, mask, hidden, carry):
        self.cell.memory, self.cell.keys, self.cell.mask = memory, self.project(memory), mask
        states = [hidden, carry, ops.zeros_like(hidden)]
        return self.rnn(sequences, initial_state=states)

    def compute_output_spec(self, sequences, *_):
        return keras.KerasTensor((*sequences.shape[:2], work.UNITS), dtype=self.compute_dtype)


def tutorial(decoder: str) -> keras.Model:
    """Encoder, decoder and head from Keras' own layers."""
    source = keras.Input((None,), dtype="int32")
    target = keras.Input((None,), dtype="int32")
    embed = keras.layers.Embedding(work.VOCABULARY, work.EMBEDDING, mask_zero=True)
    cell = keras.layers.LSTMCell(work.ENCODER_UNITS)
    # `RNN` and no `LSTM`, as in ours: on a GPU alone would it make a difference.
    layer = keras.layers.RNN(cell, return_sequences=True, return_state=True)
    memory, *states = keras.layers.Bidirectional(layer)(embed(source))
    final = keras.layers.Concatenate()(states)
    start = [keras.layers.Dense(work.UNITS, activation="tanh")(final) for _ in range(2)]
    words = keras.layers.Embedding(work.VOCABULARY, work.EMBEDDING, mask_zero=True)(target)
    if decoder == "naive":
        mask = ops.not_equal(source, work.PADDING_ID)
        vectors = NaiveDecoder(work.UNITS)(words, memory, mask, *start)
    else:
        decoder_cell = keras.layers.LSTMCell(work.UNITS)
        vectors = keras.layers.RNN(decoder_cell, return_sequences=True)(words, initial_state=start)
    return keras.Model([source, target], keras.layers.Dense(work.VOCABULARY)(vectors))


class OwnAttention(LuongAttention):
    """Not a class that the fast loop knows: the decoder runs the general one."""


def model_of(name: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    if name == "ours":
        return our_model()
    return our_model(OwnAttention) if name == "ours_general" else tutorial(name)


class Training(Steps):
    def __init__(self, name: str, compiler: str, policy: str) -> None:
        keras.config.set_dtype_policy(policy)
        self.model = model_of(name)
        optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=5.0)
        is_xla = compiler == "xla"
        self.model.compile(optimizer, MaskedCrossentropy(), jit_compile=is_xla)
        source, target_in, target_out = (np.array(ids, "int32") for ids in work.pairs())
        self.batch = ((source, target_in), target_out)

    def describe(self) -> dict:
        return {
            "versions": f"TensorFlow {tf.__version__}, Keras {keras.__version__}",
            "parameters": self.model.count_params(),
        }

    def train_once(self) -> float:
        # `train_on_batch` returns the mean since the last reset.
        self.model.reset_metrics()
        return float(self.model.train_on_batch(*self.batch))


def main() -> None:
    training = Training(*sys.argv[1:4])
    for path in sys.argv[4:]:
        save_weights(training.model, path)
    serve_steps(training)


if __name__ == "__main__":
    main()
