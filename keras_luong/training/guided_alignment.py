"""`GuidedAlignment`: attention that is taught to look where alignments say."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_luong.functional import alignment_crossentropy, known_values
from keras_luong.iterables import list_of_texts
from keras_luong.training.alignment_errors import words_of
from keras_luong.training.replicas import sum_over_replicas
from keras_luong.training.token_checks import fit_each_other

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class GuidedAlignment(keras.losses.Loss):
    """Crossentropy between given alignments and attention, averaged over aligned target tokens.

    `- sum over t and s of A_ts log a_t(s)`, divided by the number of target tokens t that are
    aligned, with the rows of A divided by their sums. `Seq2Seq.with_attention_scores` has the
    scores among its outputs; `subword_alignments` makes A of alignments of words.

    Args:
        name: Name of the loss.

    Call arguments:
        y_true: Alignments, `(batch, target length, source length)`, at least 0. Rows of zeros,
            those of padding too, are not aligned and count for nothing. An alignment
            with padding of the source costs 87 (in float64 708), and has no gradient.
        y_pred: Attention scores of that shape.

    Output shape:
        A scalar.

    Raises:
        ValueError: For tensors of another rank than 3 or of two shapes, numbers below 0 where they
            are known, and a `sample_weight`.

    Example:

    >>> import numpy as np
    >>> from keras_luong import MaskedCrossentropy, luong_seq2seq
    >>> model = luong_seq2seq(10, 10, units=4).with_attention_scores()
    >>> losses = [MaskedCrossentropy(), GuidedAlignment()]
    >>> model.compile("adam", loss=losses, loss_weights=[1.0, 0.5])
    >>> source, target_in = np.array([[4, 5, 3]]), np.array([[2, 6, 7]])
    >>> alignments = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 0]]])
    >>> target_out = np.array([[6, 7, 3]])
    >>> history = model.fit([source, target_in], [target_out, alignments], verbose=0)

    Reference:
        [Chen, Matusov, Khadivi, Peter 2016](https://arxiv.org/abs/1607.01628), section 3.
    """

    def __init__(self, name: str = "guided_alignment") -> None:
        super().__init__(name=name)

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch, a scalar."""
        # The base class would average over the mask that Keras hangs on `y_pred`.
        if sample_weight is not None:
            raise ValueError("GuidedAlignment takes no sample_weight: weigh the alignments.")
        return self.call(y_true, y_pred)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of a batch, a scalar."""
        alignments, scores = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        shapes = tuple(alignments.shape), tuple(scores.shape)
        if len(shapes[0]) != 3 or not fit_each_other(*shapes):
            raise ValueError(
                "Alignments and attention scores must have one shape, (batch, target length, "
                f"source length). Received: {shapes[0]} and {shapes[1]}"
            )
        _check_signs(alignments)
        # What differed from the scores in its shape would be broadcast.
        alignments = ops.reshape(alignments, ops.shape(scores))
        loss = alignment_crossentropy(scores, alignments)
        aligned = ops.sum(ops.cast(ops.any(alignments > 0, axis=-1), loss.dtype))
        # Keras adds the gradients of replicas up: each gives its share of the whole batch.
        return loss * (aligned / ops.maximum(sum_over_replicas(aligned), 1.0))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"name": self.name}


def _check_signs(alignments: Tensor) -> None:
    values = known_values(alignments)
    if values is not None and not (values >= 0).all():
        raise ValueError(
            "Alignments must be at least 0. Received, the first that is not: "
            f"{values[~(values >= 0)][0]}"
        )


def subword_alignments(
    links: Iterable[tuple[int, int]], source_tokens: Sequence[str], target_tokens: Sequence[str]
) -> np.ndarray:
    """Turns links between words into alignments between their subwords, for `GuidedAlignment`.

    Each token of a target word is aligned evenly to all tokens of all source words that the word is
    linked with. Words are those of `word_links`.

    Args:
        links: Pairs of word numbers (source, target) from 0, such as the `sure` ones of
            `read_gold_alignments`.
        source_tokens: Tokens of one sentence, an end token `"</s>"` among them or not.
        target_tokens: Tokens of its translation.

    Returns:
        `(target tokens, source tokens)`, float32; rows sum to 1, or are zeros where nothing is
        linked.

    Raises:
        ValueError: If a link names a word that is not there.

    Example:

    >>> links = {(0, 0), (1, 1)}
    >>> print(subword_alignments(links, ["▁a", "▁dog", "</s>"], ["▁ein", "▁Hu", "nd", "</s>"]))
    [[1. 0. 0.]
     [0. 1. 0.]
     [0. 1. 0.]
     [0. 0. 0.]]
    """
    source_tokens = list_of_texts("source_tokens", source_tokens)
    target_tokens = list_of_texts("target_tokens", target_tokens)
    source, target = words_of(source_tokens), words_of(target_tokens)
    alignments = np.zeros((len(target_tokens), len(source_tokens)), "float32")
    for source_word, target_word in links:
        if not (0 <= source_word < len(source) and 0 <= target_word < len(target)):
            raise ValueError(
                f"Links must be between {len(source)} source and {len(target)} target words, "
                f"counted from 0. Received: {source_word}-{target_word}"
            )
        alignments[np.ix_(target[target_word], source[source_word])] = 1.0
    return alignments / np.maximum(alignments.sum(axis=1, keepdims=True), 1.0)
