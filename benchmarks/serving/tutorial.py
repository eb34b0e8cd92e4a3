"""A translator as tutorials build one: Keras' own layers, a greedy loop in a `tf.function`.

The sizes are those of ours: an LSTM that reads both ways, one that writes, `keras.layers.Attention`
between them, a layer over output and context, a product with the vocabulary. There is no input
feeding: the attention vector is not read again. Its weights are random, so it writes as many tokens
as a request says.
"""

from pathlib import Path

import keras
import tensorflow as tf

START_ID = 2


class Tutorial(keras.Model):
    def __init__(self, vocabulary: int, units: int) -> None:
        super().__init__()
        self.source_embedding = keras.layers.Embedding(vocabulary, units, mask_zero=True)
        self.target_embedding = keras.layers.Embedding(vocabulary, units)
        one_way = keras.layers.LSTM(
            units // 2, return_sequences=True, return_state=True, use_cudnn=False
        )
        self.encoder = keras.layers.Bidirectional(one_way)
        self.decoder = keras.layers.LSTM(
            units, return_sequences=True, return_state=True, use_cudnn=False
        )
        self.attention = keras.layers.Attention()
        self.vector = keras.layers.Dense(units, activation="tanh")
        self.head = keras.layers.Dense(vocabulary)

    def encode(self, source_ids: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        memory, *states = self.encoder(self.source_embedding(source_ids))
        return memory, [tf.concat(states[0::2], -1), tf.concat(states[1::2], -1)]

    def step(
        self, ids: tf.Tensor, states: list[tf.Tensor], memory: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        output, *states = self.decoder(self.target_embedding(ids[:, None]), initial_state=states)
        context = self.attention([output, memory], mask=[None, mask])
        logits = self.head(self.vector(tf.concat([context, output], -1)))
        return logits[:, 0], states

    def call(self, source_ids: tf.Tensor, length: tf.Tensor) -> dict[str, tf.Tensor]:
        memory, states = self.encode(source_ids)
        ids = tf.fill(tf.shape(length), START_ID)
        steps = tf.reduce_max(length)
        written = tf.TensorArray(tf.int32, steps)
        for step in tf.range(steps):
            logits, states = self.step(ids, states, memory, source_ids != 0)
            ids = tf.argmax(logits, -1, output_type=tf.int32)
            written = written.write(step, ids)
        return {"target_ids": tf.transpose(written.stack())}


SIGNATURE = [
    tf.TensorSpec((None, None), tf.int32, name="source_ids"),
    tf.TensorSpec((None,), tf.int32, name="length"),
]


def build(vocabulary: int, units: int) -> Tutorial:
    keras.utils.set_random_seed(1)
    model = Tutorial(vocabulary, units)
    model(tf.constant([[5, 3]]), tf.constant([1]))
    return model


def save_as_module(model: Tutorial, folder: Path) -> None:
    """`tf.saved_model.save` of a module that holds the model, as TensorFlow's guides write it."""
    module = tf.Module()
    module.model = model
    module.serve = tf.function(model.call, input_signature=SIGNATURE)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def export(model: Tutorial, folder: Path) -> None:
    """Keras' own way."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    # `tf.function`, for Keras does not turn the loop over a tensor into one of the graph.
    serve = tf.function(model.call, input_signature=SIGNATURE)
    archive.add_endpoint("serving_default", serve)
    archive.write_out(str(folder), verbose=False)
