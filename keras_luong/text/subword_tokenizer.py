"""A subword vocabulary trained on the user's own text, applied inside the TensorFlow graph."""

import functools
import hashlib
import io
import math
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import sentencepiece
import tensorflow as tf
import tensorflow_text
from sentencepiece import sentencepiece_model_pb2

from keras_luong.checked_numbers import above_0, count_of, integer_of, number_of
from keras_luong.folders import whole_file
from keras_luong.ids import END_ID, PADDING_ID, START_ID, UNKNOWN_ID
from keras_luong.iterables import list_of, texts_of
from keras_luong.paths import PathLike, path_of
from keras_luong.text.charsmap import check_charsmap

Tensor = Any

MODEL_TYPES = ("unigram", "bpe", "char")
NORMALIZATIONS = ("nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf", "identity")
# What a vocabulary is trained on: all texts up to this many, else evenly spaced ones.
MAX_TRAINING_TEXTS = 2_000_000
# In bytes. sentencepiece's time grows with the square of a text's length: one of 4 kB took 0.1 s,
# of 16 kB 0.5 s, of 64 kB 4.3 s; 1 MB in parts of 4 kB took 0.2 s.
_LONGEST_PART = 4096
# FastSentencepieceTokenizer goes down one call for each byte of a piece: one of 1 MB ended the
# process. Training makes no piece of more than 16 letters.
_LONGEST_PIECE = 1000

# The in-graph tokenizer and sentencepiece's own encoder disagree on these characters alone
# (the first takes them for spaces before it normalizes, the second does not).
_SPACES = "[\t\n\v\f\r\u2581]"

# sentencepiece has one seed for a process, and 2^32 - 1 stands for none.
_SAMPLING = threading.Lock()
_SEEDS = 2**32 - 1

# What is called of a tokenizer in this package.
_PARTS = ("vocabulary_size", "tokenize", "detokenize", "pieces", "model", "save")


class SubwordTokenizer(tf.Module):
    """Splits text into the subwords of a SentencePiece model, and joins them again.

    Everything runs in the TensorFlow graph, so an exported model makes the same ids as training
    did. Bytes that are not UTF-8 count as U+FFFD. Control symbols never come out of text: `"<s>"`
    is split like any other word. As a `tf.Module` it can be an attribute of what is exported, and
    any number of tokenizers can share one export.

    Args:
        model: A serialized SentencePiece model of type unigram, BPE or char, with padding 0,
            unknown 1, start 2 and end 3, as `SubwordTokenizer.train` makes it.

    Example:

    >>> tokenizer = SubwordTokenizer.train(["new new newer", "low lower"], 14)
    >>> ids = tokenizer.tokenize(["newer", "lower new"])
    >>> tokenizer.detokenize(ids).numpy().tolist()
    [b'newer', b'lower new']

    Reference:
        Kudo 2018, "Subword Regularization", [arXiv:1804.10959](https://arxiv.org/abs/1804.10959);
        BPE: [Sennrich, Haddow, Birch 2016](https://arxiv.org/abs/1508.07909).
    """

    def __init__(self, model: bytes) -> None:
        super().__init__(name="subword_tokenizer")
        parsed = _parsed(model)
        pieces = [piece.piece for piece in parsed.pieces]
        self._model = bytes(model)
        self._model_type = _type_of(parsed)
        self._vocabulary_size = len(pieces)
        is_fast = self._model_type != "bpe" and not parsed.trainer_spec.byte_fallback
        # The ops run on the CPU, so their constants live there too.
        with tf.device("CPU:0"):
            # FastSentencepieceTokenizer where it can be: it is stateless, and takes half the room.
            # It splits by unigram's rule whatever the type, and knows no bytes.
            self._fast = _fast_tokenizer(self._model) if is_fast else None
            self._pieces = tf.constant(["" if i == PADDING_ID else p for i, p in enumerate(pieces)])

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocabulary_size: int,
        *,
        exact: bool = True,
        model_type: str = "unigram",
        normalization: str = "nmt_nfkc",
        character_coverage: float = 1.0,
        split_digits: bool = False,
        byte_fallback: bool = False,
    ) -> "SubwordTokenizer":
        """Trains a vocabulary. The same texts and arguments always give the same one.

        Args:
            texts: Strings, which may come from a stream: of more than 2,000,000 every second is
                used, or every fourth, eighth, and so on, and no more than that are in memory.
            vocabulary_size: Number of ids, the four special ones included.
            exact: Whether texts that hold fewer subwords raise. `False` takes `vocabulary_size` as
                the most there may be: the property of that name then says how many there are.
            model_type: `"unigram"`, `"bpe"` (byte pair encoding), or `"char"` for one id a
                character.
            normalization: What happens to the text first: `"nmt_nfkc"`, `"nmt_nfkc_cf"` (also
                folds case), `"nfkc"`, `"nfkc_cf"`, or `"identity"`, which keeps characters as they
                are, and the model without the tables of the others.
            character_coverage: Share of the characters that must be in the vocabulary. Less than 1
                leaves the rarest to the unknown id.
            split_digits: Whether every digit is an id of its own.
            byte_fallback: Whether a character that is not in the vocabulary is split into its UTF-8
                bytes rather than unknown; 256 ids are theirs. Not with `"char"`.

        Raises:
            ValueError: If there is no text, or if the vocabulary size does not suit it. The message
                names the largest (or smallest) size that does.
        """
        vocabulary_size = count_of("vocabulary_size", vocabulary_size, least=END_ID + 2)
        character_coverage = number_of("character_coverage", character_coverage)
        _check_training_arguments(model_type, normalization, character_coverage)
        if byte_fallback and model_type == "char":
            raise ValueError(
                "`byte_fallback` must be False for characters as subwords. Received: True"
            )
        sentences = _training_sentences(texts)
        writer = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=writer,
                vocab_size=vocabulary_size,
                hard_vocab_limit=exact,
                model_type=model_type,
                normalization_rule_name=normalization,
                character_coverage=character_coverage,
                split_digits=split_digits,
                byte_fallback=byte_fallback,
                pad_id=PADDING_ID,
                unk_id=UNKNOWN_ID,
                bos_id=START_ID,
                eos_id=END_ID,
                # Longer sentences are skipped in silence; sentencepiece allows no less than 10.
                max_sentence_length=max(10, *map(len, sentences)),
                num_threads=1,  # the sums of the estimation depend on how threads share the text
                minloglevel=2,
            )
        except RuntimeError as error:
            raise _training_error(error, vocabulary_size, len(sentences)) from error
        tokenizer = cls(writer.getvalue())
        # With characters as pieces, sentencepiece returns fewer than asked for and says nothing.
        if exact and tokenizer.vocabulary_size != vocabulary_size:
            raise _too_large(vocabulary_size, tokenizer.vocabulary_size, len(sentences))
        return tokenizer

    @classmethod
    def load(cls, path: PathLike) -> "SubwordTokenizer":
        """Reads a tokenizer that `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds no model that this class can run.
        """
        file = path_of(path)
        if not file.is_file():
            raise FileNotFoundError(f"There is no tokenizer file {str(file)!r}.")
        try:
            tokenizer = cls(file.read_bytes())
            tokenizer._check_running()
        except ValueError as error:
            raise ValueError(f"{str(file)!r}: {error}") from error
        return tokenizer

    def save(self, path: PathLike, overwrite: bool = False) -> None:
        """Writes the model to one file, whole or not at all.

        Raises:
            FileExistsError: If the file exists and `overwrite` is `False`.
        """
        target = path_of(path)
        if target.exists() and not overwrite:
            raise FileExistsError(f"{str(target)!r} exists. Pass overwrite=True to replace it.")
        with whole_file(target) as file:
            file.write_bytes(self._model)

    @property
    def model(self) -> bytes:
        """The serialized SentencePiece model."""
        return self._model

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, the four special ones included."""
        return self._vocabulary_size

    def tokenize(self, texts: Tensor) -> tf.RaggedTensor:
        """Turns text into ids, without start and end.

        Args:
            texts: Strings, `(b,)`. Bytes that are not UTF-8 are read as U+FFFD.

        Returns:
            A ragged tensor of int32, `(b, None)`. Empty text gives an empty row.

        Raises:
            ValueError: If `texts` is not of rank 1.
        """
        texts = tf.convert_to_tensor(_rows("texts", texts), tf.string)
        if texts.shape.rank != 1:
            raise ValueError(f"`texts` must have shape (batch,). Received: shape {texts.shape}")
        return self._tokenizer().tokenize(_clean(texts))

    def sample(self, texts: Iterable[str], alpha: float, seed: int) -> list[list[int]]:
        """Draws a segmentation of each text: subword regularization, outside of the graph.

        Of a unigram model a segmentation x has the probability `P(x)^alpha / sum over all x' of
        P(x')^alpha`. A BPE model leaves out each merge with the probability alpha: BPE-dropout. The
        same arguments always give the same ids.

        Args:
            texts: Strings.
            alpha: Greater than 0. Unigram: the smaller, the more even the probabilities are; 0.1
                to 0.5 are usual. BPE: at most 1; 0.1 is usual.
            seed: Integer.

        Returns:
            A list of ids for each text, without start and end.

        Raises:
            ValueError: For another `alpha`, and a model that has one segmentation of a text alone.

        Reference:
            [Kudo 2018](https://arxiv.org/abs/1804.10959), section 3.3, with l infinite;
            [Provilkov, Emelianenko, Voita 2020](https://arxiv.org/abs/1910.13267).
        """
        if self._model_type == "char":
            raise ValueError("A model of type 'char' has one segmentation of a text alone.")
        alpha, seed = above_0("alpha", alpha), integer_of("seed", seed)
        if self._model_type == "bpe" and alpha > 1:
            raise ValueError(f"`alpha` of a BPE model must be at most 1. Received: {alpha}")
        texts = [re.sub(_SPACES, " ", text) for text in texts_of("texts", texts)]
        with _SAMPLING:
            sentencepiece.set_random_generator_seed(seed % _SEEDS)
            # How several threads shared the texts would change what is drawn.
            return self._processor.encode(
                texts, enable_sampling=True, nbest_size=-1, alpha=alpha, num_threads=1
            )

    def _tokenizer(self) -> Any:
        """What runs the model in the graph."""
        if self._fast is not None:
            return self._fast
        # Made anew where it is used, and part of that graph. One that is kept belongs to a kernel
        # which TensorFlow throws away when it clears its caches: any `set_random_seed` does. In an
        # export the name tells two apart: without, one model would be used for both.
        name = f"sentencepiece_{hashlib.sha256(self._model).hexdigest()}"
        with tf.device("CPU:0"):
            return tensorflow_text.SentencepieceTokenizer(self._model, name=name)

    def _check_running(self) -> None:
        """Raises a `ValueError` for a model that the libraries do not take: they say so late."""
        try:
            self._processor.encode("a")
            self.detokenize(self.tokenize(["a"]))
        except (RuntimeError, tf.errors.OpError) as error:
            raise _not_a_model(self._model, error) from error

    @functools.cached_property
    def _processor(self) -> Any:
        return sentencepiece.SentencePieceProcessor(model_proto=self._model)

    def detokenize(self, ids: Tensor) -> Tensor:
        """Turns ids back into text.

        Padding, start and end ids vanish wherever they stand. An id outside the vocabulary counts
        as unknown, which reads `" ⁇ "`.

        Args:
            ids: Integers, `(b, t)`, dense or ragged.

        Returns:
            Strings, `(b,)`.
        """
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.convert_to_tensor(_rows("ids", ids))
        if ids.shape.rank != 2:
            raise ValueError(f"`ids` must have shape (batch, time). Received: shape {ids.shape}")
        keep = (ids != PADDING_ID) & (ids != START_ID) & (ids != END_ID)
        ids = tf.ragged.boolean_mask(ids, keep).with_row_splits_dtype(tf.int32)
        return self._tokenizer().detokenize(ids.with_values(self._known(ids.values, UNKNOWN_ID)))

    def pieces(self, ids: Tensor) -> Tensor:
        """Names the subword of every id; `"▁"` stands for the space before a word.

        Args:
            ids: Integers of any shape.

        Returns:
            Strings of the same shape, `""` for padding and for ids outside the vocabulary.
        """
        return tf.gather(self._pieces, self._known(tf.convert_to_tensor(ids), PADDING_ID))

    def _known(self, ids: Tensor, otherwise: int) -> Tensor:
        """Puts `otherwise` for ids outside the vocabulary, which the operations cannot take."""
        inside = (ids >= 0) & (ids < self._vocabulary_size)
        return tf.cast(tf.where(inside, ids, tf.cast(otherwise, ids.dtype)), tf.int32)


def check_tokenizers(**tokenizers: Any) -> None:
    """Raises for what does not have what this package calls of a tokenizer, by argument."""
    for name, tokenizer in tokenizers.items():
        missing = [part for part in _PARTS if not hasattr(tokenizer, part)]
        if missing:
            raise TypeError(
                f"`{name}` must be a `SubwordTokenizer`, or have its {', '.join(_PARTS)}. Received "
                f"{tokenizer!r} of type {type(tokenizer).__name__}, without {', '.join(missing)}"
            )


def _rows(name: str, values: Any) -> Any:
    """What TensorFlow makes a tensor of, from a generator or a Series too."""
    is_array = tf.is_tensor(values) or isinstance(values, np.ndarray)
    return values if is_array else list_of(name, values, "rows")


def _clean(texts: Tensor) -> Tensor:
    """Makes strings valid UTF-8 whose only ASCII white space is the space."""
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    return tf.strings.regex_replace(texts, _SPACES, " ")


def _fast_tokenizer(model: bytes) -> Any:
    try:
        return tensorflow_text.FastSentencepieceTokenizer(model)
    except RuntimeError as error:
        raise _not_a_model(model, error) from error


def _not_a_model(model: bytes, error: Exception | None = None) -> ValueError:
    reason = f" {' '.join(str(error).split())}" if error else ""
    return ValueError(f"Not a SentencePiece model ({len(model)} bytes).{reason}")


def _parsed(model: bytes) -> Any:
    """Reads a model, and refuses what the in-graph tokenizer gets wrong."""
    if not isinstance(model, bytes):
        raise TypeError(f"`model` must be the bytes of a model. Received: {type(model).__name__}")
    parsed = sentencepiece_model_pb2.ModelProto()
    try:
        parsed.ParseFromString(model)
    except Exception as error:  # protobuf's own class is not in every version of its public API
        raise _not_a_model(model) from error
    if not parsed.pieces:
        raise _not_a_model(model)
    for number, piece in enumerate(parsed.pieces):
        if not 0 < len(piece.piece) <= _LONGEST_PIECE or not math.isfinite(piece.score):
            raise ValueError(
                f"The pieces of a model must have 1 to {_LONGEST_PIECE} letters and a finite "
                f"score. Received: {piece.piece[:20]!r} and {piece.score} for id {number}"
            )
    for spec in (parsed.normalizer_spec, parsed.denormalizer_spec):
        check_charsmap(spec.precompiled_charsmap)
    trainer, normalizer = parsed.trainer_spec, parsed.normalizer_spec
    model_type = _type_of(parsed)
    if model_type not in MODEL_TYPES:
        raise ValueError(
            f"A model of type {model_type!r} cannot run in the graph. "
            f"Allowed: {', '.join(MODEL_TYPES)}."
        )
    ids = {
        "padding": (trainer.pad_id, PADDING_ID),
        "unknown": (trainer.unk_id, UNKNOWN_ID),
        "start": (trainer.bos_id, START_ID),
        "end": (trainer.eos_id, END_ID),
    }
    for name, (found, expected) in ids.items():
        if found != expected:
            raise ValueError(f"The {name} id of a model must be {expected}. Received: {found}")
    # Settings under which the in-graph tokenizer and sentencepiece's own encoder disagree.
    for name, found, expected in (
        ("treat_whitespace_as_suffix", trainer.treat_whitespace_as_suffix, False),
        ("add_dummy_prefix", normalizer.add_dummy_prefix, True),
    ):
        if found != expected:
            raise ValueError(f"A model with {name}={found} cannot run in the graph.")
    return parsed


def _type_of(parsed: Any) -> str:
    trainer = parsed.trainer_spec
    return trainer.ModelType.Name(trainer.model_type).lower()


def _check_training_arguments(
    model_type: str, normalization: str, character_coverage: float
) -> None:
    if model_type not in MODEL_TYPES:
        raise ValueError(
            f"`model_type` must be one of {', '.join(MODEL_TYPES)} (others do not run in the "
            f"graph). Received: {model_type!r}"
        )
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"`normalization` must be one of {', '.join(NORMALIZATIONS)}. "
            f"Received: {normalization!r}"
        )
    if not 0.98 <= character_coverage <= 1.0:
        raise ValueError(
            f"`character_coverage` must be from 0.98 to 1. Received: {character_coverage}"
        )


def _training_sentences(texts: Iterable[str]) -> list[bytes]:
    """Collects what to train on, as `tokenize` will see it."""
    kept, count = _evenly_spaced(texts)
    with tf.device("CPU:0"):
        cleaned = _clean(tf.constant(kept, tf.string)).numpy()
    sentences = [part.strip() for text in cleaned for part in _parts(text)]
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise ValueError(
            f"There is no text to train a vocabulary on. Received: {count} texts, all empty"
        )
    return sentences


def _parts(text: bytes) -> Iterator[bytes]:
    """A text cut between words, or where it has none between characters, into parts to train on."""
    start = 0
    while len(text) - start > _LONGEST_PART:
        end = text.rfind(b" ", start + 1, start + _LONGEST_PART)
        if end < 0:
            end = start + _LONGEST_PART
            while text[end] & 0xC0 == 0x80:  # within a character of UTF-8
                end -= 1
        yield text[start:end]
        start = end
    yield text[start:]


def _evenly_spaced(texts: Iterable[str]) -> tuple[list[str], int]:
    """Texts as far apart as need be for no more to be in memory than are used; how many came."""
    kept: list[str] = []
    step, count = 1, 0
    for text in texts_of("texts", texts):
        if count % step == 0:
            kept.append(text)
        if len(kept) > MAX_TRAINING_TEXTS:
            kept, step = kept[::2], 2 * step
        count += 1
    return kept, count


def _training_error(error: RuntimeError, vocabulary_size: int, count: int) -> ValueError:
    """Says in our words what sentencepiece reports."""
    message = str(error)
    if largest := re.search(r"too high .*value <= (\d+)", message):
        return _too_large(vocabulary_size, int(largest[1]), count)
    if smallest := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return ValueError(
            f"`vocabulary_size` must be at least {smallest[1]}, the number of characters in the "
            f"{count} texts and of special ids, or `character_coverage` less than 1. "
            f"Received: {vocabulary_size}"
        )
    return ValueError(f"sentencepiece cannot train on these {count} texts: {message}")


def _too_large(vocabulary_size: int, largest: int, count: int) -> ValueError:
    return ValueError(
        f"`vocabulary_size` must be at most {largest}, for the {count} texts hold no more "
        f"subwords. Received: {vocabulary_size}"
    )
