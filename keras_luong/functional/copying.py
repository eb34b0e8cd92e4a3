"""Copying: one distribution from the words of a vocabulary and the words of a source.

Reference:
    See, Liu, Manning 2017, [arXiv:1704.04368](https://arxiv.org/abs/1704.04368), section 2.2.
"""

from typing import Any

import keras
from keras import ops

from keras_luong.functional.tensors import float32_at_least, wider

Tensor = Any


# Of a word that is neither generated nor copied: a probability that float32 does not see beside 1,
# and a logarithm that losses can take a mean with.
_LOG_NOTHING = -30.0


def copy_log_probs(
    logits: Tensor,
    gate_logits: Tensor,
    attention_scores: Tensor,
    copied_ids: Tensor,
    num_copied_alone: int = 0,
) -> Tensor:
    """`log P(w)` with `P(w) = p softmax(logits)_w + (1 - p) sum over s with id_s = w of a_t(s)`.

    `p = sigmoid(gate_logits)`. No sum of probabilities is ever a logarithm's only argument: words
    that are in no source keep the logarithm of their softmax, the others add up as logarithms, so
    neither the numbers nor their gradients become NaN where a probability is 0.

    Args:
        logits: `(b, t, v)`. Minus infinity rules a word out, but for copies of it.
        gate_logits: `(b, t, 1)`.
        attention_scores: `(b, t, s)`. What they lack to a sum of 1 is missing from P too.
        copied_ids: Integers `(b, s)`: what a source position is copied to. Nothing, if that is no
            id of the result, such as -1.
        num_copied_alone: How many ids c there are behind those of the logits, for words that can be
            copied and not generated. Where such a word is in no source, `log P` is -30 or less.

    Returns:
        `(b, t, v + c)`, in the wider dtype of logits and gate logits, float32 at least.
    """
    logits, gate = float32_at_least(logits), float32_at_least(gate_logits)
    dtype = wider(*(keras.backend.standardize_dtype(one.dtype) for one in (logits, gate)))
    logits, gate = ops.cast(logits, dtype), ops.cast(gate, dtype)
    generated = ops.log_softmax(logits, axis=-1)
    if num_copied_alone:
        more = [[0, 0], [0, 0], [0, num_copied_alone]]
        generated = ops.pad(generated, more, constant_values=_LOG_NOTHING)
    generated = generated + ops.log_sigmoid(gate)
    size = ops.shape(generated)[-1]
    is_id = ops.logical_and(copied_ids >= 0, copied_ids < size)
    same = ops.equal(copied_ids[:, :, None], copied_ids[:, None, :])
    # Of every position, the scores of all positions with its word.
    scores = ops.matmul(ops.cast(attention_scores, dtype), ops.cast(same, dtype))
    copied = ops.log_sigmoid(-gate) + ops.log(ops.where(scores > 0, scores, 1.0))
    places = _places(ops.where(is_id, copied_ids, 0), generated)
    own = ops.take(ops.reshape(generated, (-1,)), places)
    mixed = ops.where(scores > 0, ops.logaddexp(own, copied), own)
    # A word that stands several times is written once.
    positions = ops.arange(ops.shape(copied_ids)[1])
    is_earlier = ops.logical_and(same, positions[:, None] > positions)
    is_first = ops.logical_and(is_id, ops.logical_not(ops.any(is_earlier, axis=-1)))[:, None]
    written = _summed(ops.where(is_first, mixed, 0.0), places, generated)
    counts = ops.broadcast_to(ops.cast(is_first, dtype), ops.shape(mixed))
    return ops.where(_summed(counts, places, generated) > 0, written, generated)


def _places(ids: Tensor, of_words: Tensor) -> Tensor:
    """Where ids `(b, s)` stand in the flat `of_words` `(b, t, v)`, at every step: `(b, t, s)`."""
    # A batch times a large vocabulary can pass 2^31; JAX has no 64-bit integers by default.
    index_dtype = "int32" if keras.backend.backend() == "jax" else "int64"
    batch, steps, size = ops.shape(of_words)
    rows = ops.reshape(ops.arange(batch * steps, dtype=index_dtype), (batch, steps, 1))
    return rows * size + ops.cast(ids, index_dtype)[:, None]


def _summed(values: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """Zeros in the shape of `like`, and the sums of the values `(b, t, s)` at their places."""
    batch, steps, size = ops.shape(like)
    flat = ops.segment_sum(
        ops.reshape(values, (-1,)), ops.reshape(places, (-1,)), batch * steps * size
    )
    return ops.reshape(flat, (batch, steps, size))
