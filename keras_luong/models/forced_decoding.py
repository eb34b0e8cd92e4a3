"""The target side of a `Seq2Seq` over a given target: embedding, decoder, vocabulary."""

from typing import Any

import keras
from keras import ops

from keras_luong.functional import zero_masked
from keras_luong.ids import PADDING_ID
from keras_luong.layers import AttentionDecoder, CopyMechanism, WordDropout
from keras_luong.models.vocabulary_product import whole_product

Tensor = Any


class ForcedDecoding:
    """What a decoder says of every step of a target that it is given.

    Args:
        target_embedding: Embedding layer of the target ids.
        decoder: The decoder.
        head: Layer from attention vectors to logits, or `None` for the tied embedding.
        copy_mechanism: What mixes the logits with words of the source, or `None`.
        dropout: Fraction dropped from target embeddings and attention vectors in training.
        word_dropout: Fraction of the target words that training replaces by the unknown id.
    """

    def __init__(
        self,
        target_embedding: keras.layers.Layer,
        decoder: AttentionDecoder,
        head: keras.layers.Layer | None,
        copy_mechanism: CopyMechanism | None,
        dropout: float,
        word_dropout: float,
    ) -> None:
        self._target_embedding, self._decoder, self._head = target_embedding, decoder, head
        self._copy_mechanism = copy_mechanism
        self._drop = keras.layers.Dropout(dropout)
        self._drop_words = WordDropout(word_dropout) if word_dropout else None

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
        copying, source_mask = self._copy_mechanism, ops.not_equal(source, PADDING_ID)
        with_scores = return_attention_scores or copying is not None
        outputs = self._decoder(
            self._drop(self._target_embedding(self._embedded(words, **mode)), **mode),
            memory,
            initial_state=initial_state,
            sequences_mask=ops.not_equal(target, PADDING_ID),
            memory_mask=source_mask,
            return_attention_scores=with_scores,
            **mode,
        )
        vectors, scores = outputs if with_scores else (outputs, None)
        vectors = self._drop(vectors, **mode)
        logits = whole_product(self._head, self._target_embedding, vectors)
        if copying is not None:
            memory = zero_masked(memory, source_mask)
            logits = copying(logits, vectors, scores, memory, copying.copied_ids(source))
        return logits, scores

    def _embedded(self, words: Tensor, **mode: bool) -> Tensor:
        """The ids that are embedded."""
        words = words if self._drop_words is None else self._drop_words(words, **mode)
        return words if self._copy_mechanism is None else self._copy_mechanism.known_target(words)
