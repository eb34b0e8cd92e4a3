"""What `Translator.fit` is given to learn from, as ids that fit its model."""

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_luong.text import (
    EncodedFiles,
    EncodedPairs,
    SampledPairs,
    SubwordTokenizer,
    encode_pairs,
    sample_pairs,
)
from keras_luong.text.encoded_files import model_hashes
from keras_luong.text.fingerprint import fingerprint_of

Pair = tuple[str, str]
Tokenizers = tuple[SubwordTokenizer, SubwordTokenizer]
_LOGGER = logging.getLogger("keras_luong")


def best_subwords(
    pairs: Iterable[Pair] | EncodedFiles, tokenizers: Tokenizers, limit: int
) -> EncodedPairs | EncodedFiles:
    """The pairs in their best subwords.

    Args:
        pairs: Texts, or what `encode_files` made of them.
        tokenizers: Those of the source and the target texts.
        limit: The most tokens that either side may have.

    Raises:
        ValueError: If no pair is left, and for `EncodedFiles` of other tokenizers or with longer
            sentences.
    """
    if isinstance(pairs, EncodedFiles):
        _check_files(pairs, tokenizers, limit)
        return pairs
    encoded = encode_pairs(pairs, *tokenizers, max_length=limit)
    _tell(encoded.dropped, len(encoded), limit)
    return encoded


def training_subwords(
    pairs: Iterable[Pair] | EncodedFiles, tokenizers: Tokenizers, limit: int, alpha: float | None
) -> EncodedPairs | EncodedFiles | SampledPairs:
    """The pairs in subwords that are drawn anew in every epoch, or without `alpha` in their best.

    The other arguments are those of `best_subwords`.
    """
    if alpha is None:
        return best_subwords(pairs, tokenizers, limit)
    if isinstance(pairs, EncodedFiles):
        raise ValueError(
            "The subwords of `EncodedFiles` are fixed; those of pairs of texts can be drawn. "
            f"Received: subword_sampling={alpha}"
        )
    sampled = sample_pairs(pairs, *tokenizers, alpha=alpha, max_length=limit)
    _tell(sampled.dropped, len(sampled.best), limit)
    return sampled


def facts_of(pairs: Iterable[Pair] | EncodedFiles) -> dict[str, Any]:
    """What pairs they are, as `Translator.training_data` has it."""
    return pairs.files if isinstance(pairs, EncodedFiles) else fingerprint_of(pairs)


def _tell(dropped: dict[str, int], kept: int, limit: int) -> None:
    """Logs what was left out."""
    if any(dropped.values()):
        _LOGGER.warning(
            "Of %d pairs %d are left out: %d with an empty side, %d of more than %d subwords.",
            kept + sum(dropped.values()),
            sum(dropped.values()),
            dropped["empty"],
            dropped["too_long"],
            limit,
        )


def _check_files(encoded: EncodedFiles, tokenizers: Tokenizers, limit: int) -> None:
    if encoded.tokenizers != model_hashes(*tokenizers):
        raise ValueError(
            "The `EncodedFiles` were made by other tokenizers than this translator has: call "
            "`encode_files` with its `source_tokenizer` and `target_tokenizer`."
        )
    longest = max(int(np.max(side.row_lengths())) for side in (encoded.source, encoded.target))
    if longest > limit:
        raise ValueError(
            f"The `EncodedFiles` may have at most {limit} subwords a side for this translator: "
            f"call `encode_files` with max_length={limit}. Received: {longest}"
        )
