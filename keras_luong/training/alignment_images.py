"""Heatmaps of attention scores, with the words on the axes, for TensorBoard or a file.

Matplotlib and TensorFlow are imported where they are used: the losses and metrics beside this file
do without either.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from keras_luong.iterables import strings_of
from keras_luong.paths import PathLike, path_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

# Inches, but for the two that say otherwise. A cell is as high as a line of type and some air.
_CELL = 0.32
_GAP = 0.12
_BAR_WIDTH = 0.12
_BAR_LABELS = 0.3
_LONGEST_BAR = 2.0
_FONT_SIZE = 11  # points
_DPI = 100  # pixels an inch
_LONGEST_LABEL = 30  # letters

# Asked in this order for a letter that the ones before lack, as far as they are installed.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Last Resort High-Efficiency",
)


class Alignment(NamedTuple):
    """The attention of one sentence.

    Attributes:
        source_tokens: The `s` tokens that were read.
        target_tokens: The `t` tokens that were written.
        scores: Attention scores, `(t, s)`, between 0 and 1.
    """

    source_tokens: Sequence[str]
    target_tokens: Sequence[str]
    scores: Any


class AlignmentImages(keras.callbacks.Callback):
    """Shows in TensorBoard, after every epoch, where the model looks at each word it writes.

    The images stand under the tags `alignment_0`, `alignment_1`, ..., one for each sentence of the
    sample, with the epoch as step. TensorBoard's slider then shows the alignment grow. It shrinks
    pictures of long sentences until "Show actual image size" is ticked, which makes words readable.

    Args:
        log_dir: Directory of the TensorBoard logs; the images go to `alignments` in it.
        sample: Called after every epoch; returns one `Alignment` for each sentence to show. The
            callback knows no model, so the function closes over the model and the sentences.

    Example:

    >>> import os
    >>> import tempfile
    >>> def sample():
    ...     return [Alignment(["ein", "Hund"], ["a", "dog"], [[0.9, 0.1], [0.2, 0.8]])]
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as log_dir:
    ...     images = AlignmentImages(log_dir, sample)
    ...     history = model.fit(np.ones((2, 3)), np.ones((2, 1)), callbacks=[images], verbose=0)
    ...     print(os.listdir(log_dir))
    ['alignments']
    """

    def __init__(self, log_dir: PathLike, sample: Callable[[], Iterable[Alignment]]) -> None:
        super().__init__()
        self.log_dir = path_of(log_dir)
        self.sample = sample
        self._writer: Any = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes one image for each sentence of the sample."""
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir / "alignments"))
        with self._writer.as_default(step=epoch):
            for index, alignment in enumerate(self.sample()):
                tf.summary.image(f"alignment_{index}", _pixels(draw_alignment(alignment))[None])
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def draw_alignment(alignment: Alignment) -> "Figure":
    """Draws attention scores as a heatmap: source words above, target words at the left.

    White is 0 and dark is 1 in every picture. The figure grows with the sentence, so that the words
    stay readable. Control characters are shown as escapes, a token of blanks as `␣`, and labels
    longer than 30 letters are cut.

    Args:
        alignment: Tokens and scores of one sentence.

    Returns:
        A Matplotlib figure, ready for `savefig`. `pyplot` does not know it and need not close it.

    Raises:
        ValueError: If the scores are not one row for each target token with one column for each
            source token.

    Example:

    >>> import io
    >>> scores = [[0.9, 0.1], [0.2, 0.8]]
    >>> figure = draw_alignment(Alignment(["ein", "Hund"], ["a", "dog"], scores))
    >>> picture = io.BytesIO()
    >>> figure.savefig(picture)
    >>> picture.getvalue()[1:4]
    b'PNG'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = list(map(_label, strings_of("source_tokens", alignment.source_tokens)))
    rows = list(map(_label, strings_of("target_tokens", alignment.target_tokens)))
    scores = np.asarray(alignment.scores, dtype="float32")
    if scores.shape != (len(rows), len(columns)):
        raise ValueError(
            "`scores` must have the shape (target tokens, source tokens), "
            f"{(len(rows), len(columns))}. Received: scores.shape={scores.shape}"
        )
    figure = Figure(dpi=_DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = _lay_out(_lengths(columns, renderer), _lengths(rows, renderer))
    figure.set_size_inches(page.size)

    axes = figure.add_axes(page.heatmap)
    heatmap = axes.imshow(
        scores if scores.size else [[0.0]], cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto"
    )
    _write_words(axes, columns, rows, page.slanted)
    _draw_lines_between_cells(axes, len(columns), len(rows))

    bar = figure.colorbar(heatmap, cax=figure.add_axes(page.bar), ticks=[0, 1])
    bar.ax.tick_params(length=0, labelsize=_FONT_SIZE - 2)
    bar.outline.set_edgecolor("0.7")
    return figure


class _Page(NamedTuple):
    """Where things stand.

    Attributes:
        size: Width and height in inches.
        heatmap: Left, bottom, width and height as shares of the page.
        bar: The same for the colour scale.
        slanted: For every source word, whether it stands at 45 degrees.
    """

    size: tuple[float, float]
    heatmap: tuple[float, float, float, float]
    bar: tuple[float, float, float, float]
    slanted: list[bool]


def _lay_out(column_lengths: list[float], row_lengths: list[float]) -> _Page:
    """Measures a page from the lengths of the words above and at the left, in inches."""
    width, height = _CELL * max(len(column_lengths), 1), _CELL * max(len(row_lengths), 1)
    # Words stand at 45 degrees, and the last ones reach to the right; single letters stay upright.
    slanted = [length > 0.5 * _CELL for length in column_lengths]
    reach = [x / 2**0.5 * slants for x, slants in zip(column_lengths, slanted, strict=True)]
    overhang = max((x - (len(reach) - i - 0.5) * _CELL for i, x in enumerate(reach)), default=0.0)
    left = 2 * _GAP + max(row_lengths, default=0.0)
    top = 3 * _GAP + max(reach, default=0.0)
    right = 2 * _GAP + max(_BAR_WIDTH + _BAR_LABELS, overhang)
    page_width, page_height = left + width + right, top + height + _GAP

    def shares(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return (x / page_width, y / page_height, w / page_width, h / page_height)

    bar_height = min(height, _LONGEST_BAR)
    return _Page(
        size=(page_width, page_height),
        heatmap=shares(left, _GAP, width, height),
        bar=shares(left + width + _GAP, _GAP + height - bar_height, _BAR_WIDTH, bar_height),
        slanted=slanted,
    )


def _write_words(axes: "Axes", columns: list[str], rows: list[str], slanted: list[bool]) -> None:
    # Tokens are no formulas: a pair of dollar signs is just that.
    plain = {"fontproperties": _type(), "parse_math": False}
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), columns, **plain)
    for text, slants in zip(axes.get_xticklabels(), slanted, strict=True):
        if slants:
            text.set(rotation=45, rotation_mode="anchor", ha="left", va="center")
    axes.set_yticks(range(len(rows)), rows, **plain)
    axes.tick_params(length=0, pad=6)


def _draw_lines_between_cells(axes: "Axes", columns: int, rows: int) -> None:
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_color("0.7")


def _label(token: str) -> str:
    """The token on one line: blanks visible, no control characters, not too long."""
    if token.isspace() and token.isprintable():
        return "␣" * len(token)
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in token)
    return shown if len(shown) <= _LONGEST_LABEL else shown[: _LONGEST_LABEL - 1] + "…"


@functools.cache
def _type() -> "FontProperties":
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return font_manager.FontProperties(
        family=[name for name in _FONTS if name in installed], size=_FONT_SIZE
    )


def _lengths(labels: list[str], renderer: "RendererAgg") -> list[float]:
    """Lengths in inches of the labels as they will be printed."""
    sizes = [renderer.get_text_width_height_descent(x, _type(), ismath=False) for x in labels]
    return [width / _DPI for width, _, _ in sizes]


def _pixels(figure: "Figure") -> np.ndarray:
    """The drawn figure, `(height, width, 3)`, uint8."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]
