"""`Ensemble`: several models of one vocabulary that decode together."""

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import keras
from keras import ops

from keras_luong.functional import float32_at_least, wider
from keras_luong.models.compiled import CompiledFunctions
from keras_luong.models.generation import Generation
from keras_luong.models.memory_mask import memory_length
from keras_luong.models.seq2seq import Seq2Seq

Tensor = Any


class Ensemble(Generation):
    """Decodes with the mean of the probabilities that several models give every token.

    Attention scores are the mean of the models' too, so their memories must be of one length; the
    coverage penalty of a search counts the positions that all of them keep. Else the models may
    differ in all but their vocabularies: they read the same ids and write the same ids.

    Args:
        models: Two `Seq2Seq` or more; one is legal.

    Raises:
        ValueError: For no model, something else than a `Seq2Seq`, vocabularies of two sizes, and
            memories of two lengths.

    Example:

    >>> import numpy as np
    >>> from keras_luong import luong_seq2seq
    >>> ensemble = Ensemble([luong_seq2seq(50, 60, units=8), luong_seq2seq(50, 60, units=16)])
    >>> print(tuple(ensemble.generate(np.array([[5, 6, 3]]), "beam", max_length=7).ids.shape))
    (1, 1, 7)
    """

    def __init__(self, models: Sequence[Seq2Seq]) -> None:
        self.models = list(models) if isinstance(models, Iterable) else []
        if not self.models or not all(isinstance(model, Seq2Seq) for model in self.models):
            raise ValueError(
                f"`models` must be a list of Seq2Seq models, at least one. Received: {models!r}"
            )
        sizes = [model.vocabulary_size for model in self.models]
        if len(set(sizes)) > 1:
            raise ValueError(f"`models` must have one vocabulary. Received sizes: {sizes}")
        _check_lengths([memory_length(model.encoder) for model in self.models])
        self._searches = CompiledFunctions()

    @property
    def vocabulary_size(self) -> int:
        """Number of target ids."""
        return self.models[0].vocabulary_size

    @property
    def source_vocabulary_size(self) -> int | None:
        """Number of source ids that all models read, if it can be seen."""
        sizes = [model.source_vocabulary_size for model in self.models]
        return min((one for one in sizes if one is not None), default=None)

    @property
    def max_source_length(self) -> int | None:
        """Length of the longest source that all models take, if there is one."""
        lengths = [model.max_source_length for model in self.models]
        return min((one for one in lengths if one is not None), default=None)

    @property
    def variables(self) -> list[Any]:
        """The variables of all models."""
        return [variable for model in self.models for variable in model.variables]

    def encode(self, source: Tensor) -> tuple[list[Any], list[Any]]:
        """Reads source ids `(b, s)`: each model's memory, and each one's initial state."""
        memories, states = zip(*(model.encode(source) for model in self.models), strict=True)
        _check_lengths([memory.values.shape[1] for memory in memories])
        return list(memories), list(states)

    def attended_mask(self, memories: list[Any]) -> Tensor | None:
        """The positions that all models may attend to, boolean `(b, s)`."""
        parts = zip(self.models, memories, strict=True)
        masks = [model.attended_mask(memory) for model, memory in parts]
        kept = [mask for mask in masks if mask is not None]
        return reduce(ops.logical_and, kept) if kept else None

    def initial_state(self, states: list[Any], memories: list[Any]) -> list[list[Tensor]]:
        """The states a search starts from, one of each model."""
        parts = zip(self.models, states, memories, strict=True)
        return [model.initial_state(state, memory) for model, state, memory in parts]

    def step(
        self, ids: Tensor, states: list[Any], memories: list[Any]
    ) -> tuple[Tensor, list[Any], Tensor]:
        """One step of every model: log-probabilities, new states and attention scores.

        Args:
            ids: int32 `(b, k)`.
            states: Each model's.
            memories: Each model's.

        Returns:
            `(log-probabilities (b, k, v), new states, attention scores (b, k, s))`.
        """
        return _mixed([model.step for model in self.models], ids, states, memories)

    def check_shortlist(self) -> None:
        """Raises a `ValueError` if one of the models cannot decode with a `Shortlist`."""
        for model in self.models:
            model.check_shortlist()

    def step_among(self, word_ids: Tensor) -> Any:
        """`step` among some ids alone: see `Seq2Seq.step_among`.

        The probabilities of the ids that a sentence may hold then sum to 1.
        """
        steps = [model.step_among(word_ids) for model in self.models]

        def step(ids: Tensor, states: list[Any], shared: tuple[list[Any], Tensor]) -> tuple:
            memories, allowed = shared
            return _mixed(steps, ids, states, [(memory, allowed) for memory in memories])

        return step


def _check_lengths(lengths: list[int | None]) -> None:
    """Raises for lengths of memories that are known to differ."""
    if len({one for one in lengths if one is not None}) > 1:
        raise ValueError(
            "`models` must have memories of one length, since attention scores are averaged over "
            f"the models. Received lengths for the same source: {lengths}"
        )


def _mixed(
    steps: list[Any], ids: Tensor, states: list[Any], memories: list[Any]
) -> tuple[Tensor, list[Any], Tensor]:
    parts = zip(steps, states, memories, strict=True)
    outputs = [step(ids, state, memory) for step, state, memory in parts]
    logits, new_states, scores = zip(*outputs, strict=True)
    log_probs = [ops.log_softmax(float32_at_least(one), axis=-1) for one in logits]
    of_all = ops.logsumexp(_stacked(log_probs), axis=0) - math.log(len(steps))
    return of_all, list(new_states), ops.sum(_stacked(scores), axis=0) / len(steps)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """What several models give, in the widest of their dtypes."""
    dtype = reduce(wider, (keras.backend.standardize_dtype(one.dtype) for one in parts))
    return ops.stack([ops.cast(one, dtype) for one in parts])
