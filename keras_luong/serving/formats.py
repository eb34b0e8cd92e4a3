"""What the requests and replies of an export are made of: texts, or ids."""

from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from keras_luong.ids import END_ID
from keras_luong.search import SearchResult
from keras_luong.serving.id_graph import read_ids, read_target_ids, scored_ids, trimmed
from keras_luong.serving.text_graph import read_source, read_target, write_n_best, write_scores
from keras_luong.text import SubwordTokenizer

Tensor = Any

# Tokens of the request that warms a signature up.
_WARM_UP_LENGTH = 12


class Column(NamedTuple):
    """An input of a signature.

    Attributes:
        name: Under which clients send it.
        spec: Its type, batch first.
        example: The row of a request that TF Serving warms up with.
    """

    name: str
    spec: tf.TensorSpec
    example: Any


class Format(Protocol):
    """How a graph reads what is sent, and writes what was found."""

    @property
    def light(self) -> tuple[str, ...]:
        """The names, of `write_n_best`, of what a caller needs who needs no attention."""

    @property
    def source(self) -> Column:
        """What is to be translated."""

    @property
    def target(self) -> Column:
        """What is to be scored as a translation."""

    def read_source(self, column: Tensor) -> tuple[Tensor, Tensor]:
        """Ids `(b, s)`, the end id last in each row; and whether a row was cut, `(b,)`."""

    def read_target(self, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(target_in, target_out, truncated)`, as `Seq2Seq.score` takes the first two."""

    def write_n_best(self, source: Tensor, result: SearchResult) -> dict[str, Tensor]:
        """Hypotheses, best first, in an axis after the batch."""

    def write_scores(self, source: Tensor, target: Tensor, scored: Any) -> dict[str, Tensor]:
        """What a `ScoredTarget` says of `target_out`."""


class IdFormat(NamedTuple):
    """Ids, for callers with a tokenizer of their own.

    Attributes:
        source_vocabulary_size: Source ids outside it are read as the unknown id.
        target_vocabulary_size: Target ids outside it, too.
        source_limit: The most ids of a source, the end not counted.
        max_length: The most ids of a target, the end not counted.
    """

    source_vocabulary_size: int
    target_vocabulary_size: int
    source_limit: int
    max_length: int

    @property
    def light(self) -> tuple[str, ...]:
        return ("target_ids", "target_length", "score", "log_prob")

    @property
    def sizes(self) -> dict[str, dict[str, int]]:
        """What the card of an export says of them."""
        vocabularies = self.source_vocabulary_size, self.target_vocabulary_size
        sides = "source", "target"
        return {
            "vocabulary_sizes": dict(zip(sides, vocabularies, strict=True)),
            "max_lengths": dict(zip(sides, (self.source_limit, self.max_length), strict=True)),
        }

    @property
    def source(self) -> Column:
        example = [*_some_ids(self.source_vocabulary_size)[: self.source_limit], END_ID]
        return Column("source_ids", tf.TensorSpec((None, None), tf.int32), example)

    @property
    def target(self) -> Column:
        example = [*_some_ids(self.target_vocabulary_size)[: self.max_length], END_ID]
        return Column("target_ids", tf.TensorSpec((None, None), tf.int32), example)

    def read_source(self, column: Tensor) -> tuple[Tensor, Tensor]:
        return read_ids(column, self.source_vocabulary_size, self.source_limit)

    def read_target(self, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return read_target_ids(column, self.target_vocabulary_size, self.max_length)

    def write_n_best(self, source: Tensor, result: SearchResult) -> dict[str, Tensor]:
        return trimmed(source, result)

    def write_scores(self, source: Tensor, target: Tensor, scored: Any) -> dict[str, Tensor]:
        return scored_ids(source, target, scored)


class TextFormat(NamedTuple):
    """Texts, with the subwords that they were read as.

    Attributes:
        source_tokenizer: Of what is read.
        target_tokenizer: Of what is written.
        source_limit: The most subwords of a source, the end not counted.
        max_length: The most subwords of a target, the end not counted.
    """

    source_tokenizer: SubwordTokenizer
    target_tokenizer: SubwordTokenizer
    source_limit: int
    max_length: int

    @property
    def light(self) -> tuple[str, ...]:
        return ("translation", "score", "log_prob")

    @property
    def source(self) -> Column:
        example = _some_text(self.source_tokenizer)
        return Column("text", tf.TensorSpec((None,), tf.string), example)

    @property
    def target(self) -> Column:
        example = _some_text(self.target_tokenizer)
        return Column("target_text", tf.TensorSpec((None,), tf.string), example)

    def read_source(self, column: Tensor) -> tuple[Tensor, Tensor]:
        return read_source(self.source_tokenizer, column, self.source_limit)

    def read_target(self, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return read_target(self.target_tokenizer, column, self.max_length)

    def write_n_best(self, source: Tensor, result: SearchResult) -> dict[str, Tensor]:
        return write_n_best(self.source_tokenizer, self.target_tokenizer, source, result)

    def write_scores(self, source: Tensor, target: Tensor, scored: Any) -> dict[str, Tensor]:
        return write_scores(self.source_tokenizer, self.target_tokenizer, source, target, scored)


def _some_ids(vocabulary_size: int) -> list[int]:
    """The first subwords of a vocabulary, which are its most frequent ones."""
    return [*range(END_ID + 1, min(END_ID + 1 + _WARM_UP_LENGTH, vocabulary_size))]


def _some_text(tokenizer: SubwordTokenizer) -> str:
    return tokenizer.detokenize([_some_ids(tokenizer.vocabulary_size)]).numpy()[0].decode()
