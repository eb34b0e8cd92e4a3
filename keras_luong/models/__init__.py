"""Models in the functional API."""

from keras_luong.models.encoders import rnn_encoder
from keras_luong.models.ensemble import Ensemble
from keras_luong.models.luong_seq2seq import luong_seq2seq
from keras_luong.models.seq2seq import ScoredTarget, Seq2Seq
from keras_luong.models.seq2seq_with_scores import Seq2SeqWithScores

__all__ = [
    "Ensemble",
    "ScoredTarget",
    "Seq2Seq",
    "Seq2SeqWithScores",
    "luong_seq2seq",
    "rnn_encoder",
]


def __dir__() -> list[str]:
    return sorted(__all__)
