"""From a trained model to a served one: translation, saving, export and its checks."""

from keras_luong.serving.export import (
    Signature,
    check_version_path,
    export_saved_model,
    next_version,
)
from keras_luong.serving.graph_check import check_servable
from keras_luong.serving.saved_model_check import Report, check_saved_model
from keras_luong.serving.seq2seq_export import export_seq2seq
from keras_luong.serving.translation import ScoredTranslation, Translation
from keras_luong.serving.translator import Translator
from keras_luong.serving.unknown_words import UnknownWords

__all__ = [
    "Report",
    "ScoredTranslation",
    "Signature",
    "Translation",
    "Translator",
    "UnknownWords",
    "check_saved_model",
    "check_servable",
    "check_version_path",
    "export_saved_model",
    "export_seq2seq",
    "next_version",
]


def __dir__() -> list[str]:
    return sorted(__all__)
