"""Translations in TensorBoard, to be read."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_luong.iterables import list_of_pairs, list_of_texts
from keras_luong.paths import PathLike, path_of


class SampleTexts(keras.callbacks.Callback):
    """Shows in TensorBoard, after every epoch, what a model makes of a few texts.

    A table of source, reference and translation stands under the tag `translations`, with the epoch
    as step: TensorBoard's tab "Text".

    Args:
        log_dir: Directory of the TensorBoard logs; the texts go to `texts` in it.
        translate: Function from a list of texts to their translations, such as
            `translator.translate`.
        pairs: Tuples of source text and reference.

    Example:

    >>> import os
    >>> import tempfile
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as log_dir:
    ...     texts = SampleTexts(log_dir, lambda texts: ["a cat"], [("ein Hund", "a dog")])
    ...     history = model.fit(np.ones((2, 3)), np.ones((2, 1)), callbacks=[texts], verbose=0)
    ...     print(os.listdir(log_dir))
    ['texts']
    """

    def __init__(
        self,
        log_dir: PathLike,
        translate: Callable[[list[str]], Iterable[str]],
        pairs: Iterable[tuple[str, str]],
    ) -> None:
        super().__init__()
        self.log_dir = path_of(log_dir)
        self.translate = translate
        self.pairs = list_of_pairs("pairs", pairs)
        self._writer: Any = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the table."""
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir / "texts"))
        translations = self.translate([source for source, _ in self.pairs])
        translations = list_of_texts("translations", translations)
        rows = [(*pair, text) for pair, text in zip(self.pairs, translations, strict=True)]
        with self._writer.as_default(step=epoch):
            tf.summary.text("translations", table(("source", "reference", "translation"), rows))
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown. What Markdown or HTML would read as theirs stands as it is.

    Example:

    >>> print(table(["one", "two"], [["a|b", "<i>"]]))
    | one | two |
    |---|---|
    | a&#124;b | &lt;i&gt; |
    """
    lines = [heads, *([_as_it_is(text) for text in row] for row in rows)]
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(heads) + "|", *body])


def _as_it_is(text: str) -> str:
    """Text with the characters that mean something in Markdown and HTML as their numbers."""
    entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    entities |= {mark: f"&#{ord(mark)};" for mark in "|*_`[]\\~#"}
    return " ".join("".join(entities.get(letter, letter) for letter in text).split())
