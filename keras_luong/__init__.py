"""Attention sequence-to-sequence models for Keras 3.

Layers, models and searches need Keras and any of its backends. What handles text, training and
serving needs TensorFlow and is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from keras_luong.serving import Translator, export_seq2seq
    from keras_luong.text import SubwordTokenizer, read_pairs
    from keras_luong.training import AlignmentImages, MaskedCrossentropy, TokenAccuracy

__version__ = "0.1.0"

_LAZY = {
    "AlignmentImages": "training",
    "MaskedCrossentropy": "training",
    "SubwordTokenizer": "text",
    "TokenAccuracy": "training",
    "Translator": "serving",
    "export_seq2seq": "serving",
    "read_pairs": "text",
}

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
    "SubwordTokenizer",
    "TokenAccuracy",
    "Translator",
    "WordDropout",
    "export_seq2seq",
    "load_tfa_weights",
    "luong_seq2seq",
    "read_pairs",
    "rnn_encoder",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
