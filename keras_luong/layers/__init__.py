"""Keras layers: weights, configuration and checks around the maths of `keras_luong.functional`."""

from keras_luong.layers.attention import Attended, Attention, AttentionMemory
from keras_luong.layers.attention_decoder import AttentionDecoder
from keras_luong.layers.attention_decoder_cell import AttentionDecoderCell
from keras_luong.layers.attention_vector import AttentionVector
from keras_luong.layers.bahdanau_attention import BahdanauAttention
from keras_luong.layers.copy_mechanism import CopyMechanism
from keras_luong.layers.fast_rnn import FastRNN
from keras_luong.layers.inverse_sigmoid_decay import InverseSigmoidDecay
from keras_luong.layers.layer_norm_lstm_cell import LayerNormLSTMCell
from keras_luong.layers.luong_attention import LuongAttention
from keras_luong.layers.monotonic_attention import MonotonicAttention
from keras_luong.layers.multi_source_attention import MultiSourceAttention
from keras_luong.layers.residual_cell import ResidualCell
from keras_luong.layers.scheduled_sampling import ScheduledSampling
from keras_luong.layers.scored_attention import ScoredAttention
from keras_luong.layers.tfa_weights import load_tfa_weights
from keras_luong.layers.word_dropout import WordDropout

__all__ = [
    "Attended",
    "Attention",
    "AttentionDecoder",
    "AttentionDecoderCell",
    "AttentionMemory",
    "AttentionVector",
    "BahdanauAttention",
    "CopyMechanism",
    "FastRNN",
    "InverseSigmoidDecay",
    "LayerNormLSTMCell",
    "LuongAttention",
    "MonotonicAttention",
    "MultiSourceAttention",
    "ResidualCell",
    "ScheduledSampling",
    "ScoredAttention",
    "WordDropout",
    "load_tfa_weights",
]


def __dir__() -> list[str]:
    return sorted(__all__)
