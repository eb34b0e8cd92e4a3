"""`Translator`: a model with its tokenizers, from pairs of texts to a served model."""

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

import keras
import numpy as np
import tensorflow as tf

from keras_luong.checked_numbers import count_of, integer_of, optional_count_of
from keras_luong.folders import whole_folder
from keras_luong.ids import PADDING_ID
from keras_luong.iterables import list_of_pairs, list_of_texts, rows_in_order
from keras_luong.models import ScoredTarget, Seq2Seq
from keras_luong.models.compiled import Argument, CompiledFunctions
from keras_luong.models.id_ranges import embedded_ids
from keras_luong.models.keras_files import load_keras_file
from keras_luong.paths import PathLike, local_copy, path_of
from keras_luong.search import SamplingSearch, Search, SearchResult, Shortlist, search_of
from keras_luong.serving.batching import by_length, check_verbose, with_progress
from keras_luong.serving.export import check_version_path, export_saved_model
from keras_luong.serving.formats import IdFormat, TextFormat
from keras_luong.serving.seq2seq_export import source_limit
from keras_luong.serving.signatures import Searcher, default_signature, signatures
from keras_luong.serving.target_texts import constraint_ids, prefix_ids
from keras_luong.serving.text_graph import (
    read_source,
    read_target,
    source_ids,
    write_n_best,
    write_scores,
)
from keras_luong.serving.training_logs import logging_callbacks
from keras_luong.serving.training_pairs import best_subwords, facts_of, training_subwords
from keras_luong.serving.translation import (
    ScoredTranslation,
    Translation,
    rows_of,
    scored_translation_of,
    translations_of,
)
from keras_luong.serving.unknown_words import UnknownWords
from keras_luong.stored_json import list_of, read_json, record, whole
from keras_luong.stored_parts import part_of
from keras_luong.text import (
    EncodedFiles,
    SubwordTokenizer,
    TrainingBatches,
    evaluation_batches,
)
from keras_luong.text.fingerprint import CHECKED_FACTS
from keras_luong.text.subword_tokenizer import check_tokenizers
from keras_luong.training import (
    Alignment,
    MaskedCrossentropy,
    Position,
    TokenAccuracy,
    TrainingCheckpoint,
)
from keras_luong.training.checkpoint_files import locked_checkpoints
from keras_luong.training.replicas import strategy_scope

Tensor = Any
Pair = tuple[str, str]
_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")
_BATCH_SIZE = 64
_LOGGER = logging.getLogger("keras_luong")
_MODEL, _SOURCE, _TARGET, _CONFIG = (
    "model.keras",
    "source.tokenizer",
    "target.tokenizer",
    "translator.json",
)
_CHECKED_CONFIG = record(
    {"max_length": whole(1, 2**31 - 1)}, {"training_data": list_of(CHECKED_FACTS)}
)

_NOT_LOADED = (
    "The translator was loaded with `compile=False`, without its loss and optimizer: load it with "
    "`compile=True`, or call `translator.model.compile` before `fit`."
)
_NOT_SAVED = (
    "The translator was trained before it was saved, and saved without its loss and optimizer: "
    "call `translator.model.compile` before `fit`."
)


def _locked(fit: Callable[_Given, _Returned]) -> Callable[_Given, _Returned]:
    """Keeps other processes out of the `checkpoint_dir` of `fit`, from its first line on."""

    @functools.wraps(fit)
    def locked(*args: _Given.args, **kwargs: _Given.kwargs) -> _Returned:
        directory: Any = kwargs.get("checkpoint_dir")
        with contextlib.ExitStack() as lock:
            if directory is not None:
                lock.enter_context(locked_checkpoints(path_of(directory)))
            return fit(*args, **kwargs)

    return locked


class Translator:
    """A `Seq2Seq` model with its tokenizers: text in, text out.

    Args:
        model: A `Seq2Seq`.
        source_tokenizer: `SubwordTokenizer` of what is read.
        target_tokenizer: `SubwordTokenizer` of what is written; may be the same one.
        max_length: Longest text in subwords, the end token not counted. Training leaves longer
            pairs out, longer source texts are cut, and a translation ends there.

    Attributes:
        training_data: Of each set of pairs that `fit` has trained on, how many there were and the
            SHA-256 of both sides, as `sha256sum` says them of two files with one sentence a line:
            `pairs`, `source_sha256`, `target_sha256`. `save` keeps them.

    Raises:
        TypeError: For what is no tokenizer.
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
        _check_fit(model, source_tokenizer, target_tokenizer)
        self.model = model
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.max_length = count_of("max_length", max_length)
        self.training_data: list[dict[str, Any]] = []
        self._functions = CompiledFunctions()
        self._lacks_training = ""

    @_locked
    def fit(
        self,
        train_pairs: Iterable[Pair] | EncodedFiles,
        validation_data: Iterable[Pair] | EncodedFiles | None = None,
        *,
        epochs: int = 10,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        buckets: int = 5,
        seed: int = 0,
        subword_sampling: float | None = None,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        log_dir: PathLike | None = None,
        alignment_texts: Iterable[str] = (),
        sample_pairs: Iterable[Pair] = (),
        checkpoint_dir: PathLike | None = None,
        checkpoint_freq: int | str = "epoch",
        checkpoint_keep: int = 1,
        check_hashes: bool = True,
        verbose: Any = "auto",
    ) -> keras.callbacks.History:
        """Trains the model on pairs of texts.

        A model that is not compiled is compiled with Adam (1e-3, gradients clipped to a global norm
        of 1), `MaskedCrossentropy(label_smoothing=0.1)` and `TokenAccuracy`.

        Args:
            train_pairs: `(source text, target text)` pairs: a list, another iterable, or an array
                of two columns. Pairs with an empty side or more than
                `max_length` subwords on a side are left out, and a log line says how many. Or what
                `keras_luong.text.encode_files` made of files larger than memory.
            validation_data: Pairs to evaluate on after every epoch.
            epochs: Number of passes over the pairs, those before an interruption included.
            batch_size: Pairs in a batch; 64 if there is no `batch_tokens` either.
            batch_tokens: Instead of `batch_size`: tokens of one side in a batch, as in
                `keras_luong.text.TrainingBatches`. Validation takes 64 pairs then.
            buckets: The most shapes of batches there may be. XLA, which Keras uses where there is a
                GPU or `compile(jit_compile=True)` says so, compiles each of them once.
            seed: Of the order of the pairs.
            subword_sampling: To split the texts into other subwords in every epoch: the `alpha` of
                `SubwordTokenizer.sample`, such as 0.2. Validation and translation go on with the
                best subwords. Not of `EncodedFiles`, whose subwords are fixed.
            callbacks: Further Keras callbacks.
            log_dir: Where TensorBoard logs go: losses and metrics, the learning rate, norms of the
                gradients, subwords a second (source and target), the settings with what they came
                to (the tab "HParams"), and what the two arguments below ask for.
            alignment_texts: Texts whose alignments are drawn after every epoch.
            sample_pairs: Pairs whose translations are shown after every epoch.
            checkpoint_dir: Where the training's state is kept. If it holds a checkpoint, training
                resumes from it, at the same batch, and so do `callbacks` (`TrainingCheckpoint` says
                which). A training that one of them ended is over. Ctrl-C and SIGTERM save one, and
                end the program. The pairs, the sizes of batches, `buckets`, `seed` and
                `subword_sampling` must be those that it was begun with; optimizer, loss and dropout
                may be others, and are heeded from there on.
            checkpoint_freq: Batches between two checkpoints, or `"epoch"`.
            checkpoint_keep: How many of the newest stay, for
                `keras_luong.training.average_checkpoints`.
            check_hashes: Whether a checkpoint to resume from is compared with its SHA-256 first, as
                in `TrainingCheckpoint`.
            verbose: As in `keras.Model.fit`.

        Returns:
            What `keras.Model.fit` returns.

        Raises:
            BlockingIOError: If another process trains in `checkpoint_dir`.
            ValueError: If no pair is left, for a model that is quantized or was loaded or saved
                without its loss and optimizer, for tokenizers that do not fit the model, for
                subwords that cannot be drawn, for `EncodedFiles` of other tokenizers or with
                sentences that are too long, and for a checkpoint of another training.
        """
        if self.model.is_quantized:
            raise ValueError(
                "A quantized model cannot be trained: its integers have no gradient. Train it "
                "before `quantize`, or load it as it was saved then."
            )
        if self._lacks_training and not self.model.compiled:
            raise ValueError(self._lacks_training)
        # Each of them may have been replaced since they were found to fit.
        _check_fit(self.model, self.source_tokenizer, self.target_tokenizer)
        for place in (log_dir, checkpoint_dir):
            if place is not None:
                path_of(place)  # raises before any work
        epochs = count_of("epochs", epochs, least=0)
        if batch_size is None and batch_tokens is None:
            batch_size = _BATCH_SIZE
        if not isinstance(train_pairs, EncodedFiles):
            train_pairs = list_of_pairs("train_pairs", train_pairs)
        alignment_texts = list_of_texts("alignment_texts", alignment_texts)
        sample_pairs = list_of_pairs("sample_pairs", sample_pairs)
        order: dict[str, Any] = {
            "batch_size": optional_count_of("batch_size", batch_size),
            "batch_tokens": optional_count_of("batch_tokens", batch_tokens),
            "buckets": count_of("buckets", buckets),
            "seed": integer_of("seed", seed),
        }
        settings = {**order, "subword_sampling": subword_sampling}
        encoded = training_subwords(train_pairs, *self._rules, subword_sampling)
        batches = TrainingBatches(encoded, **order)
        validation = None
        if validation_data is not None:
            validation = evaluation_batches(
                best_subwords(validation_data, *self._rules),
                batch_size or _BATCH_SIZE,
                buckets=buckets,
            )
        if not self.model.compiled:
            with strategy_scope(self.model):
                self.model.compile(
                    keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
                    loss=MaskedCrossentropy(label_smoothing=0.1),
                    metrics=[TokenAccuracy()],
                )
        callbacks = list(callbacks)
        if log_dir is not None:
            callbacks += logging_callbacks(
                log_dir,
                self.model,
                words_per_epoch=batches.words_per_epoch,
                settings={**settings, "epochs": epochs},
                align=self.align,
                alignment_texts=alignment_texts,
                translate=self.translate,
                sample_pairs=sample_pairs,
            )
        data = facts_of(train_pairs)
        position = Position()
        if checkpoint_dir is not None:
            checkpoint = TrainingCheckpoint(
                checkpoint_dir,
                steps_per_epoch=batches.steps_per_epoch,
                save_freq=checkpoint_freq,
                keep=checkpoint_keep,
                check_hashes=check_hashes,
                callbacks=callbacks,
                settings={**settings, **data},
            )
            position = checkpoint.restore(self.model)
            callbacks.append(checkpoint)
        if position.stopped:
            _LOGGER.warning(
                "A callback ended the training in %s after epoch %d: no batch is left to train on.",
                checkpoint_dir,
                position.epoch,
            )
        if data not in self.training_data:
            self.training_data.append(data)
        return self.model.fit(
            batches.dataset(position.global_step),
            steps_per_epoch=batches.steps_per_epoch,
            initial_epoch=position.epoch,
            epochs=position.epoch if position.stopped else epochs,
            validation_data=validation,
            callbacks=callbacks,
            verbose=verbose,
            shuffle=False,
        )

    def translate(
        self,
        texts: Iterable[str],
        search: str | Search = "greedy",
        *,
        batch_size: int = 64,
        prefixes: Iterable[str] | None = None,
        constraints: Iterable[Iterable[str]] | None = None,
        replace_unknown: bool | Mapping[str, str] = False,
        seed: int | Iterable[int] | None = None,
        shortlist: Shortlist | None = None,
        verbose: Any = "auto",
    ) -> list[str]:
        """Translates texts, in their order.

        A text without a subword, such as `""`, gives `""`. A text of more than `max_length`
        subwords is cut there. No texts give no translations. What a text gives depends on no other.

        Args:
            texts: Strings: a list, or any other iterable of them, such as a generator, a Series or
                an array, in whose order the translations come.
            search: `"greedy"`, `"beam"`, `"sampling"`, or a search such as `BeamSearch(5)`.
            batch_size: Texts that are translated together, which are of similar length; it does not
                change the results.
            prefixes: What each translation must begin with, `""` where nothing is asked for. A
                prefix is split into subwords like a whole text, so it should end where a word does:
                the model may continue its last word, but half a word has other subwords than the
                whole word that the model has learnt. Spaces at its ends say nothing.
            constraints: For a beam search: for each text a list of phrases that must appear in its
                translation. A phrase begins where a word does, and like a prefix it should end
                there.
            replace_unknown: `True` to write the source word that was looked at for each word that
                the target vocabulary cannot write; a dictionary for its entry of that word, if it
                has one. See `UnknownWords`.
            seed: For `"sampling"`: a number, to which the place of a text is added, or one a text.
                By default drawn anew, by NumPy, which `keras.utils.set_random_seed` seeds.
            shortlist: What `shortlist` learnt, to consider only the words that belong to those of a
                text.
            verbose: 1 for a progress bar, 0 for none, `"auto"` for one over more than 4 batches.

        Returns:
            One string a text.

        Raises:
            TypeError: For what is no list of strings.
            ValueError: For a `batch_size` below 1, lists of another length than `texts`, prefixes
                and phrases that are too long or have characters that the target vocabulary has not,
                and for what the search does not take or contradicts.

        Example:

        ```python
        translator.translate(texts, BeamSearch(5, length_penalty="gnmt"))
        translator.translate(["Ein Hund läuft."], "beam", prefixes=["A dog"])
        translator.translate(["Ein Hund läuft."], "beam", constraints=[["runs", "dog"]])
        translator.translate(texts, replace_unknown={"Zürich": "Zurich"})
        ```
        """
        explained = self.explain(
            texts,
            search,
            batch_size=batch_size,
            prefixes=prefixes,
            constraints=constraints,
            replace_unknown=replace_unknown,
            seed=seed,
            shortlist=shortlist,
            verbose=verbose,
        )
        return [translation.text for translation in explained]

    def explain(
        self, texts: Iterable[str], search: str | Search = "greedy", **options: Any
    ) -> list[Translation]:
        """Translates like `translate`, with its options, and says how: one `Translation` a text."""
        return [best for best, *_ in self.n_best(texts, search, **options)]

    def n_best(
        self,
        texts: Iterable[str],
        search: str | Search,
        *,
        batch_size: int = 64,
        prefixes: Iterable[str] | None = None,
        constraints: Iterable[Iterable[str]] | None = None,
        replace_unknown: bool | Mapping[str, str] = False,
        seed: int | Iterable[int] | None = None,
        shortlist: Shortlist | None = None,
        verbose: Any = "auto",
    ) -> list[list[Translation]]:
        """Translates like `translate`, with its options, into several translations of each text.

        Args:
            texts: Strings.
            search: One that returns several hypotheses, such as `BeamSearch(5, n_best=5)` or
                `SamplingSearch(num_samples=5)`.
            batch_size: As in `translate`.
            prefixes: As in `translate`.
            constraints: As in `translate`.
            replace_unknown: As in `translate`.
            seed: As in `translate`.
            shortlist: As in `translate`.
            verbose: As in `translate`.

        Returns:
            For each text its translations, best first: as many as the search found, at least one.
            Where it found none, that is `""` with the score minus infinity.

        Raises:
            TypeError: As `translate`.
            ValueError: As `translate`.
        """
        texts = list_of_texts("texts", texts)
        check_verbose(verbose)
        batch_size = count_of("batch_size", batch_size)
        search, count = search_of(search), len(texts)
        if not count:
            return []
        source = source_ids(
            self.source_tokenizer, tf.constant(texts, tf.string), self._source_limit
        )
        batches = by_length(source.row_lengths().numpy(), batch_size)
        asked = self._asked(search, count, prefixes, constraints, seed)
        finish = self._finish(replace_unknown)
        results: dict[int, list[Translation]] = {}
        for batch in with_progress(batches, verbose):
            ids = tf.gather(source, batch).to_tensor(PADDING_ID)
            given = {name: values[batch] for name, values in asked.items()}
            for index, found in zip(batch, self._found(ids, search, shortlist, given), strict=True):
                results[index] = [finish(texts[index], one) for one in found]
        return [results[index] for index in range(count)]

    def score(
        self,
        texts: Iterable[str],
        translations: Iterable[str],
        *,
        batch_size: int = 64,
        verbose: Any = "auto",
    ) -> list[ScoredTranslation]:
        """Says how probable the model finds given translations: forced decoding.

        A translation keeps what a search could have written of it, `max_length + 1` tokens with the
        end token; of a longer one that part is scored. To a text without a subword belongs nothing:
        the log-probability 0, of no tokens.

        Args:
            texts: Strings.
            translations: One for each text.
            batch_size: Texts that are scored together; it does not change the results.
            verbose: As in `translate`.

        Returns:
            One `ScoredTranslation` a text.

        Raises:
            TypeError: For what is no list of strings.
            ValueError: For a `batch_size` below 1, and lists of different lengths.
        """
        texts = list_of_texts("texts", texts)
        translations = list_of_texts("translations", translations)
        check_verbose(verbose)
        if len(texts) != len(translations):
            raise ValueError(
                f"There must be one translation a text. Received: {len(texts)} texts and "
                f"{len(translations)} translations"
            )
        if not len(texts):
            return []
        sources = tf.constant(texts, tf.string)
        targets = tf.constant(translations, tf.string)
        lengths = sum(
            tokenizer.tokenize(side).row_lengths().numpy()
            for tokenizer, side in (
                (self.source_tokenizer, sources),
                (self.target_tokenizer, targets),
            )
        )
        results: dict[int, ScoredTranslation] = {}
        for batch in with_progress(by_length(lengths, batch_size), verbose):
            outputs = self._scores(tf.gather(sources, batch), tf.gather(targets, batch))
            results.update(zip(batch, map(scored_translation_of, rows_of(outputs)), strict=True))
        return [results[index] for index in range(len(texts))]

    def shortlist(
        self,
        pairs: Iterable[Pair],
        *,
        per_word: int = 20,
        num_frequent: int = 500,
        size: int = 1024,
        batch_size: int = 64,
    ) -> Shortlist:
        """Learns which target words belong to a source word, by the model's attention.

        For `translate(texts, shortlist=...)`, which then computes the probabilities of the words
        that belong to those of a text alone: faster where the vocabulary is large.

        Args:
            pairs: `(source text, target text)`, those that the model was trained on.
            per_word: How many target subwords belong to a source subword, at most.
            num_frequent: How many of the most frequent target subwords belong to any text.
            size: The least number of subwords whose probabilities are computed, see `Shortlist`.
            batch_size: Pairs that are read together.

        Returns:
            A `Shortlist`.

        Raises:
            ValueError: If no pair is left, and for a model that cannot decode with a shortlist: one
                whose head is neither a `Dense` nor tied to the target embedding.
        """
        self.model.check_shortlist()
        batches = evaluation_batches(best_subwords(pairs, *self._rules), batch_size)

        def alignments() -> Iterator[tuple[Any, Any, Any]]:
            for (source, target_in), target_out in batches.as_numpy_iterator():
                scored = self._forced(source, target_in, target_out)
                scores = keras.ops.convert_to_numpy(scored.attention_scores)
                yield source, target_out, scores

        return Shortlist.learnt(
            alignments(),
            self.source_tokenizer.vocabulary_size,
            per_word=per_word,
            num_frequent=num_frequent,
            size=size,
        )

    def align(self, texts: Iterable[str]) -> list[Alignment]:
        """Translates texts and returns their alignments, for `draw_alignment`."""
        return [one.alignment for one in self.explain(texts)]

    def save(self, path: PathLike) -> None:
        """Saves the model (with its optimizer) and the tokenizers into a new folder.

        The folder may have a scheme, such as `gs://bucket/en_de`; `keras_luong.folders` says what
        is whole there.

        The states of random generators are not in it: a loaded model that is trained on draws other
        dropout masks. `fit(checkpoint_dir=...)` keeps them.

        Raises:
            FileExistsError: If `path` exists; nothing is overwritten.
            OSError: If the file system does not answer.
            ValueError: For a scheme that has no file system here.
        """
        with whole_folder(path, last=_CONFIG) as folder:
            self.model.save(folder / _MODEL)
            self.source_tokenizer.save(folder / _SOURCE)
            self.target_tokenizer.save(folder / _TARGET)
            config = {"max_length": self.max_length, "training_data": self.training_data}
            (folder / _CONFIG).write_text(json.dumps(config), encoding="utf-8")

    @classmethod
    def load(cls, path: PathLike, compile: bool = True) -> "Translator":
        """Loads what `save` wrote.

        Whoever only translates, evaluates or exports passes `compile=False`, and needs no class
        that only the training used, such as a learning rate schedule.

        Keras' safe mode is on: layers that bring code of their own, such as `Lambda`, raise, and
        nothing is unpickled. No file can take much more memory than it has bytes. What is trusted
        is the classes that this process knows: a model can name any that are registered.

        Args:
            path: The folder. It may have a scheme, such as `gs://bucket/en_de`.
            compile: Whether the optimizer and the loss are loaded. Without them `fit` raises an
                error, and `save` saves none, so that `fit` raises after another `load` too.

        Raises:
            FileNotFoundError: If `path` is not such a folder.
            ValueError: If a file in it is none that `save` wrote or a link that leads out of the
                folder, if a weight is NaN, or the model would run code. The message names the file.
        """
        folder = path_of(path)
        missing = [
            name for name in (_MODEL, _SOURCE, _TARGET, _CONFIG) if not (folder / name).is_file()
        ]
        if missing:
            raise FileNotFoundError(f"{str(folder)!r} is no saved translator: {missing} not found.")
        config = read_json(part_of(folder, _CONFIG), _CHECKED_CONFIG)
        tokenizers = [SubwordTokenizer.load(part_of(folder, name)) for name in (_SOURCE, _TARGET)]
        with local_copy(part_of(folder, _MODEL)) as file:
            model = load_keras_file(file, compile)
        try:
            translator = cls(model, *tokenizers, max_length=config["max_length"])
        except ValueError as error:
            raise ValueError(f"{str(folder)!r} is no saved translator: {error}") from error
        translator.training_data = config.get("training_data", [])
        if not compile:
            translator._lacks_training = _NOT_LOADED
        elif translator.training_data:
            translator._lacks_training = _NOT_SAVED
        return translator

    def export(
        self,
        path: PathLike,
        search: str | Search = "beam",
        *,
        n_best: int | None = None,
        sample: SamplingSearch | None = None,
        scores: Mapping[str, float] | None = None,
    ) -> None:
        """Exports a SavedModel that TF Serving loads as it is: text in, text out.

        The search, its width among its options, is fixed here. Its signatures, with b texts a
        request:

        - `serving_default` takes `text` `(b,)`, and returns the best translation:
          `translation`, `score`, `log_prob` and `target_length` `(b,)`, `target_tokens` `(b, t)`,
          `attention_scores` `(b, t, s)`, `source_tokens` `(b, s)` and `source_length` `(b,)`.
        - `light` takes `text` `(b,)`, and returns no more than `translation`, `score` and
          `log_prob` `(b,)`: small replies, and no memory for attention scores.
        - `n_best`, of a beam search, takes `text` and `alpha` `(b,)`, and returns the n best, best
          first: what `serving_default` does with an axis n after the batch, such as `translation`
          `(b, n)`. `alpha` is the exponent of the length penalty `"gnmt"`, in the place of whatever
          length penalty the search has; 0 is none. It is clipped to 0 to 10, and NaN counts as 0.
        - `score` takes `text` and `target_text` `(b,)`, and returns how probable the target text
          is: `log_prob` and `target_length` `(b,)`, `token_log_probs` and `target_tokens` `(b, t)`,
          `attention_scores` `(b, t, s)`, `source_tokens` `(b, s)` and `source_length` `(b,)`.
        - `sample`, if asked for, takes `text` and `seed` `(b,)`, int32, and returns what `n_best`
          does. What comes back depends on the text and its seed alone.
        - `ids` takes `source_ids` `(b, s)` and returns `target_ids`, for callers with a tokenizer
          of their own: see `export_seq2seq`.

        Each returns `truncated` `(b,)` too, boolean: whether the text was cut at `max_length`
        subwords; `score` also returns `target_truncated`. Lengths are in subwords with the end
        token: what lies beyond them is padding. A place of `n_best` or `sample` without a
        translation has length 0.

        Beside the model stand requests that TF Serving warms up with, and
        `assets.extra/model_card.json`: versions, sizes, signatures, the hashes of the texts that
        `fit` trained on, and scores.

        Args:
            path: A folder that does not exist yet, named by an integer, the version:
                `"saved_models/de_en/1"`.
            search: `"beam"`, `"greedy"`, or an object: a `BeamSearch` or a `GreedySearch`.
            n_best: How many translations `n_best` returns; by default those of the search, or the
                whole beam if that is one.
            sample: What `sample` draws, if there shall be such a signature.
            scores: What the model reached, for the card: `{"BLEU": 38.5}`.

        Raises:
            FileExistsError: If `path` exists; nothing is overwritten.
            RuntimeError: If the backend is not TensorFlow.
            ValueError: If `path` is not named by an integer, the search is none that can be
                exported, or the model cannot be served.
        """
        check_version_path(path)
        n_best = optional_count_of("n_best", n_best)
        tokenizers = self.source_tokenizer, self.target_tokenizer
        limits = self._source_limit, self.max_length
        source_size, target_size = (one.vocabulary_size for one in tokenizers)
        ids = IdFormat(source_size, target_size, *limits)
        searcher = Searcher(self.model, search_of(search), self.max_length)
        find = searcher.shared()
        named = signatures(searcher, find, TextFormat(*tokenizers, *limits), n_best, sample)
        named["ids"] = default_signature(find, ids)
        facts = {**ids.sizes, "search": repr(searcher.search), "training_data": self.training_data}
        export_saved_model(path, self.model, named, tokenizers, scores=scores, **facts)

    @property
    def _source_limit(self) -> int:
        return source_limit(self.model, self.max_length)

    @property
    def _rules(self) -> tuple[tuple[SubwordTokenizer, SubwordTokenizer], int]:
        """How texts become ids that the model can learn from: by which tokenizers, how many."""
        return (self.source_tokenizer, self.target_tokenizer), self._source_limit

    def _asked(
        self, search: Search, count: int, prefixes: Any, constraints: Any, seed: Any
    ) -> dict[str, np.ndarray]:
        """What a user asks of a search besides its options: arrays with one row a text."""
        tokenizer, limit = self.target_tokenizer, self.max_length
        if seed is None and "seed" in search.takes:
            seed = np.random.randint(2**31 - 1, size=count)
        asked = {
            "prefix": None if prefixes is None else prefix_ids(tokenizer, prefixes, count, limit),
            "constraints": None
            if constraints is None
            else constraint_ids(tokenizer, constraints, count, limit),
            "seed": None if seed is None else _seeds(seed, count),
        }
        return {name: values for name, values in asked.items() if values is not None}

    def _finish(
        self, replace_unknown: bool | Mapping[str, str]
    ) -> Callable[[str, Translation], Translation]:
        """What is done to every translation of a text in the end."""
        if replace_unknown is False:
            return lambda _, translation: translation
        dictionary = {} if replace_unknown is True else replace_unknown
        if not isinstance(dictionary, Mapping):
            raise TypeError(
                f"replace_unknown must be True, False or a dictionary. Received: {dictionary!r}"
            )
        return UnknownWords(self.source_tokenizer, self.target_tokenizer, dictionary)

    def _found(
        self,
        source: Tensor,
        search: Search,
        shortlist: Shortlist | None,
        given: dict[str, Any],
    ) -> list[list[Translation]]:
        """The translations of a batch of source ids."""
        result = self.model.generate(
            source.numpy(), search, max_length=self.max_length + 1, shortlist=shortlist, **given
        )
        fields = [keras.ops.convert_to_numpy(field) for field in result]
        outputs = write_n_best(
            self.source_tokenizer, self.target_tokenizer, source, SearchResult(*fields)
        )
        return [translations_of(row) for row in rows_of(outputs)]

    def _scores(self, texts: Tensor, translations: Tensor) -> dict[str, Tensor]:
        """The scores of a batch."""
        source, _ = read_source(self.source_tokenizer, texts, self._source_limit)
        *target, _ = read_target(self.target_tokenizer, translations, self.max_length)
        scored = self._forced(*(ids.numpy() for ids in (source, *target)))
        scored = type(scored)(*map(keras.ops.convert_to_numpy, scored))
        return write_scores(self.source_tokenizer, self.target_tokenizer, source, target[1], scored)

    def _forced(self, *ids: np.ndarray) -> ScoredTarget:
        """`Seq2Seq.score` of a batch, compiled."""
        everything = [Argument((None, None), "int32")] * 3
        score = self._functions.get("score", self.model, self.model.score, everything)
        return score(*map(keras.ops.convert_to_tensor, ids))


def _seeds(seed: int | Iterable[int], count: int) -> np.ndarray:
    """One seed a text."""
    seeds = np.asarray(rows_in_order(seed))
    if seeds.dtype.kind not in "iu" or seeds.shape not in ((), (count,)):
        raise ValueError(f"seed must be an integer, or {count}, one a text. Received: {seed!r}")
    return (seeds if seeds.ndim else seeds + np.arange(count)).astype("int32")


def _check_fit(
    model: Any,
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
) -> None:
    if not isinstance(model, Seq2Seq):
        raise ValueError(f"model must be a Seq2Seq. Received: {model!r}")
    check_tokenizers(source_tokenizer=source_tokenizer, target_tokenizer=target_tokenizer)
    logits = model.output.shape[-1]
    if logits != target_tokenizer.vocabulary_size:
        raise ValueError(
            f"The model has logits for {logits} target ids, and the target tokenizer has "
            f"{target_tokenizer.vocabulary_size}."
        )
    embedded = embedded_ids(model.encoder)
    if embedded is not None and embedded < source_tokenizer.vocabulary_size:
        raise ValueError(
            f"The encoder embeds {embedded} source ids, and the source tokenizer has "
            f"{source_tokenizer.vocabulary_size}."
        )
