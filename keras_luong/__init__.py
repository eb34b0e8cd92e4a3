"""Attention sequence-to-sequence models for Keras 3.

Layers, models, searches, losses, metrics and schedules need Keras and any of its backends. What
handles text and serving needs TensorFlow and is imported when it is first asked for.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from keras_luong import functional, layers, models, search, training
from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    AttentionVector,
    BahdanauAttention,
    CopyMechanism,
    FastRNN,
    InverseSigmoidDecay,
    LayerNormLSTMCell,
    LuongAttention,
    MonotonicAttention,
    MultiSourceAttention,
    ResidualCell,
    ScheduledSampling,
    WordDropout,
    load_tfa_weights,
)
from keras_luong.models import Ensemble, Seq2Seq, luong_seq2seq, rnn_encoder
from keras_luong.search import BeamSearch, GreedySearch, SamplingSearch, Shortlist

# At once, since a saved model can name any loss, metric or schedule: Keras finds registered ones.
from keras_luong.training import AlignmentImages, MaskedCrossentropy, TokenAccuracy

if TYPE_CHECKING:
    from keras_luong import serving, text
    from keras_luong.serving import Translator, export_seq2seq
    from keras_luong.text import SubwordTokenizer, read_pairs

__version__ = "0.1.0"

# Names that need TensorFlow, by the sub-package that has them.
_LAZY = {
    "SubwordTokenizer": "text",
    "Translator": "serving",
    "export_seq2seq": "serving",
    "read_pairs": "text",
}
_LAZY_ROOMS = ("serving", "text")

__all__ = [
    "AlignmentImages",
    "AttentionDecoder",
    "AttentionDecoderCell",
    "AttentionVector",
    "BahdanauAttention",
    "BeamSearch",
    "CopyMechanism",
    "Ensemble",
    "FastRNN",
    "GreedySearch",
    "InverseSigmoidDecay",
    "LayerNormLSTMCell",
    "LuongAttention",
    "MaskedCrossentropy",
    "MonotonicAttention",
    "MultiSourceAttention",
    "ResidualCell",
    "SamplingSearch",
    "ScheduledSampling",
    "Seq2Seq",
    "Shortlist",
    "TokenAccuracy",
    "WordDropout",
    "functional",
    "layers",
    "load_tfa_weights",
    "luong_seq2seq",
    "models",
    "rnn_encoder",
    "search",
    "training",
]
# `from keras_luong import *` must work where TensorFlow is not.
if importlib.util.find_spec("tensorflow") is not None:
    __all__ += [
        "SubwordTokenizer",
        "Translator",
        "export_seq2seq",
        "read_pairs",
        "serving",
        "text",
    ]


def __getattr__(name: str) -> Any:
    if name in _LAZY_ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY, *_LAZY_ROOMS})
