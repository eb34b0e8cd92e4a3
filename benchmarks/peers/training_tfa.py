"""Worker of `training.py`: TensorFlow Addons 0.23.0 on TensorFlow 2.15.1, in a `tf.function`.

python training_tfa.py WEIGHTS
"""

import sys

import tensorflow as tf
import work
from forced_tfa import Addons
from keras import optimizers  # 2.15, which that TensorFlow calls its own
from steps import Steps, serve_steps
from tensorflow_addons import seq2seq


class Training(Steps, Addons):
    describe = Addons.describe
    memory = Steps.memory

    def __init__(self, weights: str) -> None:
        super().__init__(weights)
        self.optimizer = optimizers.Adam(1e-3, global_clipnorm=5.0)
        self.batch = [tf.constant(ids, tf.int32) for ids in work.pairs()]
        self.decoder = seq2seq.BasicDecoder(
            self.wrapper, seq2seq.TrainingSampler(), output_layer=None
        )

    @tf.function
    def train(self, source, target_in, target_out):
        with tf.GradientTape() as tape:
            state = self._start(*self.encode(source), 1)
            kept = tf.not_equal(target_in, work.PADDING_ID)
            outputs, _, _ = self.decoder(
                self.target_embedding(target_in),
                initial_state=state,
                sequence_length=tf.reduce_sum(tf.cast(kept, tf.int32), axis=1),
            )
            # The vocabulary product of all steps at once, the cheaper of tfa's two ways.
            logits = self.head(outputs.rnn_output)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target_out, logits)
            weights = tf.cast(kept, tf.float32)
            loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
        trained = list({id(one): one for one in self.trainable_variables}.values())
        self.optimizer.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))
        return loss

    def train_once(self) -> float:
        return float(self.train(*self.batch))


if __name__ == "__main__":
    serve_steps(Training(sys.argv[1]))
