"""What surrounds the search, by hand: ids from text, and text from hypotheses."""

import numpy as np
import pytest
import tensorflow as tf

from keras_luong.ids import END_ID, UNKNOWN_ID
from keras_luong.search import SearchResult
from keras_luong.serving.text_graph import read_source, write_translations
from keras_luong.text import SubwordTokenizer


@pytest.fixture(scope="module")
def letters():
    """One id a letter: `▁` and a, b, c."""
    return SubwordTokenizer.train(["a b", "a c", "ab a", "ca a"], 8, model_type="char")


def ids_of(tokenizer, text):
    pieces = [piece.decode() for piece in tokenizer.pieces(tf.range(8)).numpy()]
    return [pieces.index(letter) for letter in text]


def test_source_ids_end_with_the_end_and_are_padded(letters):
    space, a, b, c = ids_of(letters, "▁abc")
    source = read_source(letters, tf.constant(["a", "cab b", "", "ax"]), 9)
    assert source.dtype == tf.int32
    assert source.numpy().tolist() == [
        [space, a, END_ID, 0, 0, 0, 0],
        [space, c, a, b, space, b, END_ID],
        [END_ID, 0, 0, 0, 0, 0, 0],
        [space, a, UNKNOWN_ID, END_ID, 0, 0, 0],
    ]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 99])
def test_long_source_is_cut_and_still_ends_with_the_end(letters, length):
    whole = ids_of(letters, "▁abc")
    (row,) = read_source(letters, tf.constant(["abc"]), length).numpy().tolist()
    assert row == [*whole[:length], END_ID]


def test_rows_of_nothing_hold_the_end_alone(letters):
    assert read_source(letters, tf.constant(["", "  "]), 5).numpy().tolist() == [[END_ID]] * 2


STEPS, SOURCE = 5, 4


def hypotheses(letters):
    """Two hypotheses a sentence, the second of which nobody should see.

    The first row ends early, the second runs out of steps, the third is noise about a source
    without text, longer than all others; the fourth ends at once.
    """
    space, a, b, c = ids_of(letters, "▁abc")
    best = [
        [space, a, END_ID, END_ID, END_ID],
        [space, b, c, a, b],
        [space, c, c, c, END_ID],
        [END_ID, END_ID, END_ID, END_ID, END_ID],
    ]
    ids = np.stack([best, np.full((4, STEPS), c)], axis=1).astype("int32")
    lengths = np.array([[3, 5], [5, 5], [5, 5], [1, 5]], "int32")
    scores = np.array([[-1.0, -9.0], [-2.0, -9.0], [-3.0, -9.0], [-4.0, -9.0]], "float32")
    attention_scores = np.arange(1, 4 * 2 * STEPS * SOURCE + 1, dtype="float32")
    attention_scores = attention_scores.reshape(4, 2, STEPS, SOURCE) / attention_scores.size
    source = np.array(
        [[space, a, END_ID, 0], [space, b, c, END_ID], [END_ID, 0, 0, 0], [a, END_ID, 0, 0]],
        "int32",
    )
    return tf.constant(source), SearchResult(ids, lengths, scores, scores - 1.0, attention_scores)


def expected_outputs(result):
    attention_scores = np.zeros((4, STEPS, SOURCE), "float32")
    for row, length in enumerate([3, 5, 0, 1]):
        attention_scores[row, :length] = result.attention_scores[row, 0, :length]
    return {
        "translation": [b"a", b"bcab", b"", b""],
        "score": [-1.0, -2.0, 0.0, -4.0],
        "attention_scores": attention_scores.tolist(),
        "source_tokens": [
            ["▁", "a", "</s>", ""],
            ["▁", "b", "c", "</s>"],
            ["</s>", "", "", ""],
            ["a", "</s>", "", ""],
        ],
        "target_tokens": [
            ["▁", "a", "</s>", "", ""],
            ["▁", "b", "c", "a", "b"],
            [""] * 5,
            ["</s>", "", "", "", ""],
        ],
        "source_length": [3, 4, 1, 2],
        "target_length": [3, 5, 0, 1],
    }


def plain(outputs):
    values = {name: output.numpy().tolist() for name, output in outputs.items()}
    for name in ("source_tokens", "target_tokens"):
        values[name] = [[token.decode() for token in row] for row in values[name]]
    return values


def test_the_best_hypotheses_become_text(letters):
    source, result = hypotheses(letters)
    outputs = write_translations(letters, letters, source, result)
    assert plain(outputs) == expected_outputs(result)
    dtypes = {name: output.dtype.name for name, output in outputs.items()}
    assert dtypes == {
        "translation": "string",
        "score": "float32",
        "attention_scores": "float32",
        "source_tokens": "string",
        "target_tokens": "string",
        "source_length": "int32",
        "target_length": "int32",
    }


def test_in_a_graph_of_unknown_sizes_it_is_the_same(letters):
    source, result = hypotheses(letters)
    result = SearchResult(*map(tf.constant, result))

    def spec(tensor):
        return tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype)

    @tf.function(input_signature=[spec(source), SearchResult(*map(spec, result))])
    def write(source, result):
        return write_translations(letters, letters, source, result)

    assert plain(write(source, result)) == expected_outputs(result)


def test_as_long_as_the_longest_translation_of_the_batch(letters):
    source, result = hypotheses(letters)
    rows = [0, 2, 3]  # without the one that runs out of steps; the noise does not count
    result = SearchResult(*(field[rows] for field in result))
    outputs = write_translations(letters, letters, tf.gather(source, rows), result)
    assert outputs["target_tokens"].shape == (3, 3)
    assert outputs["attention_scores"].shape == (3, 3, SOURCE)


def test_a_batch_without_text_has_no_steps(letters):
    source, result = hypotheses(letters)
    result = SearchResult(*(field[2:3] for field in result))
    outputs = write_translations(letters, letters, source[2:3], result)
    assert outputs["translation"].numpy().tolist() == [b""]
    assert outputs["score"].numpy().tolist() == [0.0]
    assert outputs["target_tokens"].shape == (1, 0)
    assert outputs["attention_scores"].shape == (1, 0, SOURCE)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_scores_are_served_as_float32(letters, dtype):
    source, result = hypotheses(letters)
    result = result._replace(
        scores=tf.cast(result.scores, dtype),
        attention_scores=tf.cast(result.attention_scores, dtype),
    )
    outputs = write_translations(letters, letters, source, result)
    assert outputs["score"].dtype == outputs["attention_scores"].dtype == tf.float32
    assert outputs["score"].numpy().tolist() == [-1.0, -2.0, 0.0, -4.0]


def test_each_side_is_named_by_its_own_tokenizer(letters):
    others = SubwordTokenizer.train(["z y", "z x", "zy z", "xz z"], 8, model_type="char")
    source, result = hypotheses(letters)
    outputs = plain(write_translations(letters, others, source, result))
    names = dict(zip(ids_of(letters, "▁abc"), "▁abc", strict=True))
    there = {id: others.pieces([id]).numpy()[0].decode() for id in names}
    assert set(there.values()) == set("▁xyz")
    expected = [there[id] for id in ids_of(letters, "▁bcab")]
    assert outputs["target_tokens"][1] == expected
    assert outputs["translation"][1].decode() == "".join(expected[1:])
    assert outputs["source_tokens"][1] == ["▁", "b", "c", "</s>"]
