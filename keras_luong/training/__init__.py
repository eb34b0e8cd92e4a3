"""Losses, metrics, schedules and callbacks for `fit`."""

from keras_luong.locks import locked_folder, locked_name
from keras_luong.training.alignment_errors import (
    GoldAlignment,
    alignment_error_rate,
    read_gold_alignments,
    word_links,
)
from keras_luong.training.alignment_images import Alignment, AlignmentImages, draw_alignment
from keras_luong.training.checkpoint_average import average_checkpoints
from keras_luong.training.gradient_norms import GradientNorms
from keras_luong.training.guided_alignment import GuidedAlignment, subword_alignments
from keras_luong.training.halving import Halving
from keras_luong.training.hyper_parameters import HyperParameters
from keras_luong.training.inverse_square_root import InverseSquareRoot
from keras_luong.training.masked_crossentropy import MaskedCrossentropy
from keras_luong.training.perplexity import Perplexity
from keras_luong.training.sample_texts import SampleTexts
from keras_luong.training.text_scores import (
    TextScores,
    check_scores,
    score_signatures,
    score_texts,
)
from keras_luong.training.token_accuracy import TokenAccuracy
from keras_luong.training.training_checkpoint import Position, TrainingCheckpoint
from keras_luong.training.training_speed import TrainingSpeed

__all__ = [
    "Alignment",
    "AlignmentImages",
    "GoldAlignment",
    "GradientNorms",
    "GuidedAlignment",
    "Halving",
    "HyperParameters",
    "InverseSquareRoot",
    "MaskedCrossentropy",
    "Perplexity",
    "Position",
    "SampleTexts",
    "TextScores",
    "TokenAccuracy",
    "TrainingCheckpoint",
    "TrainingSpeed",
    "alignment_error_rate",
    "average_checkpoints",
    "check_scores",
    "draw_alignment",
    "locked_folder",
    "locked_name",
    "read_gold_alignments",
    "score_signatures",
    "score_texts",
    "subword_alignments",
    "word_links",
]


def __dir__() -> list[str]:
    return sorted(__all__)
