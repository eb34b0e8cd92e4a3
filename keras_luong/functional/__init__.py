"""The maths of attention as pure functions on `keras.ops`.

Letters in shapes: b batch, t target step, s source position, d depth, u units.
Masks are boolean, `True` keeps. `attention_logits` stand before the softmax, `attention_scores`
after it.

Reference:
    Luong, Pham, Manning 2015, "Effective Approaches to Attention-based Neural Machine Translation",
    [arXiv:1508.04025](https://arxiv.org/abs/1508.04025), section 3.
"""

from keras_luong.functional.copying import copy_log_probs
from keras_luong.functional.coverage import coverage_loss
from keras_luong.functional.decoder_loop import DERIVATIVES, Given, Trained, decoder_loop
from keras_luong.functional.divergence import symmetric_divergence
from keras_luong.functional.guided_alignment import alignment_crossentropy
from keras_luong.functional.id_range import IdRange, known_values
from keras_luong.functional.long_attention import is_long, long_attention
from keras_luong.functional.loop_tools import is_there
from keras_luong.functional.monotonic import MONOTONIC_MODES, monotonic_scores
from keras_luong.functional.probabilities import (
    PROBABILITY_FNS,
    masked_hardmax,
    masked_softmax,
    masked_sparsemax,
)
from keras_luong.functional.recurrence import recur
from keras_luong.functional.recurrent_cells import GRU, LSTM, GRUWeights, Kind, LSTMWeights
from keras_luong.functional.recurrent_loop import recurrent_loop
from keras_luong.functional.scores import additive_logits, dot_logits, location_logits
from keras_luong.functional.tensors import (
    activate,
    finite_log,
    float32_at_least,
    layer_norm,
    project,
    tanh,
    weighted_sum,
    wider,
    zero_masked,
)
from keras_luong.functional.windows import (
    gaussian,
    in_window,
    predicted_centres,
    sentence_lengths,
)

__all__ = [
    "DERIVATIVES",
    "GRU",
    "GRUWeights",
    "Given",
    "IdRange",
    "LSTM",
    "Kind",
    "LSTMWeights",
    "MONOTONIC_MODES",
    "PROBABILITY_FNS",
    "Trained",
    "activate",
    "additive_logits",
    "alignment_crossentropy",
    "copy_log_probs",
    "coverage_loss",
    "decoder_loop",
    "dot_logits",
    "finite_log",
    "float32_at_least",
    "gaussian",
    "in_window",
    "is_long",
    "is_there",
    "known_values",
    "layer_norm",
    "location_logits",
    "long_attention",
    "masked_hardmax",
    "masked_softmax",
    "masked_sparsemax",
    "monotonic_scores",
    "predicted_centres",
    "project",
    "recur",
    "recurrent_loop",
    "sentence_lengths",
    "symmetric_divergence",
    "tanh",
    "weighted_sum",
    "wider",
    "zero_masked",
]


def __dir__() -> list[str]:
    return sorted(__all__)
