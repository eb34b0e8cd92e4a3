"""The signatures of an export: graphs from text to text, and from ids to ids."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_luong.ids import END_ID, START_ID
from keras_luong.models import Seq2Seq
from keras_luong.search import BeamSearch, SamplingSearch, Search, SearchResult
from keras_luong.serving.export import Signature
from keras_luong.serving.id_graph import read_ids, write_ids
from keras_luong.serving.text_graph import (
    read_source,
    read_target,
    write_n_best,
    write_scores,
    write_translations,
)
from keras_luong.text import SubwordTokenizer

Tensor = Any

_TEXTS = tf.TensorSpec((None,), tf.string)
_IDS = tf.TensorSpec((None, None), tf.int32)
_LIGHT = ("translation", "score", "log_prob")
# A power that float32 bears for any length.
_MAX_ALPHA = 10.0
# Tokens of the request that warms a signature up.
_WARM_UP_LENGTH = 12


class IdModel(NamedTuple):
    """What a model does to ids, in the TensorFlow graph.

    Attributes:
        model: The model.
        source_vocabulary_size: Ids outside it are read as the unknown id.
        source_limit: The most ids of a source, the end not counted.
        max_length: The most ids of a target, the end not counted.
    """

    model: Seq2Seq
    source_vocabulary_size: int
    source_limit: int
    max_length: int

    def signature(self, find: Callable[[Tensor], SearchResult]) -> Signature:
        """From `source_ids` to the best `target_ids`, as `export_seq2seq` describes it."""

        def ids(source_ids: Tensor) -> dict[str, Tensor]:
            source, truncated = read_ids(source_ids, self.source_vocabulary_size, self.source_limit)
            return write_ids(source, find(source)) | {"truncated": truncated}

        return Signature(ids, {"source_ids": _IDS}, {"source_ids": [self.some_ids]})

    def finder(self, search: Search) -> Callable[[Tensor], SearchResult]:
        """A search that is traced once and stands once in an export, whatever calls it."""
        return tf.function(lambda source: self.run(source, search), input_signature=[_IDS])

    def run(self, source: Tensor, search: Search, **options: Any) -> SearchResult:
        """What a search makes of ids that have been read."""
        return self.model.run_search(
            source, search, self.max_length + 1, START_ID, END_ID, shrinks=True, **options
        )

    def facts(self, search: Search) -> dict[str, Any]:
        """What the card of an export says of it."""
        target = self.model.vocabulary_size
        return {
            "vocabulary_sizes": {"source": self.source_vocabulary_size, "target": target},
            "max_lengths": {"source": self.source_limit, "target": self.max_length},
            "search": repr(search),
        }

    @property
    def some_ids(self) -> list[int]:
        """A source that a warm-up may take."""
        first = END_ID + 1
        some = range(first, min(first + _WARM_UP_LENGTH, self.source_vocabulary_size))
        return [*some[: self.source_limit], END_ID]


class TextModel(NamedTuple):
    """What a translator does to texts, in the TensorFlow graph.

    Attributes:
        ids: The model.
        source_tokenizer: Of what is read.
        target_tokenizer: Of what is written.
    """

    ids: IdModel
    source_tokenizer: SubwordTokenizer
    target_tokenizer: SubwordTokenizer

    def signatures(
        self, search: Search, n_best: int | None, sample: SamplingSearch | None
    ) -> dict[str, Signature]:
        """The signatures that `Translator.export` describes.

        Raises:
            ValueError: For searches that cannot be exported.
        """
        check_searches(search, n_best, sample)
        find = self.ids.finder(search)

        def serving_default(texts: Tensor) -> dict[str, Tensor]:
            source, truncated = self._read(texts)
            outputs = write_translations(*self._tokenizers, source, find(source))
            return outputs | {"truncated": truncated}

        def light(texts: Tensor) -> dict[str, Tensor]:
            source, truncated = self._read(texts)
            result = self.ids.run(source, search, keeps_attention=False)
            outputs = write_translations(*self._tokenizers, source, result)
            return {name: outputs[name] for name in _LIGHT} | {"truncated": truncated}

        def several(texts: Tensor, alphas: Tensor) -> dict[str, Tensor]:
            # Of NaN no comparison holds.
            alphas = tf.minimum(tf.where(alphas > 0, alphas, 0.0), _MAX_ALPHA)
            return listed(texts, _several(search, n_best), alpha=alphas)

        def drawn(texts: Tensor, seeds: Tensor) -> dict[str, Tensor]:
            return listed(texts, sample, seed=seeds)

        def listed(texts: Tensor, search: Any, **options: Tensor) -> dict[str, Tensor]:
            source, truncated = self._read(texts)
            result = self.ids.run(source, search, **options)
            return write_n_best(*self._tokenizers, source, result) | {"truncated": truncated}

        def score(texts: Tensor, target_texts: Tensor) -> dict[str, Tensor]:
            source, truncated = self._read(texts)
            target_in, target, target_truncated = read_target(
                self.target_tokenizer, target_texts, self.ids.max_length
            )
            scored = self.ids.model.score(source, target_in, target)
            outputs = write_scores(*self._tokenizers, source, target, scored)
            return outputs | {"truncated": truncated, "target_truncated": target_truncated}

        text, one = {"text": _TEXTS}, {"text": [self._some_text(self.source_tokenizer)]}
        target = {"target_text": [self._some_text(self.target_tokenizer)]}
        signatures = {
            "serving_default": Signature(serving_default, text, one),
            "light": Signature(light, text, one),
            "score": Signature(score, {**text, "target_text": _TEXTS}, one | target),
            "ids": self.ids.signature(find),
        }
        if isinstance(search, BeamSearch):
            inputs = {**text, "alpha": tf.TensorSpec((None,), tf.float32)}
            signatures["n_best"] = Signature(several, inputs, {**one, "alpha": [1.0]})
        if sample is not None:
            inputs = {**text, "seed": tf.TensorSpec((None,), tf.int32)}
            signatures["sample"] = Signature(drawn, inputs, {**one, "seed": [0]})
        return signatures

    @property
    def _tokenizers(self) -> tuple[SubwordTokenizer, SubwordTokenizer]:
        return self.source_tokenizer, self.target_tokenizer

    def _read(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        return read_source(self.source_tokenizer, texts, self.ids.source_limit)

    @staticmethod
    def _some_text(tokenizer: SubwordTokenizer) -> str:
        """The first subwords of a vocabulary, which are its most frequent ones."""
        ids = range(END_ID + 1, min(END_ID + 1 + _WARM_UP_LENGTH, tokenizer.vocabulary_size))
        return tokenizer.detokenize([[*ids]]).numpy()[0].decode()


def _several(search: Any, n_best: int | None) -> BeamSearch:
    """The search that ranks by an `alpha` of the request, and returns more than one."""
    if n_best is None:
        n_best = search.n_best if search.n_best > 1 else search.beam_width
    return dataclasses.replace(search, n_best=n_best, length_penalty="gnmt")


def check_searches(search: Search, n_best: int | None = None, sample: Any = None) -> None:
    """Refuses searches that cannot be exported."""
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
