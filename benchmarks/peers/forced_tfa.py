"""Worker of `forced.py`: TensorFlow Addons 0.23.0 on TensorFlow 2.15.1, in a `tf.function`."""

import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
import work
from keras import layers  # 2.15, which that TensorFlow calls its own
from tensorflow_addons import seq2seq
from worker import serve

_SHAPE = [tf.TensorSpec((None, None), tf.int32)]


class Addons(tf.Module):
    """The model as tfa's users build it: `AttentionWrapper` around an `LSTMCell`."""

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.source_embedding = layers.Embedding(work.VOCABULARY, work.EMBEDDING, mask_zero=True)
        self.target_embedding = layers.Embedding(work.VOCABULARY, work.EMBEDDING)
        self.encoder = layers.Bidirectional(
            layers.LSTM(work.ENCODER_UNITS, return_sequences=True, return_state=True)
        )
        self.bridges = [layers.Dense(work.UNITS, activation="tanh") for _ in range(2)]
        self.attention = seq2seq.LuongAttention(work.UNITS)
        self.cell = layers.LSTMCell(work.UNITS)
        self.vector = layers.Dense(work.UNITS, activation="tanh", use_bias=False)
        self.wrapper = seq2seq.AttentionWrapper(
            self.cell, self.attention, attention_layer=self.vector
        )
        self.head = layers.Dense(work.VOCABULARY)
        self.source = tf.constant(work.source(), tf.int32)
        self._build()
        self._take(dict(np.load(weights)))

    def encode(self, source):
        lengths = tf.reduce_sum(tf.cast(source != work.PADDING_ID, tf.int32), axis=1)
        memory, *states = self.encoder(self.source_embedding(source))
        final = tf.concat(states, axis=-1)
        return memory, [bridge(final) for bridge in self.bridges], lengths

    def _start(self, memory, states, lengths, copies: int):
        """The wrapper's first state, everything copied for the beams, as tfa asks for it."""
        memory, states, lengths = seq2seq.tile_batch((memory, states, lengths), copies)
        self.attention.setup_memory(memory, memory_sequence_length=lengths)
        state = self.wrapper.get_initial_state(batch_size=tf.shape(memory)[0], dtype=tf.float32)
        return state.clone(cell_state=states)

    @tf.function(input_signature=_SHAPE)
    def run_encode(self, source):
        return self.encode(source)

    @tf.function(input_signature=_SHAPE)
    def beam(self, source):
        state = self._start(*self.encode(source), work.BEAM_WIDTH)
        decoder = seq2seq.BeamSearchDecoder(
            self.wrapper,
            work.BEAM_WIDTH,
            output_layer=self.head,
            maximum_iterations=work.STEPS,
        )
        outputs, final, _ = decoder(
            self.target_embedding.embeddings,
            start_tokens=tf.fill([tf.shape(source)[0]], work.START_ID),
            end_token=work.END_ID,
            initial_state=state,
        )
        return outputs.predicted_ids[:, :, 0], final.log_probs[:, 0]

    @tf.function(input_signature=_SHAPE)
    def greedy(self, source):
        state = self._start(*self.encode(source), 1)
        decoder = seq2seq.BasicDecoder(
            self.wrapper,
            seq2seq.GreedyEmbeddingSampler(),
            output_layer=self.head,
            maximum_iterations=work.STEPS,
        )
        outputs, _, _ = decoder(
            self.target_embedding.embeddings,
            start_tokens=tf.fill([tf.shape(source)[0]], work.START_ID),
            end_token=work.END_ID,
            initial_state=state,
        )
        best = tf.reduce_max(tf.nn.log_softmax(outputs.rnn_output), axis=-1)
        return outputs.sample_id, tf.reduce_sum(best, axis=-1)

    def _build(self) -> None:
        self.target_embedding(tf.constant([0]))
        self.greedy(self.source)

    def _take(self, arrays: dict) -> None:
        """Our weights, in tfa's order: there the cell's output stands before the context."""

        def of(name: str) -> list:
            return [arrays[f"{name}.{index}"] for index in range(_count(arrays, name))]

        self.source_embedding.set_weights(of("source_embedding"))
        self.target_embedding.set_weights(of("target_embedding"))
        self.encoder.set_weights(of("encoder"))
        for index, bridge in enumerate(self.bridges):
            bridge.set_weights(of(f"bridge_{index}"))
        (kernel,) = of("attention_vector")
        context, output = np.split(kernel, [2 * work.ENCODER_UNITS])
        self.vector.set_weights([np.concatenate([output, context])])
        self.cell.set_weights(of("cell"))
        self.attention.memory_layer.set_weights(of("attention"))
        self.head.set_weights(of("head"))

    def describe(self) -> dict:
        parts = [self.source_embedding, self.target_embedding, self.encoder, *self.bridges]
        parts += [self.wrapper, self.head]
        return {
            "versions": f"TensorFlow {tf.__version__}, TensorFlow Addons {tfa.__version__}",
            "parameters": sum(layer.count_params() for layer in parts),
        }

    def results(self, search: str) -> dict:
        ids, log_probs = getattr(self, search)(self.source)
        return {"ids": ids.numpy().tolist(), "log_probs": log_probs.numpy().tolist()}

    def run(self, search: str) -> float:
        return work.milliseconds(lambda: getattr(self, search)(self.source)[0].numpy())

    def memory(self, search: str) -> float:
        run = self.run_encode if search == "encoder" else getattr(self, search)
        return work.peak_megabytes(lambda: run(self.source))


def _count(arrays: dict, name: str) -> int:
    return sum(key.startswith(f"{name}.") for key in arrays)


def main() -> None:
    addons = Addons(sys.argv[1])
    names = ("describe", "results", "run", "memory")
    serve({name: getattr(addons, name) for name in names})


if __name__ == "__main__":
    main()
