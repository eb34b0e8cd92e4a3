"""`Translator`: a model with its tokenizers, from pairs of texts to a served model."""

import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_luong.folders import whole_folder
from keras_luong.ids import END_ID, START_ID
from keras_luong.models import Seq2Seq
from keras_luong.search import SearchResult
from keras_luong.serving.export import export_saved_model
from keras_luong.serving.text_graph import read_source, write_translations
from keras_luong.serving.translation import Translation
from keras_luong.text import SubwordTokenizer, TrainingBatches, encode_pairs, evaluation_batches
from keras_luong.training import (
    Alignment,
    AlignmentImages,
    MaskedCrossentropy,
    Position,
    TokenAccuracy,
    TrainingCheckpoint,
)

Tensor = Any
Pairs = Sequence[tuple[str, str]]
_LOGGER = logging.getLogger("keras_luong")
_MODEL, _SOURCE, _TARGET, _CONFIG = (
    "model.keras",
    "source.tokenizer",
    "target.tokenizer",
    "translator.json",
)


class Translator:
    """A `Seq2Seq` model with its tokenizers: text in, text out.

    Args:
        model: A `Seq2Seq`.
        source_tokenizer: `SubwordTokenizer` of what is read.
        target_tokenizer: `SubwordTokenizer` of what is written; may be the same one.
        max_length: Longest text in subwords, the end token not counted. Training leaves longer
            pairs out, longer source texts are cut, and a translation ends there.

    Raises:
        ValueError: If the model's vocabularies do not fit the tokenizers'.

    Example:

    >>> from keras_luong import SubwordTokenizer, luong_seq2seq
    >>> pairs = [("one two", "eins zwei"), ("two", "zwei")]
    >>> tokenizer = SubwordTokenizer.train([text for pair in pairs for text in pair], 14)
    >>> translator = Translator(luong_seq2seq(14, 14, units=8), tokenizer, tokenizer, max_length=9)
    >>> history = translator.fit(pairs, epochs=1, batch_size=2, verbose=0)
    >>> len(translator.translate(["two one", ""]))
    2
    """

    def __init__(
        self,
        model: Seq2Seq,
        source_tokenizer: SubwordTokenizer,
        target_tokenizer: SubwordTokenizer,
        *,
        max_length: int = 100,
    ) -> None:
        _check_fit(model, source_tokenizer, target_tokenizer, max_length)
        self.model = model
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.max_length = max_length

    def fit(
        self,
        train_pairs: Pairs,
        validation_data: Pairs | None = None,
        *,
        epochs: int = 10,
        batch_size: int = 64,
        buckets: int = 5,
        seed: int = 0,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        log_dir: str | os.PathLike[str] | None = None,
        alignment_texts: Sequence[str] = (),
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_freq: int | str = "epoch",
        verbose: Any = "auto",
    ) -> keras.callbacks.History:
        """Trains the model on pairs of texts.

        A model that is not compiled is compiled with Adam (1e-3, gradients clipped to a global norm
        of 1), `MaskedCrossentropy(label_smoothing=0.1)` and `TokenAccuracy`.

        Args:
            train_pairs: `(source text, target text)` pairs. Pairs with an empty side or more than
                `max_length` subwords on a side are left out, and a log line says how many.
            validation_data: Pairs to evaluate on after every epoch.
            epochs: Number of passes over the pairs, those before an interruption included.
            batch_size: Pairs in a batch.
            buckets: The most shapes of batches there may be; XLA compiles once for each.
            seed: Of the order of the pairs.
            callbacks: Further Keras callbacks.
            log_dir: Where TensorBoard logs go: losses, and alignments of `alignment_texts`.
            alignment_texts: Texts whose alignments are drawn after every epoch.
            checkpoint_dir: Where the training's state is kept. If it holds a checkpoint, training
                resumes from it, at the same batch. Ctrl-C saves one.
            checkpoint_freq: Batches between two checkpoints, or `"epoch"`.
            verbose: As in `keras.Model.fit`.

        Returns:
            What `keras.Model.fit` returns.

        Raises:
            ValueError: If no pair is left.
        """
        batches = TrainingBatches(self._encode(train_pairs), batch_size, buckets=buckets, seed=seed)
        validation = None
        if validation_data is not None:
            encoded = self._encode(validation_data)
            validation = evaluation_batches(encoded, batch_size, buckets=buckets)
        if not self.model.compiled:
            self.model.compile(
                keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
                loss=MaskedCrossentropy(label_smoothing=0.1),
                metrics=[TokenAccuracy()],
            )
        callbacks = [*callbacks, *self._logging_callbacks(log_dir, alignment_texts)]
        position = Position()
        if checkpoint_dir is not None:
            checkpoint = TrainingCheckpoint(
                checkpoint_dir, steps_per_epoch=batches.steps_per_epoch, save_freq=checkpoint_freq
            )
            position = checkpoint.restore(self.model)
            callbacks.append(checkpoint)
        return self.model.fit(
            batches.dataset(position.global_step),
            steps_per_epoch=batches.steps_per_epoch,
            initial_epoch=position.epoch,
            epochs=epochs,
            validation_data=validation,
            callbacks=callbacks,
            verbose=verbose,
            shuffle=False,
        )

    def translate(self, texts: Sequence[str], *, batch_size: int = 64) -> list[str]:
        """Translates texts, in their order.

        A text without a subword, such as `""`, gives `""`. A text of more than `max_length`
        subwords is cut there. No texts give no translations.

        Args:
            texts: Strings.
            batch_size: Texts that are translated together; it does not change the results.

        Returns:
            One string a text.
        """
        return [translation.text for translation in self.explain(texts, batch_size=batch_size)]

    def explain(self, texts: Sequence[str], *, batch_size: int = 64) -> list[Translation]:
        """Translates like `translate`, and says how: one `Translation` a text."""
        _check_texts(texts)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1. Received: {batch_size}")
        # Sorted by length, so that a batch holds little padding.
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        results: dict[int, Translation] = {}
        for start in range(0, len(texts), batch_size):
            indices = by_length[start : start + batch_size]
            batch = self._translate_batch([texts[index] for index in indices])
            results.update(zip(indices, batch, strict=True))
        return [results[index] for index in range(len(texts))]

    def align(self, texts: Sequence[str]) -> list[Alignment]:
        """Translates texts and returns their alignments, for `draw_alignment`."""
        return [
            Alignment(one.source_tokens, one.target_tokens, one.attention_scores)
            for one in self.explain(texts)
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the model (with its optimizer) and the tokenizers into a new folder.

        The states of random generators are not in it: a loaded model that is trained on draws other
        dropout masks. `fit(checkpoint_dir=...)` keeps them.

        Raises:
            FileExistsError: If `path` exists; nothing is overwritten.
        """
        with whole_folder(path) as folder:
            self.model.save(folder / _MODEL)
            self.source_tokenizer.save(folder / _SOURCE)
            self.target_tokenizer.save(folder / _TARGET)
            config = json.dumps({"max_length": self.max_length})
            (folder / _CONFIG).write_text(config, encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Translator":
        """Loads what `save` wrote.

        Raises:
            FileNotFoundError: If `path` is not such a folder.
        """
        path = Path(path)
        missing = [
            name for name in (_MODEL, _SOURCE, _TARGET, _CONFIG) if not (path / name).is_file()
        ]
        if missing:
            raise FileNotFoundError(f"{str(path)!r} is no saved translator: {missing} not found.")
        return cls(
            keras.saving.load_model(path / _MODEL),
            SubwordTokenizer.load(path / _SOURCE),
            SubwordTokenizer.load(path / _TARGET),
            **json.loads((path / _CONFIG).read_text(encoding="utf-8")),
        )

    def export(self, path: str | os.PathLike[str]) -> None:
        """Exports a SavedModel that TF Serving loads as it is: text in, text out.

        Its signature `serving_default` takes `text`, strings `(b,)`, and returns

        - `translation` `(b,)`, `score` `(b,)`;
        - `attention_scores` `(b, t, s)`;
        - `source_tokens` `(b, s)`, `target_tokens` `(b, t)`;
        - `source_length` `(b,)`, `target_length` `(b,)`, in subwords with the end token: what lies
          beyond them is padding.

        Args:
            path: A folder that does not exist yet, named by an integer, the version:
                `"saved_models/de_en/1"`.

        Raises:
            FileExistsError: If `path` exists; nothing is overwritten.
            RuntimeError: If the backend is not TensorFlow.
            ValueError: If `path` is not named by an integer, or the model cannot be served.
        """
        tokenizers = (self.source_tokenizer, self.target_tokenizer)

        def function(texts: Tensor) -> dict[str, Tensor]:
            source = read_source(self.source_tokenizer, texts, self._source_limit)
            result = self.model.run_search(source, "greedy", self.max_length + 1, START_ID, END_ID)
            return write_translations(*tokenizers, source, result)

        export_saved_model(path, self.model, function, list(tokenizers))

    @property
    def _source_limit(self) -> int:
        longest = self.model.max_source_length
        return self.max_length if longest is None else min(self.max_length, longest - 1)

    def _encode(self, pairs: Pairs) -> Any:
        encoded = encode_pairs(
            pairs, self.source_tokenizer, self.target_tokenizer, max_length=self._source_limit
        )
        if any(encoded.dropped.values()):
            _LOGGER.warning(
                "Of %d pairs %d are left out: %d with an empty side, %d of more than %d subwords.",
                len(pairs),
                sum(encoded.dropped.values()),
                encoded.dropped["empty"],
                encoded.dropped["too_long"],
                self._source_limit,
            )
        return encoded

    def _logging_callbacks(
        self, log_dir: Any, alignment_texts: Sequence[str]
    ) -> list[keras.callbacks.Callback]:
        if log_dir is None:
            return []
        board = keras.callbacks.TensorBoard(log_dir, write_graph=False)
        if not alignment_texts:
            return [board]
        return [board, AlignmentImages(log_dir, lambda: self.align(alignment_texts))]

    def _translate_batch(self, texts: list[str]) -> list[Translation]:
        source = read_source(self.source_tokenizer, tf.constant(texts), self._source_limit)
        result = self.model.generate(source.numpy(), "greedy", max_length=self.max_length + 1)
        fields = [keras.ops.convert_to_numpy(field) for field in result]
        outputs = write_translations(
            self.source_tokenizer, self.target_tokenizer, source, SearchResult(*fields)
        )
        return [_translation(row) for row in _rows(outputs)]


def _rows(outputs: dict[str, Tensor]) -> list[dict[str, Any]]:
    arrays = {name: output.numpy() for name, output in outputs.items()}
    return [
        {name: array[index] for name, array in arrays.items()}
        for index in range(len(arrays["score"]))
    ]


def _translation(row: dict[str, Any]) -> Translation:
    source, target = row["source_length"], row["target_length"]
    return Translation(
        row["translation"].decode(),
        float(row["score"]),
        [token.decode() for token in row["source_tokens"][:source]],
        [token.decode() for token in row["target_tokens"][:target]],
        row["attention_scores"][:target, :source],
    )


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str | bytes):
        raise TypeError(f"texts must be a list of strings. Received one: {texts!r}")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts must be strings. Received at {index}: {text!r}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"The text at {index} cannot be written as UTF-8: {error}") from error


def _check_fit(
    model: Any,
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    max_length: int,
) -> None:
    if not isinstance(model, Seq2Seq):
        raise ValueError(f"model must be a Seq2Seq. Received: {model!r}")
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1. Received: {max_length}")
    logits = model.output.shape[-1]
    if logits != target_tokenizer.vocabulary_size:
        raise ValueError(
            f"The model has logits for {logits} target ids, and the target tokenizer has "
            f"{target_tokenizer.vocabulary_size}."
        )
    for layer in getattr(model.encoder, "layers", ()):
        if isinstance(layer, keras.layers.Embedding) and (
            layer.input_dim < source_tokenizer.vocabulary_size
        ):
            raise ValueError(
                f"The encoder embeds {layer.input_dim} source ids, and the source tokenizer has "
                f"{source_tokenizer.vocabulary_size}."
            )
