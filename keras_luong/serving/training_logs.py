"""What `Translator.fit` shows in TensorBoard."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_luong.models import Seq2Seq
from keras_luong.paths import PathLike, path_of
from keras_luong.training import (
    Alignment,
    AlignmentImages,
    GradientNorms,
    HyperParameters,
    SampleTexts,
    TrainingSpeed,
)
from keras_luong.training.gradient_norms import can_measure_gradients


def logging_callbacks(
    log_dir: PathLike,
    model: Seq2Seq,
    *,
    words_per_epoch: int,
    settings: Mapping[str, Any],
    align: Callable[[list[str]], Sequence[Alignment]],
    alignment_texts: Sequence[str],
    translate: Callable[[list[str]], Sequence[str]],
    sample_pairs: Sequence[tuple[str, str]],
) -> list[keras.callbacks.Callback]:
    """The callbacks that write a log, in the order in which they need each other.

    Args:
        log_dir: Where the log goes.
        model: A compiled model.
        words_per_epoch: Source and target words of an epoch.
        settings: What `fit` was given, for the table of hyperparameters.
        align: Function from texts to their alignments.
        alignment_texts: Texts whose alignments are drawn, if any.
        translate: Function from texts to their translations.
        sample_pairs: Pairs whose translations are shown, if any.
    """
    callbacks: list[keras.callbacks.Callback] = [TrainingSpeed(words_per_epoch)]
    if can_measure_gradients(model):
        callbacks.append(GradientNorms())
    # It finds in the logs what the two before it put there, and adds the learning rate.
    callbacks.append(keras.callbacks.TensorBoard(str(path_of(log_dir)), write_graph=False))
    if alignment_texts:
        callbacks.append(AlignmentImages(log_dir, lambda: align(list(alignment_texts))))
    if sample_pairs:
        callbacks.append(SampleTexts(log_dir, translate, sample_pairs))
    given = {name: value for name, value in settings.items() if value is not None}
    values = {**given, **model_settings(model)}
    return [*callbacks, HyperParameters(log_dir, values)]


def model_settings(model: Seq2Seq) -> dict[str, Any]:
    """Sizes and options of a compiled model, as far as they are one value each."""
    step = model.decoder.cell
    config = step.get_config()
    attention = step.attention.get_config()
    cells = getattr(step.cell, "cells", [step.cell])
    names = ("score_mode", "window", "window_size")
    values = {
        "vocabulary_size": model.vocabulary_size,
        "parameters": model.count_params(),
        "cell": type(cells[0]).__name__,
        "layers": len(cells),
        "units": config["units"],
        "input_feeding": config["input_feeding"],
        "attention": type(step.attention).__name__,
        **{name: attention.get(name) for name in names},
        "tie_embeddings": model.head is None,
        "dropout": model.dropout,
        "word_dropout": model.word_dropout,
        "consistency": model.consistency,
        **_loss_settings(model.loss),
        **_optimizer_settings(model.optimizer),
    }
    return {name: value for name, value in values.items() if value is not None}


def _loss_settings(loss: Any) -> dict[str, Any]:
    """How much a loss smooths labels, if it is one that does."""
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    return {"label_smoothing": config.get("label_smoothing")}


def _optimizer_settings(optimizer: Any) -> dict[str, Any]:
    """Its class, and the learning rate or the numbers of the schedule."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.get_config()["learning_rate"]
    names = ("clipnorm", "global_clipnorm", "clipvalue", "gradient_accumulation_steps")
    values: dict[str, Any] = {"optimizer": type(optimizer).__name__}
    values |= {name: getattr(optimizer, name) for name in names}
    values["ema_momentum"] = optimizer.ema_momentum if optimizer.use_ema else None
    if not isinstance(rate, Mapping):
        return {**values, "learning_rate": float(rate)}
    # Of a schedule that is a registered function, Keras keeps the name.
    config = rate["config"] if isinstance(rate["config"], Mapping) else {}
    numbers = {
        f"schedule.{name}": value
        for name, value in config.items()
        if isinstance(value, int | float)
    }
    return {**values, "schedule": rate["class_name"], **numbers}
