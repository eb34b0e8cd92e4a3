"""The signatures of an exported translator: graphs from text to text."""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from keras_luong.ids import END_ID, START_ID
from keras_luong.models import Seq2Seq
from keras_luong.search import BeamSearch, SamplingSearch, Search, SearchResult
from keras_luong.serving.export import Signature
from keras_luong.serving.text_graph import (
    read_source,
    read_target,
    write_n_best,
    write_scores,
    write_translations,
)
from keras_luong.text import SubwordTokenizer

Tensor = Any

# A power that float32 bears for any length.
_MAX_ALPHA = 10.0


class TextModel(NamedTuple):
    """What a translator does to texts, in the TensorFlow graph.

    Attributes:
        model: The model.
        source_tokenizer: Of what is read.
        target_tokenizer: Of what is written.
        source_limit: The most subwords of a text that is read.
        max_length: The most subwords of a text that is written.
    """

    model: Seq2Seq
    source_tokenizer: SubwordTokenizer
    target_tokenizer: SubwordTokenizer
    source_limit: int
    max_length: int

    def signatures(
        self, search: Search, n_best: int | None, sample: SamplingSearch | None
    ) -> dict[str, Signature]:
        """The signatures that `Translator.export` describes.

        Raises:
            ValueError: For searches that cannot be exported.
        """
        _check(search, n_best, sample)
        text = {"text": tf.string}

        def serving_default(texts: Tensor) -> dict[str, Tensor]:
            return write_translations(*self._tokenizers, *self._search(texts, search))

        def several(texts: Tensor, alphas: Tensor) -> dict[str, Tensor]:
            # Of NaN no comparison holds.
            alphas = tf.minimum(tf.where(alphas > 0, alphas, 0.0), _MAX_ALPHA)
            found = self._search(texts, _several(search, n_best), alpha=alphas)
            return write_n_best(*self._tokenizers, *found)

        def score(texts: Tensor, target_texts: Tensor) -> dict[str, Tensor]:
            source = read_source(self.source_tokenizer, texts, self.source_limit)
            target_in, target = read_target(self.target_tokenizer, target_texts, self.max_length)
            scored = self.model.score(source, target_in, target)
            return write_scores(*self._tokenizers, source, target, scored)

        def drawn(texts: Tensor, seeds: Tensor) -> dict[str, Tensor]:
            return write_n_best(*self._tokenizers, *self._search(texts, sample, seed=seeds))

        signatures = {
            "serving_default": Signature(serving_default, text),
            "score": Signature(score, {**text, "target_text": tf.string}),
        }
        if isinstance(search, BeamSearch):
            signatures["n_best"] = Signature(several, {**text, "alpha": tf.float32})
        if sample is not None:
            signatures["sample"] = Signature(drawn, {**text, "seed": tf.int32})
        return signatures

    @property
    def _tokenizers(self) -> tuple[SubwordTokenizer, SubwordTokenizer]:
        return self.source_tokenizer, self.target_tokenizer

    def _search(self, texts: Tensor, search: Any, **inputs: Tensor) -> tuple[Tensor, SearchResult]:
        """Source ids, and what a search makes of them."""
        source = read_source(self.source_tokenizer, texts, self.source_limit)
        result = self.model.run_search(
            source, search, self.max_length + 1, START_ID, END_ID, shrinks=True, **inputs
        )
        return source, result


def _several(search: Any, n_best: int | None) -> BeamSearch:
    """The search that ranks by an `alpha` of the request, and returns more than one."""
    if n_best is None:
        n_best = search.n_best if search.n_best > 1 else search.beam_width
    return dataclasses.replace(search, n_best=n_best, length_penalty="gnmt")


def _check(search: Search, n_best: int | None, sample: Any) -> None:
    if isinstance(search, SamplingSearch):
        raise ValueError(
            "search must give the same translation every time: a GreedySearch or a BeamSearch. A "
            f"SamplingSearch goes to sample=. Received: {search!r}"
        )
    if sample is not None and not isinstance(sample, SamplingSearch):
        raise ValueError(f"sample must be a SamplingSearch or None. Received: {sample!r}")
    if isinstance(search, BeamSearch):
        _several(search, n_best)
    elif n_best is not None:
        raise ValueError(
            f"n_best needs a BeamSearch. Received: n_best={n_best} and search={search!r}"
        )
