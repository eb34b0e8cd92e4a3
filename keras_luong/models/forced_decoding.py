"""The target side of a `Seq2Seq` over a given target: embedding, decoder, vocabulary."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_luong.functional import zero_masked
from keras_luong.ids import PADDING_ID
from keras_luong.layers import AttentionDecoder, CopyMechanism, WordDropout
from keras_luong.layers.freezing import freeze_parts, parts_as_configured
from keras_luong.models.dropout import dropout_class
from keras_luong.models.memory_mask import MemoryMask
from keras_luong.models.vocabulary_product import whole_product

Tensor = Any


class Rates(NamedTuple):
    """What is dropped in training.

    Attributes:
        dropout: Fraction dropped from target embeddings and attention vectors.
        variational_dropout: Whether by one mask a sequence.
        word_dropout: Fraction of the target words that are replaced by the unknown id.
    """

    dropout: float
    variational_dropout: bool
    word_dropout: float


@keras.saving.register_keras_serializable(package="keras_luong")
class DecoderWithScores(keras.layers.Layer):
    """A decoder that puts out its scores: a layer of its own for a second functional model.

    There Keras counts on as many outputs at every call of a layer as at its first.

    Args:
        decoder: The decoder.
        trainable: Whether it is trained.
    """

    def __init__(self, decoder: AttentionDecoder, trainable: bool = True) -> None:
        super().__init__(dtype=decoder.dtype_policy, trainable=trainable)
        self.decoder = decoder
        self.supports_masking = True
        self.built = True
        freeze_parts(self)

    def get_config(self) -> dict[str, Any]:
        """The decoder; name and dtype are made of it."""
        decoder = keras.saving.serialize_keras_object(self.decoder)
        return {"decoder": decoder, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DecoderWithScores":
        decoder = keras.saving.deserialize_keras_object(config["decoder"])
        with parts_as_configured():
            return cls(decoder, config["trainable"])

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The decoder's: that of the attention vectors. The scores have none."""
        return self.decoder.compute_mask(inputs, previous_mask)

    def call(
        self,
        sequences: Tensor,
        memory: Tensor,
        initial_state: Any = None,
        sequences_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        return_attention_scores: bool = True,
        training: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        return self.decoder(
            sequences,
            memory,
            initial_state=initial_state,
            sequences_mask=sequences_mask,
            memory_mask=memory_mask,
            return_attention_scores=return_attention_scores,
            training=training,
        )


class ForcedDecoding:
    """What a decoder says of every step of a target that it is given.

    Args:
        target_embedding: Embedding layer of the target ids.
        decoder: The decoder.
        head: Layer from attention vectors to logits, or `None` for the tied embedding.
        copy_mechanism: What mixes the logits with words of the source, or `None`.
        rates: What is dropped in training.
    """

    def __init__(
        self,
        target_embedding: keras.layers.Layer,
        decoder: AttentionDecoder | DecoderWithScores,
        head: keras.layers.Layer | None,
        copy_mechanism: CopyMechanism | None,
        rates: Rates,
    ) -> None:
        self._target_embedding, self._decoder, self._head = target_embedding, decoder, head
        self._copy_mechanism = copy_mechanism
        self._drop = dropout_class(rates.variational_dropout)(rates.dropout)
        self.memory_mask = MemoryMask()
        self._drop_words = WordDropout(rates.word_dropout) if rates.word_dropout else None

    def __call__(
        self,
        source: Tensor,
        memory: Tensor,
        initial_state: Any,
        target: Tensor,
        *,
        words: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Logits and attention scores of all steps.

        Args:
            source: int32 `(b, s)`.
            memory: `(b, s, d)`.
            initial_state: The decoder's, flat, or `None`.
            target: int32 `(b, t)`, `[start] + target`.
            words: What is read in the place of the target, `(b, t)`, padded where that is.
            return_attention_scores: Whether the scores are wanted.
            training: Whether there is dropout. `None` leaves that to the model around.

        Returns:
            `(logits (b, t, v), attention scores (b, t, s) or None)`.
        """
        # To a layer inside a functional model a `None` would be an answer.
        mode = {} if training is None else {"training": training}
        words = target if words is None else words
        copying, memory_mask = self._copy_mechanism, self.memory_mask(memory, source)
        with_scores = return_attention_scores or copying is not None
        outputs = self._decoder(
            self._drop(self._target_embedding(self._embedded(words, **mode), **mode), **mode),
            memory,
            initial_state=initial_state,
            sequences_mask=ops.not_equal(target, PADDING_ID),
            memory_mask=memory_mask,
            return_attention_scores=with_scores,
            **mode,
        )
        vectors, scores = outputs if with_scores else (outputs, None)
        vectors = self._drop(vectors, **mode)
        logits = whole_product(self._head, self._target_embedding, vectors, **mode)
        if copying is not None:
            memory = zero_masked(memory, memory_mask)
            logits = copying(logits, vectors, scores, memory, copying.copied_ids(source))
        return logits, scores

    def _embedded(self, words: Tensor, **mode: bool) -> Tensor:
        """The ids that are embedded."""
        words = words if self._drop_words is None else self._drop_words(words, **mode)
        return words if self._copy_mechanism is None else self._copy_mechanism.known_target(words)
