"""Our model of the common work, on any backend."""

import keras
import work

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    LuongAttention,
    Seq2Seq,
    rnn_encoder,
)


def our_model(attention: type[LuongAttention] = LuongAttention) -> Seq2Seq:
    encoder = rnn_encoder(
        work.VOCABULARY, work.EMBEDDING, work.ENCODER_UNITS, state_sizes=[work.UNITS, work.UNITS]
    )
    cell = keras.layers.LSTMCell(work.UNITS)
    return Seq2Seq(
        encoder,
        keras.layers.Embedding(work.VOCABULARY, work.EMBEDDING),
        AttentionDecoder(AttentionDecoderCell(cell, attention("general"), work.UNITS)),
        keras.layers.Dense(work.VOCABULARY),
    )
