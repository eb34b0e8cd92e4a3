import warnings

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tensorflow as tf
from matplotlib import pyplot

from keras_luong.training import Alignment, AlignmentImages, draw_alignment

HUND = Alignment(
    ["▁Ein", "▁Hund", "▁läuft", "."],
    ["▁A", "▁dog", "▁runs"],
    np.array([[0.9, 0.1, 0, 0], [0, 1, 0, 0], [0, 0.25, 0.5, 0.25]]),
)


def words(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def boxes(figure):
    """The words' rectangles on the page, in pixels."""
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    texts = [*axes.xaxis.get_ticklabels(), *axes.yaxis.get_ticklabels()]
    return [text.get_window_extent(renderer) for text in texts if text.get_text()]


def events(directory):
    (path,) = directory.iterdir()
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            yield event.step, value.tag, list(value.tensor.string_val)


def test_words_and_scores_stand_where_they_belong():
    figure = draw_alignment(HUND)
    axes, bar = figure.axes
    assert words(axes.xaxis) == HUND.source_tokens
    assert words(axes.yaxis) == HUND.target_tokens
    assert axes.xaxis.get_ticks_position() == "top"
    (image,) = axes.get_images()
    np.testing.assert_allclose(image.get_array(), HUND.scores)
    assert image.get_clim() == (0, 1)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first target word is the top row
    np.testing.assert_allclose(bar.get_ylim(), (0, 1))


def test_dark_is_attended_to():
    figure = draw_alignment(HUND)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    axes = figure.axes[0]

    def colour(column, row):
        x, y = axes.transData.transform((column, row))
        return pixels[pixels.shape[0] - round(y), round(x)].sum()

    assert colour(1, 1) < colour(2, 2) < colour(1, 2) < colour(0, 1)


@pytest.mark.parametrize(("source", "target"), [(1, 1), (1, 40), (40, 1), (40, 40), (0, 3), (3, 0)])
def test_words_are_on_the_page_and_apart(source, target):
    columns = [f"▁internationalisation{i}" if i % 3 else "a" for i in range(source)]
    rows = [f"▁word{i}" for i in range(target)]
    figure = draw_alignment(Alignment(columns, rows, np.zeros((target, source))))
    page = figure.bbox
    all_boxes = boxes(figure)
    assert len(all_boxes) == source + target
    for box in all_boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert page.y0 <= box.y0 <= box.y1 <= page.y1
    for lower, upper in zip(all_boxes[source + 1 :], all_boxes[source:-1], strict=True):
        assert lower.y1 < upper.y0 + 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("$a_b$", "$a_b$"),  # no formula
        ("$", "$"),
        ("^_{", "^_{"),
        ("\n", r"\n"),
        ("\ud800", r"\ud800"),
        (" ", "␣"),
        ("", ""),
        ("x" * 31, "x" * 29 + "…"),
        ("日本語", "日本語"),
        ("مرحبا", "مرحبا"),
        ("नमस्ते", "नमस्ते"),
        ("🙂", "🙂"),
    ],
)
def test_any_token_can_be_drawn(token, shown):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # up to the fonts installed
        figure = draw_alignment(Alignment([token], [token], [[1.0]]))
        figure.canvas.draw()
    assert words(figure.axes[0].xaxis) == [shown]
    assert words(figure.axes[0].yaxis) == [shown]


def test_an_image_a_sentence_and_epoch_is_in_the_event_file(tmp_path):
    other = Alignment(["a"], ["b", "c"], [[1.0], [1.0]])
    calls = []

    def sample():
        calls.append(1)
        return [HUND, other]

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    images = AlignmentImages(tmp_path, sample)
    for first, epochs in ((0, 2), (2, 3)):  # a second `fit` goes on
        x, y = np.ones((2, 3)), np.ones((2, 1))
        model.fit(x, y, initial_epoch=first, epochs=epochs, callbacks=[images], verbose=0)
        if first == 0:
            found = list(events(tmp_path / "alignments"))
    assert len(calls) == 3
    assert len(list((tmp_path / "alignments").iterdir())) == 2

    assert [entry[:2] for entry in found] == [
        (0, "alignment_0"),
        (0, "alignment_1"),
        (1, "alignment_0"),
        (1, "alignment_1"),
    ]
    for (_, _, (width, height, png)), alignment in zip(found, [HUND, other] * 2, strict=True):
        size = draw_alignment(alignment).canvas.get_width_height()
        assert (int(width), int(height)) == size
        assert tf.io.decode_png(png).shape == (*size[::-1], 3)


def test_no_figure_is_left_in_pyplot():
    draw_alignment(HUND)
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("shape", [(4, 3), (3, 5), (3,), (1, 3, 4)])
def test_scores_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"\(target tokens, source tokens\), \(3, 4\)"):
        draw_alignment(HUND._replace(scores=np.zeros(shape)))
