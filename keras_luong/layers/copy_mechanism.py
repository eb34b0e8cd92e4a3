"""`CopyMechanism`: words of the source among those that are written."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_luong.checked_numbers import count_of
from keras_luong.functional import copy_log_probs, project, weighted_sum
from keras_luong.ids import PADDING_ID, UNKNOWN_ID

Tensor = Any
_NOTHING = -1


@keras.saving.register_keras_serializable(package="keras_luong")
class CopyMechanism(keras.layers.Layer):
    """Mixes the words that a decoder generates with those that it looks at: a pointer-generator.

    With attention scores a_t, their context c_t and the attention vector h~_t of a step:

    - `p_t = sigmoid(w_c . c_t + w_h . h~_t + b)`, how much is generated;
    - `P(w) = p_t softmax(logits_t)_w + (1 - p_t) sum of a_t(s) over the positions s that hold w`.

    The paper weighs the decoder's state and its input besides the context; h~_t is made of them.
    The context is that of the scores, without dropout of attention.

    What comes out, `log P`, takes the place of logits: a softmax of it is P. Where scores sum to
    less than 1, as in a window, or look at what cannot be copied, that softmax, in the loss as in a
    search, shares out what is missing.

    With one vocabulary for both sides a source id is copied as it is; with two, `target_ids` says
    what each of them is copied to. Words that no vocabulary has can be copied too, if they come
    with ids of their own. With `max_unknown_words=m` the first unknown word of a source sentence
    has the first id behind the source vocabulary, the second, if it is another word, the next one,
    and so on up to m; whatever holds the same word has the same id. In the target, and in what is
    generated, these words have the m ids behind the target vocabulary, in the same order. Their
    embedding is that of the unknown id.

    Args:
        vocabulary_size: Number of target ids v, that there are logits for.
        target_ids: For each source id the target id that it is copied to, -1 for none. By default
            each is copied to itself, as with one vocabulary for both sides.
        max_unknown_words: How many ids there are for unknown words of a sentence.
        unknown_id: What such words are where they are read.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        logits: `(batch, steps, v)`.
        attention_vectors: `(batch, steps, units)`.
        attention_scores: `(batch, steps, source length)`.
        memory: What they are scores of, `(batch, source length, depth)`.
        copied_ids: What `copied_ids` made of the source ids, `(batch, source length)`.

    Output shape:
        `(batch, steps, v + max_unknown_words)`: float64 for logits or a policy of float64, else
        float32.

    Raises:
        ValueError: For sizes below 1, a negative number of unknown words, `target_ids` that are no
            list of integers or beyond the vocabulary, an `unknown_id` beyond it or without unknown
            words, and logits of another size.

    Example:

    >>> import numpy as np
    >>> layer = CopyMechanism(vocabulary_size=6)
    >>> source = np.array([[5, 4, 3, 0]])
    >>> log_probs = layer(
    ...     np.zeros((1, 2, 6), "float32"),
    ...     attention_vectors=np.zeros((1, 2, 8), "float32"),
    ...     attention_scores=np.array([[[0.0, 1.0, 0.0, 0.0]] * 2], "float32"),
    ...     memory=np.zeros((1, 4, 8), "float32"),
    ...     copied_ids=layer.copied_ids(source),
    ... )
    >>> print([f"{one:.3f}" for one in np.exp(ops.convert_to_numpy(log_probs))[0, 0]])
    ['0.083', '0.083', '0.083', '0.083', '0.583', '0.083']

    Reference:
        [See, Liu, Manning 2017](https://arxiv.org/abs/1704.04368), equations 8 and 9.
    """

    def __init__(
        self,
        vocabulary_size: int,
        target_ids: Sequence[int] | None = None,
        *,
        max_unknown_words: int = 0,
        unknown_id: int = UNKNOWN_ID,
        **kwargs: Any,
    ) -> None:
        # The layer casts: logits may have more digits than its other inputs.
        super().__init__(autocast=False, **kwargs)
        self.vocabulary_size = count_of("vocabulary_size", vocabulary_size)
        self.target_ids = None if target_ids is None else _checked(target_ids, vocabulary_size)
        self.max_unknown_words = count_of("max_unknown_words", max_unknown_words, least=0)
        self.unknown_id = count_of("unknown_id", unknown_id, least=0)
        self._check_unknown_id()

    def _check_unknown_id(self) -> None:
        if not self.max_unknown_words and self.unknown_id != UNKNOWN_ID:
            raise ValueError(
                "`unknown_id` is for unknown words, so it needs `max_unknown_words` of at least 1. "
                f"Received: unknown_id={self.unknown_id}, max_unknown_words=0"
            )
        size = min(self.vocabulary_size, self.source_vocabulary_size)
        if self.max_unknown_words and self.unknown_id >= size:
            raise ValueError(
                f"`unknown_id` must be an id of both vocabularies, below {size}. Received: "
                f"{self.unknown_id}"
            )

    @property
    def source_vocabulary_size(self) -> int:
        """Number of source ids, without those of unknown words."""
        return self.vocabulary_size if self.target_ids is None else len(self.target_ids)

    def copied_ids(self, source: Tensor) -> Tensor:
        """What source ids `(batch, source length)` are copied to, -1 for nothing, int32."""
        source = ops.cast(source, "int32")
        ids, size = source, self.source_vocabulary_size
        if self.target_ids is not None:
            words = ops.take(ops.array(self.target_ids, "int32"), ops.clip(source, 0, size - 1))
            ids = ops.where(source < size, words, source - size + self.vocabulary_size)
        end = size + self.max_unknown_words
        is_word = ops.logical_and(source > PADDING_ID, source < end)
        return ops.where(is_word, ids, _NOTHING)

    def known_source(self, source: Tensor) -> Tensor:
        """Source ids, unknown words as the unknown id: what an encoder can read."""
        return self._known(source, self.source_vocabulary_size)

    def known_target(self, target: Tensor) -> Tensor:
        """Target ids, unknown words as the unknown id: what has an embedding."""
        return self._known(target, self.vocabulary_size)

    def _known(self, ids: Tensor, size: int) -> Tensor:
        if not self.max_unknown_words:
            return ids
        return ops.where(ids < size, ids, ops.cast(self.unknown_id, ids.dtype))

    def build(
        self,
        logits_shape: Any,
        attention_vectors_shape: Any,
        attention_scores_shape: Any = None,
        memory_shape: Any = None,
        copied_ids_shape: Any = None,
    ) -> None:
        if logits_shape[-1] != self.vocabulary_size:
            raise ValueError(
                f"CopyMechanism takes logits of {self.vocabulary_size} ids, its vocabulary_size. "
                f"Received shape {tuple(logits_shape)}."
            )
        self.context_kernel = self.add_weight(name="context_kernel", shape=(memory_shape[-1], 1))
        self.vector_kernel = self.add_weight(
            name="vector_kernel", shape=(attention_vectors_shape[-1], 1)
        )
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")

    def call(
        self,
        logits: Tensor,
        attention_vectors: Tensor,
        attention_scores: Tensor,
        memory: Tensor,
        copied_ids: Tensor,
    ) -> Tensor:
        vectors, scores, memory, context_kernel, vector_kernel, bias = (
            ops.cast(one, self.compute_dtype)
            for one in (
                attention_vectors,
                attention_scores,
                memory,
                self.context_kernel,
                self.vector_kernel,
                self.bias,
            )
        )
        # w . c_t is the scores' sum of w . h_s: it needs no context.
        of_context = weighted_sum(scores, project(memory, context_kernel))
        gate_logits = of_context + project(vectors, vector_kernel) + bias
        return copy_log_probs(
            logits, gate_logits, attention_scores, copied_ids, self.max_unknown_words
        )

    def compute_output_spec(self, logits: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        is_double = "float64" in (self.compute_dtype, keras.backend.standardize_dtype(logits.dtype))
        shape = (*logits.shape[:-1], logits.shape[-1] + self.max_unknown_words)
        return keras.KerasTensor(shape, dtype="float64" if is_double else "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "target_ids": self.target_ids,
            "max_unknown_words": self.max_unknown_words,
            "unknown_id": self.unknown_id,
        }


def _checked(target_ids: Sequence[int], vocabulary_size: int) -> list[int]:
    ids = np.asarray(target_ids)
    is_list = ids.ndim == 1 and ids.size > 0 and ids.dtype.kind in "iu"
    if not is_list or ids.max() >= vocabulary_size or ids.min() < _NOTHING:
        largest = f", the smallest {ids.min()}, the largest {ids.max()}" if is_list else ""
        raise ValueError(
            "`target_ids` must be integers below the vocabulary's size, one for each source id, -1 "
            f"for none. Received shape {ids.shape}, dtype {ids.dtype}{largest} with "
            f"vocabulary_size={vocabulary_size}"
        )
    return ids.tolist()
