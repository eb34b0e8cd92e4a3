"""What surrounds the search, by hand: ids from text, and text from hypotheses."""

import numpy as np
import pytest
import tensorflow as tf

from keras_luong.ids import END_ID, START_ID, UNKNOWN_ID
from keras_luong.models.seq2seq import ScoredTarget
from keras_luong.search import SearchResult
from keras_luong.serving.formats import TextFormat
from keras_luong.serving.signatures import write_best
from keras_luong.serving.text_graph import (
    _shortened,
    read_source,
    read_target,
    source_ids,
    write_n_best,
    write_scores,
)
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
    source, truncated = read_source(letters, tf.constant(["a", "cab b", "", "ax"]), 9)
    assert source.dtype == tf.int32
    assert truncated.numpy().tolist() == [False] * 4
    assert source.numpy().tolist() == [
        [space, a, END_ID, 0, 0, 0, 0],
        [space, c, a, b, space, b, END_ID],
        [END_ID, 0, 0, 0, 0, 0, 0],
        [space, a, UNKNOWN_ID, END_ID, 0, 0, 0],
    ]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 99])
def test_long_source_is_cut_and_still_ends_with_the_end(letters, length):
    whole = ids_of(letters, "▁abc")
    source, truncated = read_source(letters, tf.constant(["abc", ""]), length)
    assert source.numpy().tolist()[0] == [*whole[:length], END_ID]
    assert truncated.dtype == tf.bool
    assert truncated.numpy().tolist() == [length < len(whole), False]


def test_rows_of_nothing_hold_the_end_alone(letters):
    source, truncated = read_source(letters, tf.constant(["", "  "]), 5)
    assert source.numpy().tolist() == [[END_ID]] * 2
    assert truncated.numpy().tolist() == [False] * 2


def test_what_no_text_of_so_many_subwords_has_is_not_read(letters):
    space, a, _, c = ids_of(letters, "▁abc")
    limit = 64 * 3
    spaces = " " * (limit - 1)
    texts = ["a" + spaces, "a" + spaces + "c", "a" + spaces[1:] + "c", b"\x80" * 9999, "ä" * 9999]
    source, truncated = read_source(letters, tf.constant(texts), 3)
    assert source.numpy().tolist()[:3] == [
        [space, a, END_ID, 0],
        [space, a, END_ID, 0],
        [space, a, space, END_ID],
    ]
    assert truncated.numpy().tolist() == [False, True, True, True, True]
    for row, ids in enumerate(source_ids(letters, tf.constant(texts), 3).to_list()):
        assert ids == [one for one in source.numpy()[row].tolist() if one]


@pytest.mark.parametrize("character", ["x", "ä", "犬", "🙂"])  # one byte, two, three and four
def test_as_many_characters_are_read_whatever_their_bytes(letters, character):
    limit = 64 * 3
    texts = [character * limit, character * (limit + 1), "a" * (limit - 1) + character * 2]
    read, cut = (one.numpy() for one in _shortened(tf.constant(texts), 3))
    assert [one.decode() for one in read] == [text[:limit] for text in texts]
    assert cut.tolist() == [False, True, True]
    # A run of unknown characters is one subword: what follows it is read up to the limit.
    space, a = ids_of(letters, "▁a")
    texts = [character * (limit - 1) + "a", character * limit + "a"]
    source, truncated = (one.numpy().tolist() for one in read_source(letters, texts, 3))
    assert source == [[space, UNKNOWN_ID, a, END_ID], [space, UNKNOWN_ID, END_ID, 0]]
    assert truncated == [False, True]


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
        "log_prob": [-2.0, -3.0, 0.0, -5.0],
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


def form_of(source_tokenizer, target_tokenizer=None):
    return TextFormat(source_tokenizer, target_tokenizer or source_tokenizer, 9, 9)


def plain(outputs):
    values = {name: output.numpy().tolist() for name, output in outputs.items()}
    for name in ("source_tokens", "target_tokens"):
        values[name] = [[token.decode() for token in row] for row in values[name]]
    return values


def test_the_best_hypotheses_become_text(letters):
    source, result = hypotheses(letters)
    outputs = write_best(form_of(letters), source, result)
    assert plain(outputs) == expected_outputs(result)
    dtypes = {name: output.dtype.name for name, output in outputs.items()}
    assert dtypes == {
        "translation": "string",
        "score": "float32",
        "log_prob": "float32",
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
        return write_best(form_of(letters), source, result)

    assert plain(write(source, result)) == expected_outputs(result)


def test_as_long_as_the_longest_translation_of_the_batch(letters):
    source, result = hypotheses(letters)
    rows = [0, 2, 3]  # without the one that runs out of steps; the noise does not count
    result = SearchResult(*(field[rows] for field in result))
    outputs = write_best(form_of(letters), tf.gather(source, rows), result)
    assert outputs["target_tokens"].shape == (3, 3)
    assert outputs["attention_scores"].shape == (3, 3, SOURCE)


def test_a_batch_without_text_has_no_steps(letters):
    source, result = hypotheses(letters)
    result = SearchResult(*(field[2:3] for field in result))
    outputs = write_best(form_of(letters), source[2:3], result)
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
    outputs = write_best(form_of(letters), source, result)
    assert outputs["score"].dtype == outputs["attention_scores"].dtype == tf.float32
    assert outputs["score"].numpy().tolist() == [-1.0, -2.0, 0.0, -4.0]


def test_each_side_is_named_by_its_own_tokenizer(letters):
    others = SubwordTokenizer.train(["z y", "z x", "zy z", "xz z"], 8, model_type="char")
    source, result = hypotheses(letters)
    outputs = plain(write_best(form_of(letters, others), source, result))
    names = dict(zip(ids_of(letters, "▁abc"), "▁abc", strict=True))
    there = {id: others.pieces([id]).numpy()[0].decode() for id in names}
    assert set(there.values()) == set("▁xyz")
    expected = [there[id] for id in ids_of(letters, "▁bcab")]
    assert outputs["target_tokens"][1] == expected
    assert outputs["translation"][1].decode() == "".join(expected[1:])
    assert outputs["source_tokens"][1] == ["▁", "b", "c", "</s>"]


# Several hypotheses


def test_all_hypotheses_become_text_and_empty_slots_nothing(letters):
    source, result = hypotheses(letters)
    lengths, scores = result.lengths.copy(), result.scores.copy()
    lengths[0, 1], scores[0, 1] = 0, -np.inf  # an empty slot
    lengths[1, 1] = 2
    result = result._replace(lengths=lengths, scores=scores, log_probs=scores - 1.0)
    outputs = {
        name: output.numpy()
        for name, output in write_n_best(letters, letters, source, result).items()
    }
    assert outputs["translation"].tolist() == [
        [b"a", b""],
        [b"bcab", b"cc"],
        [b"", b""],  # of a source without text
        [b"", b"ccccc"],
    ]
    assert outputs["score"].tolist() == [[-1.0, 0.0], [-2.0, -9.0], [0.0, 0.0], [-4.0, -9.0]]
    assert outputs["log_prob"].tolist() == [[-2.0, 0.0], [-3.0, -10.0], [0.0, 0.0], [-5.0, -10.0]]
    assert outputs["target_length"].tolist() == [[3, 0], [5, 2], [0, 0], [1, 5]]
    assert outputs["target_tokens"].shape == (4, 2, STEPS)
    assert outputs["target_tokens"][1, 1].tolist() == [b"c", b"c", b"", b"", b""]
    assert not any(outputs["target_tokens"][0, 1].tolist())
    for (row, place), length in np.ndenumerate(outputs["target_length"]):
        scores = outputs["attention_scores"][row, place]
        expected = result.attention_scores[row, place, :length]
        np.testing.assert_array_equal(scores[:length], expected)
        assert not scores[length:].any()
    assert outputs["source_length"].tolist() == [3, 4, 1, 2]
    assert outputs["source_tokens"].shape == (4, SOURCE)


def test_the_first_of_them_is_the_best(letters):
    source, result = hypotheses(letters)
    several = write_n_best(letters, letters, source, result)
    best = write_best(form_of(letters), source, result)
    for name, output in best.items():
        first = several[name] if name.startswith("source") else several[name][:, 0]
        assert first.numpy().tolist() == output.numpy().tolist(), name


# Given targets


def test_target_ids_begin_with_the_start_and_end_with_the_end(letters):
    space, a, b, c = ids_of(letters, "▁abc")
    target_in, target_out, truncated = read_target(letters, tf.constant(["a", "cab", "", "bx"]), 9)
    assert truncated.numpy().tolist() == [False] * 4
    assert target_in.dtype == target_out.dtype == tf.int32
    assert target_out.numpy().tolist() == [
        [space, a, END_ID, 0, 0],
        [space, c, a, b, END_ID],
        [END_ID, 0, 0, 0, 0],
        [space, b, UNKNOWN_ID, END_ID, 0],
    ]
    assert target_in.numpy().tolist() == [
        [START_ID, space, a, 0, 0],
        [START_ID, space, c, a, b],
        [START_ID, 0, 0, 0, 0],
        [START_ID, space, b, UNKNOWN_ID, 0],
    ]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_a_long_target_is_cut_where_a_search_would_stop(letters, length):
    cut = [*ids_of(letters, "▁abc"), END_ID][: length + 1]
    target_in, target_out, truncated = read_target(letters, tf.constant(["abc"]), length)
    assert truncated.numpy().tolist() == [END_ID not in cut]
    assert target_out.numpy().tolist() == [cut]
    assert target_in.numpy().tolist() == [[START_ID, *cut[:-1]]]


def scored_targets(letters):
    """Targets of three sources, the second of which has no text, and what a model said of them."""
    space, a, b, _ = ids_of(letters, "▁abc")
    source = np.array([[space, a, END_ID], [END_ID, 0, 0], [b, END_ID, 0]], "int32")
    target = np.array([[a, END_ID, 0], [space, b, END_ID], [END_ID, 0, 0]], "int32")
    token_log_probs = -np.arange(1.0, 10.0, dtype="float32").reshape(3, 3) * (target != 0)
    attention_scores = np.arange(1.0, 28.0, dtype="float32").reshape(3, 3, 3)
    scored = ScoredTarget(token_log_probs.sum(axis=1), token_log_probs, attention_scores)
    return source, target, scored


def test_scores_are_those_of_the_tokens_that_there_are(letters):
    source, target, scored = scored_targets(letters)
    outputs = plain(write_scores(letters, letters, tf.constant(source), target, scored))
    attention_scores = np.zeros((3, 2, 3), "float32")
    attention_scores[0] = scored.attention_scores[0, :2]
    attention_scores[2, 0] = scored.attention_scores[2, 0]
    assert outputs == {
        "log_prob": [-3.0, 0.0, -7.0],
        "token_log_probs": [[-1.0, -2.0], [0.0, 0.0], [-7.0, 0.0]],
        "attention_scores": attention_scores.tolist(),
        "source_tokens": [["▁", "a", "</s>"], ["</s>", "", ""], ["b", "</s>", ""]],
        "target_tokens": [["a", "</s>"], ["", ""], ["</s>", ""]],
        "source_length": [3, 1, 2],
        "target_length": [2, 0, 1],
    }


def test_scores_of_half_precision_are_served_as_float32(letters):
    source, target, scored = scored_targets(letters)
    scored = ScoredTarget(*(tf.cast(field, "bfloat16") for field in scored))
    outputs = write_scores(letters, letters, tf.constant(source), target, scored)
    for name in ("log_prob", "token_log_probs", "attention_scores"):
        assert outputs[name].dtype == tf.float32
    assert outputs["log_prob"].numpy().tolist() == [-3.0, 0.0, -7.0]
