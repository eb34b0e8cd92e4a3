"""The signatures of an export: the same for texts and for ids."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_luong.ids import END_ID, START_ID
from keras_luong.models import Seq2Seq
from keras_luong.search import BeamSearch, SamplingSearch, Search, SearchResult
from keras_luong.serving.export import Signature
from keras_luong.serving.formats import Column, Format
from keras_luong.serving.id_graph import best

Tensor = Any

_IDS = tf.TensorSpec((None, None), tf.int32)
_ALPHA = Column("alpha", tf.TensorSpec((None,), tf.float32), 1.0)
_SEED = Column("seed", tf.TensorSpec((None,), tf.int32), 0)
# A power that float32 bears for any length.
_MAX_ALPHA = 10.0
# What says something of the source has no axis of several hypotheses.
_OF_SOURCE = ("source_tokens", "source_length")


class Searcher(NamedTuple):
    """A model with the search that an export is made for.

    Attributes:
        model: The model.
        search: The search.
        max_length: The most ids of a target, the end not counted.
    """

    model: Seq2Seq
    search: Search
    max_length: int

    def run(self, source: Tensor, search: Search, **options: Any) -> SearchResult:
        """What a search makes of ids that have been read."""
        return self.model.run_search(
            source, search, self.max_length + 1, START_ID, END_ID, shrinks=True, **options
        )

    def shared(self) -> Callable[[Tensor], SearchResult]:
        """The search traced once, to stand once in an export, whatever calls it."""
        return tf.function(
            lambda source: self.run(source, self.search), input_signature=[_IDS], autograph=False
        )


def default_signature(find: Callable[[Tensor], SearchResult], form: Format) -> Signature:
    """The best translation, with all that is to be said of it.

    Args:
        find: What `Searcher.shared` returns.
        form: Of what is sent and returned.
    """

    def default(column: Tensor) -> dict[str, Tensor]:
        source, truncated = form.read_source(column)
        return write_best(form, source, find(source)) | {"truncated": truncated}

    return _signature(default, form.source)


def signatures(
    searcher: Searcher,
    find: Callable[[Tensor], SearchResult],
    form: Format,
    n_best: int | None = None,
    sample: SamplingSearch | None = None,
) -> dict[str, Signature]:
    """The signatures that `Translator.export` describes, by name.

    Args:
        searcher: The model and its search.
        find: What its `shared` returned.
        form: Of what is sent and returned.
        n_best: How many translations `n_best` returns.
        sample: What `sample` draws, if there is to be such a signature.

    Raises:
        ValueError: For searches that cannot be exported.
    """
    model, search, max_length = searcher
    check_searches(search, n_best, sample)

    def light(column: Tensor) -> dict[str, Tensor]:
        source, truncated = form.read_source(column)
        outputs = write_best(form, source, searcher.run(source, search, keeps_attention=False))
        return {name: outputs[name] for name in form.light} | {"truncated": truncated}

    def several(column: Tensor, alphas: Tensor) -> dict[str, Tensor]:
        # Of NaN no comparison holds.
        alphas = tf.minimum(tf.where(alphas > 0, alphas, 0.0), _MAX_ALPHA)
        return listed(column, _several(search, n_best), alpha=alphas)

    def drawn(column: Tensor, seeds: Tensor) -> dict[str, Tensor]:
        return listed(column, sample, seed=seeds)

    def listed(column: Tensor, search: Any, **options: Tensor) -> dict[str, Tensor]:
        source, truncated = form.read_source(column)
        result = searcher.run(source, search, **options)
        return form.write_n_best(source, result) | {"truncated": truncated}

    def score(column: Tensor, target_column: Tensor) -> dict[str, Tensor]:
        source, truncated = form.read_source(column)
        target_in, target, target_truncated = form.read_target(target_column)
        outputs = form.write_scores(source, target, model.score(source, target_in, target))
        return outputs | {"truncated": truncated, "target_truncated": target_truncated}

    found = {
        "serving_default": default_signature(find, form),
        "light": _signature(light, form.source),
        "score": _signature(score, form.source, form.target),
    }
    if isinstance(search, BeamSearch):
        found["n_best"] = _signature(several, form.source, _ALPHA)
    if sample is not None:
        found["sample"] = _signature(drawn, form.source, _SEED)
    return found


def write_best(form: Format, source: Tensor, result: SearchResult) -> dict[str, Tensor]:
    """What `form.write_n_best` says of the first hypotheses, without the axis of several."""
    outputs = form.write_n_best(source, best(result))
    return {
        name: output if name in _OF_SOURCE else tf.squeeze(output, axis=1)
        for name, output in outputs.items()
    }


def _signature(function: Callable[..., dict[str, Tensor]], *columns: Column) -> Signature:
    inputs = {column.name: column.spec for column in columns}
    return Signature(function, inputs, {column.name: [column.example] for column in columns})


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
