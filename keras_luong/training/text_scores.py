"""BLEU, chrF and exact match of a validation set, while a model trains."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_luong.checked_numbers import integer


def _exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    equal = [one == other for one, other in zip(hypotheses, references, strict=True)]
    return sum(equal) / len(equal)


def _sacrebleu(name: str) -> Callable[[Sequence[str], Sequence[str]], float]:
    def score(hypotheses: Sequence[str], references: Sequence[str]) -> float:
        metric = getattr(_import_sacrebleu(), name)()
        return metric.corpus_score(list(hypotheses), [list(references)]).score

    return score


def _import_sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError(
            "BLEU and chrF are computed by sacrebleu: pip install 'keras-luong[examples]'. "
            "'exact_match' needs nothing."
        ) from error
    return sacrebleu


def score_texts(
    hypotheses: Sequence[str], references: Sequence[str], scores: Sequence[str]
) -> dict[str, float]:
    """Compares texts with their references.

    Args:
        hypotheses: Strings.
        references: One for each.
        scores: As in `TextScores`.

    Raises:
        ImportError: If a score needs sacrebleu and it is not installed.
        ValueError: For an unknown score.

    Example:

    >>> score_texts(["a dog", "one"], ["a dog", "two"], ["exact_match"])
    {'exact_match': 0.5}
    """
    check_scores(scores)
    return {name: _SCORES[name](hypotheses, references) for name in scores}


def check_scores(scores: Sequence[str]) -> None:
    """Refuses what `score_texts` would refuse as scores: rather than after an epoch."""
    unknown = [name for name in scores if name not in _SCORES]
    if unknown or not scores:
        raise ValueError(f"`scores` must be of {sorted(_SCORES)}. Received: {scores!r}")
    if set(scores) - {"exact_match"}:
        _import_sacrebleu()


_SCORES = {"bleu": _sacrebleu("BLEU"), "chrf": _sacrebleu("CHRF"), "exact_match": _exact_match}


class TextScores(keras.callbacks.Callback):
    """Translates the validation set after an epoch, and scores the texts.

    The scores come into the logs as `val_bleu` and so on, where `History`, the progress bar and
    callbacks further behind find them: `EarlyStopping("val_bleu", mode="max")`, say. In epochs
    without a score the last one is repeated, so that such a callback always finds one. With an
    average of the weights, put `SwapEMAWeights(swap_on_epoch=True)` before it, and the average is
    what translates.

    Args:
        translate: Function from a list of texts to their translations, such as
            `translator.translate`. The callback knows no model.
        pairs: Tuples of source text and reference.
        scores: Of `"bleu"` and `"chrf"`, those of sacrebleu (0 to 100; 13a, cased, detokenized),
            and `"exact_match"`, the share of texts that equal their reference.
        every: Epochs from one scoring to the next. The first is scored.

    Attributes:
        last_scores: What it found last, as it stands in the logs. `TrainingCheckpoint` keeps it.

    Raises:
        ImportError: If a score needs sacrebleu and it is not installed.
        ValueError: For no pairs, an unknown score or an `every` below 1.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> pairs = [("ein Hund", "a dog"), ("zwei", "two")]
    >>> callback = TextScores(lambda texts: ["a dog", "one"], pairs, ["exact_match"])
    >>> history = model.fit(np.ones((2, 3)), np.ones((2, 1)), callbacks=[callback], verbose=0)
    >>> print(history.history["val_exact_match"])
    [0.5]

    Reference:
        [Post 2018](https://arxiv.org/abs/1804.08771) for BLEU;
        [Popović 2015](https://aclanthology.org/W15-3049) for chrF.
    """

    remembered_attributes = ("last_scores",)

    def __init__(
        self,
        translate: Callable[[list[str]], Sequence[str]],
        pairs: Sequence[tuple[str, str]],
        scores: Sequence[str] = ("bleu", "chrf"),
        every: int = 1,
    ) -> None:
        super().__init__()
        check_scores(scores)
        if not pairs:
            raise ValueError("`pairs` must hold at least one pair to score. Received none")
        self.translate = translate
        self.sources = [source for source, _ in pairs]
        self.references = [reference for _, reference in pairs]
        self.scores = tuple(scores)
        self.every = integer("every", every, 1)
        self.last_scores: dict[str, float] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the scores to the logs."""
        if not self.last_scores or epoch % self.every == 0:
            hypotheses = self.translate(self.sources)
            found = score_texts(hypotheses, self.references, self.scores)
            self.last_scores = {f"val_{name}": score for name, score in found.items()}
        if logs is not None:
            logs.update(self.last_scores)
