"""Losses, metrics and callbacks for `fit`."""

from keras_luong.training.alignment_images import Alignment, AlignmentImages, draw_alignment
from keras_luong.training.masked_crossentropy import MaskedCrossentropy
from keras_luong.training.token_accuracy import TokenAccuracy
from keras_luong.training.training_checkpoint import Position, TrainingCheckpoint

__all__ = [
    "Alignment",
    "AlignmentImages",
    "MaskedCrossentropy",
    "Position",
    "TokenAccuracy",
    "TrainingCheckpoint",
    "draw_alignment",
]
