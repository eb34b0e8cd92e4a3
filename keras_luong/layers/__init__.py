"""Keras layers: weights, configuration and checks around the maths of `keras_luong.functional`."""

from keras_luong.layers.attention_decoder import AttentionDecoder
from keras_luong.layers.attention_decoder_cell import AttentionDecoderCell
from keras_luong.layers.luong_attention import AttentionMemory, LuongAttention

__all__ = ["AttentionDecoder", "AttentionDecoderCell", "AttentionMemory", "LuongAttention"]
