"""`export_seq2seq`: a model without tokenizers, for callers that have their own."""

from collections.abc import Mapping
from typing import Any

from keras_luong.checked_numbers import count_of, optional_count_of
from keras_luong.ids import END_ID
from keras_luong.models import Seq2Seq
from keras_luong.paths import PathLike
from keras_luong.search import SamplingSearch, Search, search_of
from keras_luong.serving.export import check_version_path, export_saved_model
from keras_luong.serving.formats import IdFormat
from keras_luong.serving.signatures import Searcher, signatures


def export_seq2seq(
    model: Seq2Seq,
    path: PathLike,
    search: str | Search = "beam",
    *,
    max_length: int = 100,
    source_vocabulary_size: int | None = None,
    n_best: int | None = None,
    sample: SamplingSearch | None = None,
    scores: Mapping[str, float] | None = None,
) -> None:
    """Exports a SavedModel that TF Serving loads as it is: ids in, ids out.

    Where the model has tokenizers, `Translator.export` exports it from text to text. What
    `Seq2Seq.export` of Keras exports is one forward pass of training, with no search.

    The signature `serving_default`, which is `ids` too, takes `source_ids` int32 `(b, s)`: in each
    row the end id 3 last, padded with 0. It returns the best target: `target_ids` int32 `(b, t)`,
    padded with 0, `target_length`, `score`, `log_prob` and `truncated` `(b,)` and
    `attention_scores` `(b, t, s)`. Lengths count the end id. The others are those of
    `Translator.export`, on ids: `light`, without attention scores; `n_best`, of a beam search, with
    `alpha`; `score`, which takes `target_ids` as well; and `sample`, with `seed`.

    Nothing that is sent crashes it: a row ends at its first end id or 0, and is given an end id if
    it has none; an id that is negative or not in the vocabulary is read as the unknown id 1; a row
    of more than `max_length` ids is cut, and `truncated` says so; a row of nothing gives nothing.

    TF Serving batches requests of different widths with `pad_variable_length_inputs: true` in its
    batching parameters. It pads a request with its own first id, which does no harm behind an end
    id: send one. It cannot pad a request of width 0.

    Args:
        model: A `Seq2Seq`.
        path: A folder that does not exist yet, named by an integer, the version:
            `"saved_models/de_en/1"`.
        search: `"beam"`, `"greedy"`, or an object: a `BeamSearch` or a `GreedySearch`.
        max_length: The most ids of a source and of a target, the end not counted. A location score
            may allow the source fewer.
        source_vocabulary_size: Number of source ids. By default that of the encoder's embedding, or
            all that a copy mechanism with unknown words has.
        n_best: How many targets `n_best` returns; by default those of the search, or the whole beam
            if that is one.
        sample: What `sample` draws, if there shall be such a signature.
        scores: What the model reached, for `model_card.json`: `{"BLEU": 38.5}`.

    Raises:
        FileExistsError: If `path` exists; nothing is overwritten.
        RuntimeError: If the backend is not TensorFlow.
        ValueError: If `path` is not named by an integer, the search is none that can be exported,
            the number of source ids is not to be seen, or the model cannot be served.

    Example:

    >>> import tempfile
    >>> import tensorflow as tf
    >>> from keras_luong import export_seq2seq, luong_seq2seq
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_seq2seq(luong_seq2seq(50, 60, units=8), f"{folder}/1", "greedy", max_length=9)
    ...     translate = tf.saved_model.load(f"{folder}/1").signatures["ids"]
    ...     outputs = translate(source_ids=tf.constant([[7, 8, 9, 3], [5, 3, 0, 0]]))
    >>> outputs["target_length"].shape
    TensorShape([2])
    """
    if not isinstance(model, Seq2Seq):
        raise ValueError(f"model must be a Seq2Seq. Received: {model!r}")
    check_version_path(path)
    max_length, n_best = count_of("max_length", max_length), optional_count_of("n_best", n_best)
    source_vocabulary_size = optional_count_of("source_vocabulary_size", source_vocabulary_size)
    searcher = Searcher(model, search_of(search), max_length)
    sizes = source_vocabulary_size, model.source_vocabulary_size
    size = min((one for one in sizes if one is not None), default=0)
    if size <= END_ID:
        raise ValueError(
            "source_vocabulary_size must be given where the encoder is no model with an Embedding "
            f"layer, and be greater than {END_ID}. Received: {source_vocabulary_size}, and the "
            f"model reads {model.source_vocabulary_size} ids"
        )
    ids = IdFormat(size, model.vocabulary_size, source_limit(model, max_length), max_length)
    named = signatures(searcher, searcher.shared(), ids, n_best, sample)
    named["ids"] = named["serving_default"]
    facts: dict[str, Any] = {**ids.sizes, "search": repr(searcher.search)}
    export_saved_model(path, model, named, scores=scores, **facts)


def source_limit(model: Seq2Seq, max_length: int) -> int:
    """The most ids of a source, the end id not counted."""
    longest = model.max_source_length
    return max_length if longest is None else min(max_length, longest - 1)
