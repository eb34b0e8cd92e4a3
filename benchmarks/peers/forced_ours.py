"""Worker of `forced.py`: keras_luong, as `Seq2Seq.generate` runs it."""

import keras
import numpy as np
import tensorflow as tf
import work
from peer_weights import save_weights
from profile_parts import profile
from worker import serve

from keras_luong import BeamSearch, Seq2Seq, luong_seq2seq

_LOGITS_SCALE = 20.0  # untrained logits are all alike; so scaled, hypotheses differ


def build() -> Seq2Seq:
    keras.utils.set_random_seed(1)
    model = luong_seq2seq(
        work.VOCABULARY,
        work.VOCABULARY,
        units=work.UNITS,
        embedding_dim=work.EMBEDDING,
        tie_embeddings=False,
    )
    kernel, bias = model.head.get_weights()
    bias[work.END_ID] = work.NEVER
    model.head.set_weights([kernel * _LOGITS_SCALE, bias])
    return model


class Ours:
    def __init__(self) -> None:
        self.model = build()
        self.source = np.array(work.source(), "int32")
        # As `generate` compiles the whole.
        shape = [tf.TensorSpec((None, None), tf.int32)]
        self.encode = tf.function(lambda ids: self.model.encode(ids), input_signature=shape)

    def search(self, name: str):
        searches = {"greedy": "greedy", "beam": BeamSearch(work.BEAM_WIDTH, min_length=work.STEPS)}
        return self.model.generate(
            self.source,
            searches[name],
            max_length=work.STEPS,
            start_id=work.START_ID,
            end_id=work.END_ID,
        )

    def describe(self, weights: str) -> dict:
        save_weights(self.model, weights)
        return {
            "versions": f"TensorFlow {tf.__version__}, Keras {keras.__version__}",
            "parameters": self.model.count_params(),
        }

    def results(self, search: str) -> dict:
        result = self.search(search)
        return {
            "ids": np.array(result.ids)[:, 0].tolist(),
            "log_probs": np.array(result.log_probs)[:, 0].tolist(),
        }

    def run(self, search: str) -> float:
        return work.milliseconds(lambda: np.array(self.search(search).ids))

    def profile(self, search: str) -> dict:
        return profile(lambda: np.array(self.search(search).ids))

    def memory(self, search: str) -> float:
        if search == "encoder":
            ids = tf.constant(self.source)
            return work.peak_megabytes(lambda: self.encode(ids)[0][0].numpy())
        return work.peak_megabytes(lambda: self.search(search))


def main() -> None:
    ours = Ours()
    names = ("describe", "results", "run", "profile", "memory")
    serve({name: getattr(ours, name) for name in names})


if __name__ == "__main__":
    main()
