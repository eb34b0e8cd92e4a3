"""Ids from outside and hypotheses as ids: by hand, and against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from keras_luong.ids import END_ID, START_ID, UNKNOWN_ID
from keras_luong.models import ScoredTarget
from keras_luong.search import SearchResult
from keras_luong.serving.formats import IdFormat
from keras_luong.serving.id_graph import read_ids, read_target_ids, scored_ids, trimmed
from keras_luong.serving.signatures import write_best

SIZE, LIMIT = 9, 4
IDS = IdFormat(SIZE, SIZE, LIMIT, LIMIT)


def read(rows, limit=LIMIT):
    ids = tf.constant(rows, tf.int32) if rows and rows[0] else tf.zeros((len(rows), 0), tf.int32)
    source, truncated = read_ids(ids, SIZE, limit)
    assert source.dtype == tf.int32 and truncated.dtype == tf.bool
    return source.numpy().tolist(), truncated.numpy().tolist()


def test_rows_end_with_the_end_and_are_padded():
    source, truncated = read([[5, 6, END_ID, 0], [7, END_ID, 0, 0], [5, 6, 7, END_ID]])
    assert source == [[5, 6, END_ID, 0], [7, END_ID, 0, 0], [5, 6, 7, END_ID]]
    assert truncated == [False] * 3


def test_a_row_without_an_end_is_given_one():
    assert read([[5, 6, 0], [7, 8, 5]]) == ([[5, 6, END_ID, 0], [7, 8, 5, END_ID]], [False] * 2)


def test_what_stands_behind_the_end_is_ignored():
    """TF Serving pads a request with its first id: here 5."""
    source, truncated = read([[5, 6, END_ID, 5, 5, 5, 5, 5], [7, 0, 7, 7, 7, 7, 7, 7]])
    assert source == [[5, 6, END_ID], [7, END_ID, 0]]
    assert truncated == [False] * 2


@pytest.mark.parametrize("width", [4, 5, 6, 30])
def test_a_long_row_is_cut_and_flagged(width):
    row = [5, 6, 7, 8, *[5] * 99][:width]
    assert read([row]) == ([[5, 6, 7, 8, END_ID]], [width > LIMIT])


def test_a_row_of_the_most_ids_is_not_cut():
    assert read([[5, 6, 7, 8, END_ID, 5, 5]]) == ([[5, 6, 7, 8, END_ID]], [False])


def test_ids_out_of_range_are_unknown():
    rows = [[-1, SIZE, SIZE - 1, 2**31 - 1], [-(2**31), 1, 2, END_ID]]
    source, _ = read(rows)
    assert source == [
        [UNKNOWN_ID, UNKNOWN_ID, SIZE - 1, UNKNOWN_ID, END_ID],
        [UNKNOWN_ID, 1, 2, END_ID, 0],
    ]


@pytest.mark.parametrize("rows", [[[]], [[], []], [[0]], [[END_ID, 5, 5]]])
def test_rows_of_nothing_hold_the_end_alone(rows):
    assert read(rows) == ([[END_ID]] * len(rows), [False] * len(rows))


def test_random_rows_against_a_loop():
    draw = np.random.default_rng(6)
    for _ in range(30):
        rows = draw.integers(-3, SIZE + 3, (5, draw.integers(1, 12))).tolist()
        kept, cut = [], []
        for row in rows:
            inside = []
            for one in row:
                if one in (0, END_ID):
                    break
                inside.append(one if 0 <= one < SIZE else UNKNOWN_ID)
            cut.append(len(inside) > LIMIT)
            kept.append([*inside[:LIMIT], END_ID])
        width = max(map(len, kept))
        assert read(rows) == ([row + [0] * (width - len(row)) for row in kept], cut)


def found(attention=True):
    """Two hypotheses a sentence; the second sentence has no text, the third an empty slot."""
    source = tf.constant([[5, END_ID, 0], [END_ID, 0, 0], [6, 7, END_ID]])
    ids = np.array([[[4, 3, 3, 3], [5, 5, 3, 3]], [[4, 4, 4, 4]] * 2, [[6, 7, 3, 3], [3] * 4]])
    lengths = np.array([[2, 3], [4, 4], [3, 0]])
    scores = np.array([[-1.0, -2.0], [-3.0, -4.0], [-5.0, -np.inf]], "float32")
    steps = np.full((3, 2, 4, 3), 0.25, "float32") if attention else None
    return source, SearchResult(
        tf.constant(ids, tf.int32), tf.constant(lengths, tf.int32), scores, scores * 2, steps
    )


def test_what_lies_beyond_the_ends_is_nothing():
    outputs = {name: output.numpy() for name, output in trimmed(*found()).items()}
    assert outputs["target_ids"].tolist() == [
        [[4, 3, 0], [5, 5, 3]],
        [[0, 0, 0], [0, 0, 0]],
        [[6, 7, 3], [0, 0, 0]],
    ]
    assert outputs["target_length"].tolist() == [[2, 3], [0, 0], [3, 0]]
    assert outputs["score"].tolist() == [[-1, -2], [0, 0], [-5, 0]]
    assert outputs["log_prob"].tolist() == [[-2, -4], [0, 0], [-10, 0]]
    sums = outputs["attention_scores"].sum(-1)
    assert sums.tolist() == [
        [[0.75, 0.75, 0], [0.75] * 3],
        [[0] * 3] * 2,
        [[0.75] * 3, [0] * 3],
    ]


def test_the_best_alone():
    outputs = write_best(IDS, *found())
    several = trimmed(*found())
    assert set(outputs) == set(several)
    for name, output in outputs.items():
        np.testing.assert_array_equal(output, several[name][:, 0])


def test_a_search_that_kept_no_attention():
    assert set(write_best(IDS, *found(attention=False))) == {
        *("target_ids", "target_length", "score", "log_prob")
    }


# Given targets


def read_target(rows, limit=LIMIT):
    parts = read_target_ids(tf.constant(rows, tf.int32), SIZE, limit)
    return tuple(part.numpy().tolist() for part in parts)


def test_target_ids_begin_with_the_start_and_end_with_the_end():
    target_in, target_out, truncated = read_target(
        [[5, 6, END_ID, 7, 7], [7, 0, 0, 0, 0], [0] * 5, [-4, 8, SIZE, 8, END_ID]]
    )
    assert target_in == [
        [START_ID, 5, 6, 0, 0],
        [START_ID, 7, 0, 0, 0],
        [START_ID, 0, 0, 0, 0],
        [START_ID, UNKNOWN_ID, 8, UNKNOWN_ID, 8],
    ]
    assert target_out == [
        [5, 6, END_ID, 0, 0],
        [7, END_ID, 0, 0, 0],
        [END_ID, 0, 0, 0, 0],
        [UNKNOWN_ID, 8, UNKNOWN_ID, 8, END_ID],
    ]
    assert truncated == [False] * 4


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_long_target_is_cut_as_a_search_would_have_to(length):
    target_in, target_out, truncated = read_target([[5, 6, 7, END_ID]], length)
    whole = [5, 6, 7, END_ID]
    assert target_out == [whole[: length + 1]] and truncated == [length < 3]
    assert target_in == [[START_ID, *whole[: len(target_out[0]) - 1]]]


def test_scores_of_given_targets_have_nothing_beyond_the_ends():
    source = tf.constant([[5, END_ID], [END_ID, 0], [6, END_ID]])
    target = tf.constant([[4, END_ID, 0, 0], [4, 4, 4, END_ID], [6, 7, END_ID, 0]])
    token_log_probs = -tf.ones((3, 4))
    scored = ScoredTarget(tf.constant([-2.0, -4.0, -3.0]), token_log_probs, tf.ones((3, 4, 2)))
    outputs = {
        name: one.numpy().tolist() for name, one in scored_ids(source, target, scored).items()
    }
    assert outputs == {
        "target_ids": [[4, END_ID, 0], [0, 0, 0], [6, 7, END_ID]],
        "target_length": [2, 0, 3],
        "log_prob": [-2, 0, -3],
        "token_log_probs": [[-1, -1, 0], [0, 0, 0], [-1, -1, -1]],
        "attention_scores": [[[1, 1], [1, 1], [0, 0]], [[0, 0]] * 3, [[1, 1]] * 3],
    }
