"""BLEU, chrF and exact match of a validation set, while a model trains."""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_luong.checked_numbers import count_of
from keras_luong.iterables import list_of_pairs, list_of_texts

# Of sacrebleu's classes, by our names.
_SACREBLEU = {"bleu": "BLEU", "chrf": "CHRF"}
_SCORES = (*_SACREBLEU, "exact_match")
# These tokenizers split at spaces and punctuation, and these scripts have no spaces between words:
# Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese.
_SPLIT_AT_SPACES = (None, "13a", "intl")
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_LEAST_SHARE = 0.1


def score_texts(
    hypotheses: Iterable[str],
    references: Iterable[str],
    scores: Iterable[str],
    *,
    tokenize: str | None = None,
) -> dict[str, float]:
    """Compares texts with their references.

    Args:
        hypotheses: Strings.
        references: One for each.
        scores: As in `TextScores`.
        tokenize: As in `TextScores`.

    Raises:
        ImportError: If a score needs sacrebleu, or a tokenizer other packages, and they are not
            installed.
        ValueError: For an unknown score or tokenizer, a tokenizer without BLEU, no texts, and if
            there is not one reference for each.

    Example:

    >>> score_texts(["a dog", "one"], ["a dog", "two"], ["exact_match"])
    {'exact_match': 0.5}
    """
    names = check_scores(scores, tokenize)
    found, wanted = list_of_texts("hypotheses", hypotheses), list_of_texts("references", references)
    _warn_of_texts_without_spaces(wanted, names, tokenize)
    return _scored(found, wanted, names, tokenize)


def score_signatures(scores: Iterable[str], *, tokenize: str | None = None) -> dict[str, str]:
    """What sacrebleu calls its signatures: all that a score depends on, to be written beside it.

    Args:
        scores: As in `TextScores`. `"exact_match"` has no signature.
        tokenize: As in `TextScores`.

    Raises:
        ImportError: As `score_texts`.
        ValueError: As `score_texts`.
    """
    names = check_scores(scores, tokenize)
    metrics = {name: _metric(name, tokenize) for name in names if name in _SACREBLEU}
    for metric in metrics.values():
        metric.corpus_score(["a"], [["a"]])  # it has no signature before it has seen references
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


def check_scores(scores: Iterable[str], tokenize: str | None = None) -> list[str]:
    """Raises what `score_texts` would, rather than after an epoch; returns the names."""
    scores = list_of_texts("scores", scores)
    unknown = [name for name in scores if name not in _SCORES]
    if unknown or not scores:
        raise ValueError(f"`scores` must be of {sorted(_SCORES)}. Received: {scores!r}")
    if tokenize is not None and "bleu" not in scores:
        raise ValueError(
            f"`tokenize` is of BLEU. Received: tokenize={tokenize!r} and scores={scores!r}"
        )
    for name in scores:
        if name in _SACREBLEU:
            _metric(name, tokenize)
    return scores


def _scored(
    hypotheses: list[str], references: list[str], scores: Iterable[str], tokenize: str | None
) -> dict[str, float]:
    if not references or len(hypotheses) != len(references):
        raise ValueError(
            "There must be one hypothesis for each reference, and at least one. Received: "
            f"{len(hypotheses)} hypotheses and {len(references)} references"
        )
    return {name: _score(name, hypotheses, references, tokenize) for name in scores}


def _score(name: str, hypotheses: list[str], references: list[str], tokenize: str | None) -> float:
    if name in _SACREBLEU:
        return _metric(name, tokenize).corpus_score(hypotheses, [references]).score
    equal = [one == other for one, other in zip(hypotheses, references, strict=True)]
    return sum(equal) / len(equal)


def _metric(name: str, tokenize: str | None) -> Any:
    """The metric of sacrebleu."""
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError(
            "BLEU and chrF are computed by sacrebleu: pip install 'keras-luong[scores]'. "
            "'exact_match' needs nothing."
        ) from error
    if name != "bleu":
        return getattr(sacrebleu, _SACREBLEU[name])()
    known = sorted(sacrebleu.BLEU.TOKENIZERS)
    if tokenize is not None and tokenize not in known:
        raise ValueError(f"`tokenize` must be one of {known}. Received: {tokenize!r}")
    try:
        return sacrebleu.BLEU(tokenize=tokenize)
    except (ImportError, RuntimeError) as error:  # of a package that it needs
        message = " ".join(str(error).split())
        raise ImportError(f"The tokenizer {tokenize!r} of sacrebleu: {message}") from error


def _warn_of_texts_without_spaces(
    references: Sequence[str], scores: Sequence[str], tokenize: str | None
) -> None:
    if "bleu" not in scores or tokenize not in _SPLIT_AT_SPACES:
        return
    text = "".join("".join(references).split())
    if len(_WITHOUT_SPACES.findall(text)) > _LEAST_SHARE * len(text):
        warnings.warn(
            f"BLEU with the tokenizer {tokenize or '13a'!r} splits at spaces, and the references "
            "are in a script without them: it is near 0, however good the translations are. Use "
            "`tokenize='zh'` for Chinese, 'ja-mecab' for Japanese, 'char' for others.",
            stacklevel=3,
        )


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
        scores: Of `"bleu"` and `"chrf"`, those of sacrebleu (0 to 100; cased, detokenized), and
            `"exact_match"`, the share of texts that equal their reference.
        every: Epochs from one scoring to the next. The first is scored.
        tokenize: For BLEU: a tokenizer of sacrebleu; `"13a"` by default. It splits at spaces, so
            BLEU of text without them is near 0, and there is a warning: `"zh"` is for Chinese,
            `"ja-mecab"` for Japanese, `"char"` for others.

    Attributes:
        last_scores: What it found last, as it stands in the logs. `TrainingCheckpoint` keeps it.
        signatures: Those of sacrebleu, by score: printed when a training begins.

    Raises:
        ImportError: If a score needs sacrebleu, or a tokenizer other packages, and they are not
            installed.
        ValueError: For no pairs, an unknown score or tokenizer, and an `every` below 1.

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
        translate: Callable[[list[str]], Iterable[str]],
        pairs: Iterable[tuple[str, str]],
        scores: Iterable[str] = ("bleu", "chrf"),
        every: int = 1,
        *,
        tokenize: str | None = None,
    ) -> None:
        super().__init__()
        self.scores = tuple(check_scores(scores, tokenize))
        self.signatures = score_signatures(self.scores, tokenize=tokenize)
        pairs = list_of_pairs("pairs", pairs)
        if not pairs:
            raise ValueError("`pairs` must hold at least one pair to score. Received none")
        self.translate = translate
        self.sources = [source for source, _ in pairs]
        self.references = [reference for _, reference in pairs]
        _warn_of_texts_without_spaces(self.references, self.scores, tokenize)
        self.tokenize = tokenize
        self.every = count_of("every", every)
        self.last_scores: dict[str, float] = {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Prints the signatures."""
        for name, signature in self.signatures.items():
            print(f"val_{name}: {signature}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the scores to the logs."""
        if not self.last_scores or epoch % self.every == 0:
            hypotheses = list(self.translate(self.sources))
            found = _scored(hypotheses, self.references, self.scores, self.tokenize)
            self.last_scores = {f"val_{name}": score for name, score in found.items()}
        if logs is not None:
            logs.update(self.last_scores)
