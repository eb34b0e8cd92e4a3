import hashlib
import json
import logging
import os
import signal
import uuid
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_luong import (
    BeamSearch,
    GreedySearch,
    MaskedCrossentropy,
    SamplingSearch,
    SubwordTokenizer,
    Translator,
    luong_seq2seq,
)
from keras_luong.ids import END_ID, UNKNOWN_ID
from keras_luong.text import encode_files, encode_pairs
from keras_luong.training import TextScores, TokenAccuracy
from tests.labelled import Labelled

PAIRS = [
    ("one", "eins"),
    ("two", "zwei"),
    ("one two", "eins zwei"),
    ("two one", "zwei eins"),
    ("one one two", "eins eins zwei"),
    ("two one two one", "zwei eins zwei eins"),
]
VOCABULARY = 17
MAX_LENGTH = 6
MIXED = [
    "two one two one",
    "one",
    "",
    "two two two",
    "犬",
    " ",
    "one two one two one two one",
    "two",
]


@pytest.fixture(scope="module")
def tokenizer():
    return SubwordTokenizer.train([text for pair in PAIRS for text in pair], VOCABULARY)


def make(tokenizer, seed=1, spread=1.0, max_length=MAX_LENGTH, **arguments):
    """A translator; with a spread, of weights so large that its translations differ."""
    keras.utils.set_random_seed(seed)
    arguments = {"units": 8, "cell": "gru"} | arguments
    model = luong_seq2seq(VOCABULARY, VOCABULARY, **arguments)
    for variable in model.trainable_variables:
        variable.assign(variable * spread)
    return Translator(model, tokenizer, tokenizer, max_length=max_length)


def eager(translator):
    """Compiled so that nothing is traced, which takes longer than a few steps."""
    translator.model.compile("adam", loss=MaskedCrossentropy(), run_eagerly=True)
    return translator


def values(variables):
    return [ops.convert_to_numpy(variable.value).copy() for variable in variables]


def assert_equal(some, others):
    for index, (here, there) in enumerate(zip(some, others, strict=True)):
        np.testing.assert_array_equal(here, there, err_msg=str(index))


@pytest.fixture(scope="module")
def fixed(tokenizer):
    """A translator that nobody trains."""
    return make(tokenizer, seed=7, spread=4.0)


def assert_same(some, others, tolerance):
    for one, other in zip(some, others, strict=True):
        assert (one.text, one.source_tokens) == (other.text, other.source_tokens)
        assert one.target_tokens == other.target_tokens
        np.testing.assert_allclose(one.score, other.score, rtol=0, atol=tolerance)
        np.testing.assert_allclose(one.log_prob, other.log_prob, rtol=0, atol=tolerance)
        np.testing.assert_allclose(
            one.attention_scores, other.attention_scores, rtol=0, atol=tolerance
        )


# Translating


def test_translations_come_in_the_order_of_the_texts(fixed):
    alone = [fixed.translate([text])[0] for text in MIXED]
    assert len(set(alone)) > 4
    assert fixed.translate(MIXED) == alone
    assert fixed.translate(MIXED[::-1]) == alone[::-1]
    assert fixed.translate(tuple(MIXED)) == alone


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 1000])
def test_the_size_of_a_batch_changes_nothing(fixed, batch_size):
    assert_same(fixed.explain(MIXED, batch_size=batch_size), fixed.explain(MIXED), 1e-4)
    assert fixed.translate(MIXED, batch_size=batch_size) == fixed.translate(MIXED)


def test_a_batch_of_no_rows_or_fewer_is_refused(fixed):
    for batch_size in (0, -1):
        with pytest.raises(ValueError, match=f"`batch_size` must be .* Received: {batch_size}"):
            fixed.translate(["one"], batch_size=batch_size)


def test_no_texts_give_no_translations(fixed):
    assert fixed.translate([]) == []
    assert fixed.explain([]) == []
    assert fixed.align([]) == []


def test_a_text_without_a_subword_gives_the_empty_translation(fixed):
    for one in fixed.explain(["", " ", "\t\n"]):
        assert (one.text, one.score) == ("", 0.0)
        assert (one.source_tokens, one.target_tokens) == (["</s>"], [])
        assert one.attention_scores.shape == (0, 1)
    assert fixed.translate(["", ""]) == ["", ""]


def test_what_is_explained(fixed):
    for text, one in zip(MIXED, fixed.explain(MIXED), strict=True):
        assert isinstance(one.text, str) and isinstance(one.score, float)
        assert one.source_tokens[-1] == "</s>"
        assert one.attention_scores.shape == (len(one.target_tokens), len(one.source_tokens))
        if text.strip():
            assert one.score < 0 and 1 <= len(one.target_tokens) <= MAX_LENGTH + 1
            np.testing.assert_allclose(one.attention_scores.sum(axis=1), 1.0, atol=1e-5)


def test_the_score_is_the_models_own_log_probability_of_the_translation(fixed, tokenizer):
    pieces = [piece.decode() for piece in tokenizer.pieces(tf.range(VOCABULARY)).numpy()]
    for one in fixed.explain(["one two", "two one two one"]):
        source, target = (
            [pieces.index(token) for token in tokens] for tokens in (one[2], one.target_tokens)
        )
        logits = fixed.model((np.array([source]), np.array([[2, *target[:-1]]])))
        log_probs = np.asarray(ops.log_softmax(ops.cast(logits, "float32")))[0]
        by_hand = log_probs[np.arange(len(target)), target].sum()
        np.testing.assert_allclose(one.score, by_hand, atol=1e-4)
        assert log_probs.argmax(axis=1).tolist() == target


def test_a_text_beyond_the_limit_is_cut(fixed):
    long, cut = " ".join(["one two"] * 20), " ".join(["one two"] * (MAX_LENGTH // 2))
    there, here = fixed.explain([long, cut])
    assert there.source_tokens == ["▁one", "▁two"] * (MAX_LENGTH // 2) + ["</s>"]
    assert_same([there], [here], 1e-4)


def test_a_location_score_cuts_at_its_longest_source(tokenizer):
    translator = make(tokenizer, spread=4.0, score_mode="location", max_source_length=4)
    long, cut = translator.explain(["one two one two one", "one two one"])
    assert long.source_tokens == ["▁one", "▁two", "▁one", "</s>"]
    assert_same([long], [cut], 1e-4)


def test_alignments_are_those_of_the_explanation(fixed):
    texts = ["two one two one", "one"]
    for alignment, one in zip(fixed.align(texts), fixed.explain(texts), strict=True):
        assert alignment.source_tokens == one.source_tokens
        assert alignment.target_tokens == one.target_tokens
        np.testing.assert_array_equal(alignment.scores, one.attention_scores)


def test_texts_may_be_any_iterable(fixed):
    plain = fixed.translate(MIXED)
    for make in (iter, Labelled, np.array, tf.constant):
        assert fixed.translate(make(MIXED)) == plain
    scored = fixed.score(iter(MIXED), Labelled(plain))
    assert [one.log_prob for one in scored] == [one.log_prob for one in fixed.score(MIXED, plain)]


@pytest.mark.parametrize("text", ["one two", b"one two"])
def test_a_single_text_is_refused(fixed, text):
    with pytest.raises(TypeError, match=f"must be a list of strings. Received one: {text!r}"):
        fixed.translate(text)


@pytest.mark.parametrize("wrong", [None, 3, b"two", ["two"], float("nan")])
def test_what_is_no_text_is_refused(fixed, wrong):
    with pytest.raises(TypeError, match="must be strings. Received at 1: "):
        fixed.translate(["one", wrong])


def test_text_that_has_no_utf8_is_refused(fixed):
    with pytest.raises(ValueError, match=r"at 1 .*UTF-8"):
        fixed.translate(["one", "tw\ud800o"])


# Searching


BEAM = BeamSearch(3, n_best=3, length_penalty="gnmt")


def test_a_search_is_an_object_or_its_name(fixed):
    assert fixed.translate(MIXED, "greedy") == fixed.translate(MIXED)
    assert fixed.translate(MIXED, GreedySearch()) == fixed.translate(MIXED)
    beam = fixed.translate(MIXED, "beam")
    assert beam == fixed.translate(MIXED, BeamSearch()) != fixed.translate(MIXED)
    assert_same(fixed.explain(MIXED, "beam"), fixed.explain(MIXED, BeamSearch()), 1e-6)
    for search in ("best", None, BeamSearch):
        with pytest.raises(ValueError, match="search must be one of"):
            fixed.translate(MIXED, search)


def test_the_n_best_are_the_hypotheses_of_the_model(fixed, tokenizer):
    """Each text alone, straight from `generate`."""
    for text, found in zip(MIXED, fixed.n_best(MIXED, BEAM), strict=True):
        ids = [*tokenizer.tokenize([text]).to_list()[0][:MAX_LENGTH], END_ID]
        if len(ids) == 1:
            assert [one.text for one in found] == [""]
            continue
        result = fixed.model.generate(np.array([ids]), BEAM, max_length=MAX_LENGTH + 1)
        assert len(found) == 3
        for place, one in enumerate(found):
            length = int(result.lengths[0, place])
            pieces = tokenizer.pieces(result.ids[0, place, :length]).numpy()
            assert one.target_tokens == [piece.decode() for piece in pieces]
            np.testing.assert_allclose(one.score, result.scores[0, place], atol=1e-4)
            np.testing.assert_allclose(one.log_prob, result.log_probs[0, place], atol=1e-4)
            np.testing.assert_allclose(
                one.attention_scores, result.attention_scores[0, place, :length], atol=1e-4
            )
        assert found[0].score > found[1].score > found[2].score
        assert found[0].score > found[0].log_prob


def test_the_best_is_the_first_of_the_n_best(fixed):
    several = fixed.n_best(MIXED, BEAM)
    assert_same(fixed.explain(MIXED, BEAM), [found[0] for found in several], 1e-5)
    assert fixed.translate(MIXED, BEAM) == [found[0].text for found in several]


def test_of_fewer_hypotheses_than_asked_for_there_are_fewer(tokenizer, fixed):
    translator = Translator(fixed.model, tokenizer, tokenizer, max_length=1)
    # Of two tokens at most, each one of two: "</s>", "x </s>" and "x x".
    banned = tuple(set(range(VOCABULARY)) - {END_ID, 9})
    for found in translator.n_best(["one", "two two"], BeamSearch(5, n_best=5, banned_ids=banned)):
        assert sorted(len(one.target_tokens) for one in found) == [1, 2, 2]
        assert np.isfinite([one.score for one in found]).all()


def test_where_nothing_can_be_generated_the_translation_is_empty(fixed):
    nothing = GreedySearch(banned_ids=tuple(range(VOCABULARY)))
    one, empty = fixed.explain(["one", ""], nothing)
    assert (one.text, one.target_tokens, one.score) == ("", [], -np.inf)
    assert (empty.text, empty.target_tokens, empty.score) == ("", [], 0.0)


@pytest.mark.parametrize("search, options", [
    (BEAM, {}),
    (BEAM, {"prefixes": ["eins", "", "zwei", "eins zwei", "zwei", "", "eins eins", ""]}),
    (BEAM, {"constraints": [["eins"], [], [], ["zwei", "eins eins"], [], [], ["zwei"], []]}),
    (SamplingSearch(num_samples=2, temperature=2.0), {"seed": [4, 5, 6, 7, 8, 9, 4, 4]}),
], ids=["beam", "prefixes", "constraints", "sampling"])  # fmt: skip
def test_what_a_text_gives_depends_on_no_other(fixed, search, options):
    together = fixed.n_best(MIXED, search, **options)
    for batch_size in (1, 3):
        apart = fixed.n_best(MIXED, search, batch_size=batch_size, **options)
        for some, others in zip(together, apart, strict=True):
            assert_same(some, others, 1e-4)
    order = [6, 0, 7, 3, 1, 2, 5, 4]
    shuffled = {name: [values[row] for row in order] for name, values in options.items()}
    again = fixed.n_best([MIXED[row] for row in order], search, **shuffled)
    for row, others in zip(order, again, strict=True):
        assert_same(together[row], others, 1e-4)


def test_batches_are_of_similar_length(fixed, monkeypatch):
    texts = ["one", "two one two one two one"] * 8
    shapes, generate = [], fixed.model.generate

    def noted(source, *arguments, **options):
        shapes.append(source.shape)
        return generate(source, *arguments, **options)

    monkeypatch.setattr(fixed.model, "generate", noted)
    assert fixed.translate(texts, batch_size=8) == fixed.translate(texts[:2]) * 8
    assert shapes[:2] == [(8, 7), (8, 2)]


def test_a_bar_over_many_batches_alone(fixed, capsys):
    for options, is_shown in (
        ({"batch_size": 1}, True),
        ({"batch_size": 2}, False),
        ({"batch_size": 1, "verbose": 0}, False),
        ({"verbose": 1}, True),
    ):
        fixed.translate(MIXED, **options)
        assert ("8/8" in capsys.readouterr().out) == is_shown
    with pytest.raises(ValueError, match="verbose must be"):
        fixed.translate(MIXED, verbose="loud")


# What is asked for beside a search


@pytest.mark.parametrize("search", ["greedy", "beam", "sampling"])
def test_translations_begin_with_their_prefix(fixed, search):
    seed = {"seed": 3} if search == "sampling" else {}
    prefixes = ["zwei eins", "", "eins", "zwei", "eins", "", "zwei zwei", "eins"]
    free = fixed.explain(MIXED, search, **seed)
    forced = fixed.explain(MIXED, search, prefixes=prefixes, **seed)
    for text, prefix, without, one in zip(MIXED, prefixes, free, forced, strict=True):
        if not prefix or not text.strip():
            assert_same([one], [without], 1e-4)
        else:
            words = ["▁" + word for word in prefix.split()]
            assert one.target_tokens[: len(words)] == words
            assert one.text.startswith(prefix)
    assert [one.text for one in free] != [one.text for one in forced]
    assert fixed.translate(MIXED, search, prefixes=[""] * 8, **seed) == [one.text for one in free]


def test_phrases_appear_where_they_are_asked_for(fixed):
    constraints = [["zwei eins"], ["eins"], [], ["zwei", "eins"], [], ["eins"], ["zwei zwei"], []]
    free, forced = fixed.explain(MIXED, "beam"), None
    forced = fixed.explain(MIXED, "beam", constraints=constraints)
    missing = 0
    for text, phrases, without, one in zip(MIXED, constraints, free, forced, strict=True):
        if not phrases or not text.strip():
            assert_same([one], [without], 1e-4)
            continue
        for phrase in phrases:
            found = "".join(one.target_tokens).replace("▁", " ")
            assert f" {phrase}" in found
            missing += f" {phrase}" not in "".join(without.target_tokens).replace("▁", " ")
    assert missing > 2  # without being asked for


@pytest.mark.parametrize("options, error, message", [
    ({"prefixes": "eins"}, TypeError, "`prefixes` must be a list"),
    ({"prefixes": ["eins"]}, ValueError, "`prefixes` must have one entry per text, 8 in all"),
    ({"prefixes": ["eins " * 7] + [""] * 7}, ValueError, "at most max_length=6 subwords"),
    ({"prefixes": ["犬"] + [""] * 7}, ValueError, "target vocabulary has"),
    ({"constraints": [["eins"]] * 8}, ValueError, "takes prefix. Received: constraints"),
    ({"seed": 3}, ValueError, "GreedySearch takes prefix. Received: seed"),
    ({"search": "sampling", "seed": 0.5}, ValueError, "must be an integer, or 8, .*0.5"),
    ({"search": "sampling", "seed": [1, 2]}, ValueError, "or 8, one a text. Received: .1, 2."),
    ({"search": "beam", "constraints": ["eins"] * 8}, TypeError, r"`constraints\[0\]` must be a"),
    ({"search": BeamSearch(2, banned_ids=tuple(range(4, VOCABULARY))), "prefixes": ["eins"] * 8},
     ValueError, "prefix and banned_ids contradict"),
    ({"search": BeamSearch(2, min_length=MAX_LENGTH + 2)}, ValueError, "min_length=8"),
    ({"replace_unknown": "zoë"}, TypeError, "must be True, False or a dictionary.*'zoë'"),
    ({"size": 3}, TypeError, "size"),
])  # fmt: skip
def test_what_cannot_be_asked_for(fixed, options, error, message):
    with pytest.raises(error, match=message):
        fixed.explain(MIXED, **options)


def test_samples_follow_their_seed(fixed):
    search = SamplingSearch(temperature=2.0)

    def drawn(**options):
        return [one.target_tokens for one in fixed.explain(MIXED, search, **options)]

    assert drawn(seed=1) == drawn(seed=1) != drawn(seed=2)
    # The place of a text is added to a number.
    for seeds in (list(range(1, 9)), iter(range(1, 9)), Labelled(range(1, 9))):
        assert drawn(seed=1) == drawn(seed=seeds)
    keras.utils.set_random_seed(4)
    first, second = drawn(), drawn()
    keras.utils.set_random_seed(4)
    assert first == drawn() and first != second


# Scoring


def test_scores_are_those_of_whole_forward_passes(fixed, tokenizer):
    targets = ["zwei eins zwei", "eins", "zwei", "", "eins zwei", "eins", "zwei eins", "eins"]
    for text, target, one in zip(MIXED, targets, fixed.score(MIXED, targets), strict=True):
        if not text.strip():
            assert (one.log_prob, one.target_tokens) == (0.0, [])
            assert one.attention_scores.shape == (0, 1)
            continue
        source = [*tokenizer.tokenize([text]).to_list()[0][:MAX_LENGTH], END_ID]
        ids = [*tokenizer.tokenize([target]).to_list()[0], END_ID]
        logits = fixed.model((np.array([source]), np.array([[2, *ids[:-1]]])))
        log_probs = np.asarray(ops.log_softmax(ops.cast(logits, "float32")))[0]
        by_hand = log_probs[np.arange(len(ids)), ids]
        np.testing.assert_allclose(one.token_log_probs, by_hand, atol=1e-4)
        np.testing.assert_allclose(one.log_prob, by_hand.sum(), atol=1e-4)
        assert one.target_tokens[-1] == "</s>" and len(one.target_tokens) == len(ids)
        assert one.attention_scores.shape == (len(ids), len(source))
        np.testing.assert_allclose(one.attention_scores.sum(axis=1), 1.0, atol=1e-5)


def test_what_a_search_finds_scores_what_the_search_said(fixed, tokenizer):
    """Wherever the text has the subwords that were found."""
    several = fixed.n_best(["two one", "one one two", "two"], BeamSearch(8, n_best=8))
    pairs = [(row, one) for row, found in enumerate(several) for one in found]
    texts = [["two one", "one one two", "two"][row] for row, _ in pairs]
    scored = fixed.score(texts, [one.text for _, one in pairs])
    same = [
        (one, score)
        for (_, one), score in zip(pairs, scored, strict=True)
        if one.target_tokens == score.target_tokens
    ]
    assert len(same) > 1
    for one, score in same:
        np.testing.assert_allclose(score.log_prob, one.log_prob, atol=1e-4)
        np.testing.assert_allclose(score.attention_scores, one.attention_scores, atol=1e-4)


def test_a_long_target_is_scored_up_to_where_a_search_stops(fixed):
    (one,) = fixed.score(["one"], ["eins " * 30])
    assert one.target_tokens == ["▁eins"] * (MAX_LENGTH + 1)
    (ended,) = fixed.score(["one"], ["eins " * MAX_LENGTH])
    assert ended.target_tokens == ["▁eins"] * MAX_LENGTH + ["</s>"]


def test_the_size_of_a_batch_changes_no_score(fixed):
    targets = ["zwei eins zwei", "eins", "zwei", "", "eins zwei", "eins", "zwei eins", "eins"]
    together = fixed.score(MIXED, targets)
    for some, others in zip(together, fixed.score(MIXED, targets, batch_size=3), strict=True):
        np.testing.assert_allclose(some.log_prob, others.log_prob, atol=1e-4)
        assert some.target_tokens == others.target_tokens
    assert len({round(one.log_prob, 3) for one in together}) > 5


def test_what_cannot_be_scored(fixed):
    assert fixed.score([], []) == []
    with pytest.raises(ValueError, match="Received: 2 texts and 1 translations"):
        fixed.score(["one", "two"], ["eins"])
    with pytest.raises(TypeError, match="`translations` must be strings. Received at 0: 3"):
        fixed.score(["one"], [3])
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
        fixed.score(["one"], ["eins"], batch_size=0)


# Unknown words


def test_unknown_words_are_written_as_the_source_has_them(fixed):
    banned = tuple(set(range(VOCABULARY)) - {UNKNOWN_ID, END_ID})
    search = GreedySearch(banned_ids=banned, min_length=2)
    texts = ["zoë one", "", "one"]
    plain = fixed.explain(texts, search)
    assert set(plain[0].target_tokens) <= {"<unk>", "</s>"} and "⁇" in plain[0].text
    for dictionary in ({}, {"zoë": "Zoe"}):
        options = {"replace_unknown": dictionary or True}
        replaced = fixed.explain(texts, search, **options)
        assert replaced[1].text == "" and replaced[2].text.startswith("one")
        words = {dictionary.get(word, word) for word in ("zoë", "one")}
        assert any(replaced[0].text.startswith(word) for word in words)
        assert_same([one._replace(text="") for one in plain],
                    [one._replace(text="") for one in replaced], 1e-5)  # fmt: skip
        assert fixed.translate(texts, search, **options) == [one.text for one in replaced]


def test_what_the_vocabulary_can_write_stays(fixed):
    kept = fixed.translate(MIXED, GreedySearch(banned_ids=(UNKNOWN_ID,)))
    assert fixed.translate(
        MIXED, GreedySearch(banned_ids=(UNKNOWN_ID,)), replace_unknown=True
    ) == kept  # fmt: skip


# Making


def test_a_model_and_tokenizers_that_do_not_fit(tokenizer):
    other = SubwordTokenizer.train([text for pair in PAIRS for text in pair], VOCABULARY - 1)
    model = luong_seq2seq(VOCABULARY, VOCABULARY, units=4)
    with pytest.raises(
        ValueError, match="logits for 17 target ids, and the target tokenizer has 16"
    ):
        Translator(model, tokenizer, other)
    with pytest.raises(ValueError, match="embeds 10 source ids, and the source tokenizer has 17"):
        Translator(luong_seq2seq(10, VOCABULARY, units=4), tokenizer, tokenizer)
    with pytest.raises(
        ValueError, match="`max_length` must be an integer of at least 1. Received: 0"
    ):
        Translator(model, tokenizer, tokenizer, max_length=0)
    with pytest.raises(ValueError, match="model must be a Seq2Seq. Received: <Sequential"):
        Translator(keras.Sequential(name="s"), tokenizer, tokenizer)
    for wrong in ("a", None, b"model"):
        with pytest.raises(TypeError, match="`source_tokenizer` must be a `SubwordTokenizer`, or"):
            Translator(model, wrong, tokenizer)
        with pytest.raises(TypeError, match="`target_tokenizer` .*, without vocabulary_size, "):
            encode_pairs(PAIRS, tokenizer, wrong)
    # Rows of the embedding that no text reaches do no harm.
    translator = Translator(model, other, tokenizer)
    assert translator.translate([""]) == [""]
    # What was replaced since then is looked at before it is trained.
    translator.target_tokenizer = other
    with pytest.raises(ValueError, match="logits for 17 target ids, .* tokenizer has 16"):
        translator.fit(PAIRS)
    translator.target_tokenizer = tokenizer
    translator.model = luong_seq2seq(10, VOCABULARY, units=4)
    with pytest.raises(ValueError, match="embeds 10 source ids, and the source tokenizer has 16"):
        translator.fit(PAIRS)


# Training


def events(folder):
    """`(step, tag, value)` of everything in the event files of a folder."""
    for path in sorted(Path(folder).glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                yield event.step, value.tag, value.tensor


@pytest.fixture(scope="module")
def trained(tokenizer, tmp_path_factory):
    """A translator after 10 epochs with everything switched on, its history and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    translator = make(tokenizer, units=16, dropout=0.1)
    optimizer = keras.optimizers.Adam(0.05, global_clipnorm=1.0)
    loss, metrics = MaskedCrossentropy(), [TokenAccuracy()]
    translator.model.compile(optimizer, loss=loss, metrics=metrics, jit_compile=False)
    history = translator.fit(
        PAIRS,
        validation_data=PAIRS[:4],
        epochs=10,
        batch_size=6,
        buckets=1,
        log_dir=folder / "logs",
        alignment_texts=["one two", "two"],
        checkpoint_dir=folder / "checkpoints",
        verbose=0,
    )
    return translator, history, folder


def test_training_learns_and_validates(trained):
    _, history, _ = trained
    assert history.epoch == list(range(10))
    assert set(history.history) == {
        *("loss", "token_accuracy", "val_loss", "val_token_accuracy"),
        *("words_per_second", "gradient_norm", "gradient_norm_max"),
    }
    for name in ("loss", "val_loss"):
        assert history.history[name][-1] < 0.8 * history.history[name][0]


def test_the_logs_hold_losses_and_alignments(trained):
    _, history, folder = trained
    for part, name in (("train", "loss"), ("validation", "val_loss")):
        logged = {
            step: float(tf.make_ndarray(value))
            for step, tag, value in events(folder / "logs" / part)
            if tag == "epoch_loss"
        }
        np.testing.assert_allclose(
            [logged[epoch] for epoch in range(10)], history.history[name], rtol=1e-6
        )
    images = [(step, tag, value) for step, tag, value in events(folder / "logs" / "alignments")]
    assert sorted((step, tag) for step, tag, _ in images) == [
        (epoch, f"alignment_{index}") for epoch in range(10) for index in (0, 1)
    ]
    for _, _, value in images[-2:]:
        width, height, png = value.string_val
        picture = tf.io.decode_png(png).numpy()
        assert picture.shape == (int(height), int(width), 3)
        assert len(np.unique(picture)) > 10


def test_a_finished_training_is_not_begun_again(trained, tokenizer):
    translator, _, folder = trained
    again = make(tokenizer, seed=99, units=16, dropout=0.1)
    optimizer = keras.optimizers.Adam(0.05, global_clipnorm=1.0)
    again.model.compile(optimizer, MaskedCrossentropy(), jit_compile=False)
    history = again.fit(
        PAIRS,
        epochs=10,
        batch_size=6,
        buckets=1,
        checkpoint_dir=folder / "checkpoints",
        verbose=0,
    )
    assert history.epoch == []
    assert_equal(values(again.model.variables), values(translator.model.variables))


class InterruptAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_training_goes_on_at_the_same_batch(tokenizer, tmp_path):
    arguments = {"epochs": 2, "batch_size": 2, "buckets": 1, "seed": 5, "verbose": 0}
    undisturbed = eager(make(tokenizer, dropout=0.3))
    undisturbed.fit(PAIRS, **arguments)
    stopped = eager(make(tokenizer, dropout=0.3))
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(PAIRS, **arguments, callbacks=[InterruptAt(2)], checkpoint_dir=tmp_path)
    (position,) = tmp_path.glob("*/position.json")
    assert json.loads(position.read_text())["step"] == 2
    resumed = eager(make(tokenizer, seed=99, dropout=0.3))
    history = resumed.fit(PAIRS, **arguments, checkpoint_dir=tmp_path)
    assert history.epoch == [0, 1]
    assert int(resumed.model.optimizer.iterations) == 6
    for here, there in (
        (resumed.model, undisturbed.model),
        (resumed.model.optimizer, undisturbed.model.optimizer),
    ):
        assert_equal(values(here.variables), values(there.variables))


def test_checkpoints_come_as_often_as_told(tokenizer, tmp_path):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append([path.name.split("-")[-1] for path in tmp_path.glob("check*")])

    eager(make(tokenizer)).fit(
        PAIRS,
        epochs=1,
        batch_size=2,
        buckets=1,
        callbacks=[Look()],
        checkpoint_dir=tmp_path,
        checkpoint_freq=2,
        checkpoint_keep=2,
        verbose=0,
    )
    assert seen == [[], [], ["2"]]
    assert sorted(path.name.split("-")[-1] for path in tmp_path.iterdir()) == ["2", "3"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 6}, "seed=5 and can only.* Received: seed=6"),
        ({"buckets": 2}, "buckets=1 and can only.* Received: buckets=2"),
        ({"train_pairs": PAIRS[::-1]}, "source_sha256=.*target_sha256="),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_and_stays(
    tokenizer, tmp_path, changed, message
):
    arguments = {"epochs": 1, "batch_size": 6, "buckets": 1, "seed": 5, "verbose": 0}
    arguments |= {"train_pairs": PAIRS, "checkpoint_dir": tmp_path}
    eager(make(tokenizer)).fit(**arguments)
    (before,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match=f"was written with .*{message}"):
        eager(make(tokenizer)).fit(**{**arguments, "epochs": 2, **changed})
    assert list(tmp_path.iterdir()) == [before]


@pytest.fixture
def files(tmp_path):
    """The pairs in two files."""
    paths = tmp_path / "train.en", tmp_path / "train.de"
    for path, side in zip(paths, zip(*PAIRS, strict=True), strict=True):
        path.write_text("".join(f"{text}\n" for text in side))
    return paths


@pytest.mark.parametrize("size", [{"batch_size": 2}, {"batch_tokens": 8}, {}])
def test_files_a_list_and_a_generator_train_the_same(tokenizer, files, tmp_path, size):
    encoded = encode_files(*files, tokenizer, tokenizer, tmp_path / "ids", max_length=MAX_LENGTH)
    trained = []
    for pairs, valid in ((PAIRS, PAIRS), (iter(PAIRS), iter(PAIRS)), (encoded, encoded)):
        translator = eager(make(tokenizer))
        history = translator.fit(pairs, valid, epochs=2, seed=3, verbose=0, **size).history
        trained.append((translator, history))
    for translator, history in trained:
        assert history == trained[0][1]
        assert_equal(values(translator.model.variables), values(trained[0][0].model.variables))
        (data,) = translator.training_data
        assert data == {
            "pairs": len(PAIRS),
            "source_sha256": hashlib.sha256(files[0].read_bytes()).hexdigest(),
            "target_sha256": hashlib.sha256(files[1].read_bytes()).hexdigest(),
        }


def test_encoded_files_that_do_not_fit_are_refused(tokenizer, files, tmp_path):
    encoded = encode_files(*files, tokenizer, tokenizer, tmp_path / "ids")
    translator = eager(make(tokenizer, max_length=3))
    with pytest.raises(ValueError, match="with max_length=3. Received: 4"):
        translator.fit(encoded)
    with pytest.raises(ValueError, match="with max_length=3. Received: 4"):
        translator.fit(PAIRS, encoded)
    with pytest.raises(ValueError, match="are fixed; .* Received: subword_sampling=0.5"):
        translator.fit(encoded, subword_sampling=0.5)
    with pytest.raises(ValueError, match="Either `batch_size` or `batch_tokens`"):
        translator.fit(PAIRS, batch_size=2, batch_tokens=8)
    other = SubwordTokenizer.train([text for pair in PAIRS for text in pair[:1]], 12)
    encoded = encode_files(*files, tokenizer, other, tmp_path / "others")
    with pytest.raises(ValueError, match="made by other tokenizers"):
        translator.fit(encoded)


def test_scores_of_the_validation_set_in_training(tokenizer, tmp_path):
    """What `TextScores` says is what `translate` gives with the weights of that epoch."""
    translator, seen = make(tokenizer, units=32), []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch % 10:
                return
            found = translator.translate([source for source, _ in PAIRS])
            right = [a == b for a, (_, b) in zip(found, PAIRS, strict=True)]
            seen.append(np.mean(right))

    translator.model.compile(keras.optimizers.Adam(0.03), MaskedCrossentropy(), jit_compile=False)
    scores = TextScores(translator.translate, PAIRS, ["exact_match"], every=10)
    history = translator.fit(
        PAIRS, epochs=60, batch_size=6, buckets=1, callbacks=[scores, Look()], verbose=0
    ).history
    assert history["val_exact_match"][::10] == seen
    assert seen[0] < 0.5 < seen[-1]


@pytest.fixture
def fit_of(monkeypatch):
    """Notes what a translator hands to `keras.Model.fit`, and trains nothing."""

    def patch(translator):
        calls = []
        monkeypatch.setattr(
            translator.model, "fit", lambda data, **arguments: calls.append((data, arguments))
        )
        return calls

    return patch


def test_the_order_of_the_pairs_depends_on_the_seed_alone(tokenizer, fit_of):
    translator = make(tokenizer)
    calls, orders = fit_of(translator), []
    for seed in (1, 1, 2):
        translator.fit(PAIRS, batch_size=2, buckets=1, seed=seed)
        orders.append([target.numpy().tolist() for _, target in calls[-1][0].take(6)])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:3] != orders[0][3:]  # the epochs differ


def test_subwords_are_drawn_anew_in_training_alone(fit_of):
    words = ["abc abcabc", "cab abc", "abcabc cab", "bca abc cab", "abc bca cabcab"]
    pairs = list(zip(words, words[::-1], strict=True))
    tokenizer = SubwordTokenizer.train(words, 13)
    translator = Translator(luong_seq2seq(13, 13, units=8), tokenizer, tokenizer, max_length=40)
    calls, plain = fit_of(translator), encode_pairs(pairs, tokenizer, tokenizer)
    best = {tuple(row) for row in plain.source.to_list()}
    rows = []
    for arguments in ({"subword_sampling": 0.1}, {"subword_sampling": 0.1}, {}):
        translator.fit(pairs, pairs, batch_size=2, buckets=1, seed=3, **arguments)
        (data, options), found = calls[-1], []
        for stream in (data.take(9), options["validation_data"]):
            batches = [source.numpy() for (source, _), _ in stream]
            found.append([tuple(np.trim_zeros(row)[:-1]) for one in batches for row in one])
        rows.append(found[0])
        assert set(found[1]) - {()} == best
    assert rows[0] == rows[1]
    assert set(rows[0]) - best - {()} and set(rows[2]) - {()} == best
    with pytest.raises(ValueError, match="above 0"):
        translator.fit(pairs, subword_sampling=0.0)


def test_a_model_that_is_not_compiled_gets_the_defaults(tokenizer, fit_of):
    translator = make(tokenizer)
    calls = fit_of(translator)
    translator.fit(PAIRS, epochs=4, batch_size=2, buckets=1)
    model = translator.model
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 1e-3, rtol=1e-6)
    assert model.optimizer.global_clipnorm == 1.0
    assert isinstance(model.loss, MaskedCrossentropy) and model.loss.label_smoothing == 0.1
    ((_, arguments),) = calls
    assert (arguments["steps_per_epoch"], arguments["epochs"]) == (3, 4)


def test_what_is_read_in_every_epoch_may_come_from_a_generator(tokenizer, tmp_path):
    plain, of_table = eager(make(tokenizer)), eager(make(tokenizer))
    options = {"epochs": 2, "batch_size": np.int64(3), "buckets": np.int32(1), "verbose": 0}
    plain.fit(PAIRS, PAIRS[:2], **options)
    of_table.fit(
        np.array(PAIRS),
        iter(PAIRS[:2]),
        seed=np.int64(0),
        log_dir=tmp_path,
        alignment_texts=(source for source, _ in PAIRS[:1]),
        sample_pairs=Labelled(PAIRS[:2]),
        **options,
    )
    assert_equal(values(of_table.model.weights), values(plain.model.weights))
    assert of_table.training_data == plain.training_data
    for name, tag in (("alignments", "alignment_0"), ("texts", "translations")):
        (file,) = (tmp_path / name).iterdir()
        events = tf.compat.v1.train.summary_iterator(str(file))
        tags = [value.tag for event in events for value in event.summary.value]
        assert len([one for one in tags if one.startswith(tag)]) == 2


def test_what_the_user_compiled_stays(tokenizer, fit_of):
    translator = eager(make(tokenizer))
    optimizer, loss = translator.model.optimizer, translator.model.loss
    fit_of(translator)
    translator.fit(PAIRS)
    assert translator.model.optimizer is optimizer and translator.model.loss is loss


def test_pairs_that_cannot_be_learnt_from_are_left_out_and_counted(tokenizer, caplog):
    useless = [("", "eins"), ("one", " "), ("", ""), ("one " * 7, "eins"), ("one", "eins " * 7)]
    with_and_without = []
    for pairs in (PAIRS[:3], useless[:3] + PAIRS[:3] + useless[3:]):
        translator = eager(make(tokenizer))
        with caplog.at_level(logging.INFO, "keras_luong"):
            translator.fit(pairs, epochs=1, batch_size=3, buckets=1, verbose=0)
        with_and_without.append(values(translator.model.trainable_variables))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("keras_luong", "WARNING")
    assert record.getMessage() == (
        "Of 8 pairs 5 are left out: 3 with an empty side, 2 of more than 6 subwords."
    )
    assert_equal(*with_and_without)


def test_pairs_of_the_validation_are_counted_too(tokenizer, caplog):
    translator = eager(make(tokenizer))
    translator.fit(PAIRS[:2], [("", ""), PAIRS[0]], epochs=1, batch_size=2, buckets=1, verbose=0)
    assert [record.getMessage() for record in caplog.records if record.name == "keras_luong"] == [
        "Of 2 pairs 1 are left out: 1 with an empty side, 0 of more than 6 subwords."
    ]


def test_a_location_score_leaves_out_what_it_cannot_read(tokenizer, caplog):
    translator = eager(make(tokenizer, score_mode="location", max_source_length=4))
    translator.fit(PAIRS, epochs=1, batch_size=2, buckets=1, verbose=0)
    assert "1 of more than 3 subwords" in caplog.text


@pytest.mark.parametrize("pairs", [[], [("", "eins")], [("one", "eins " * 99)]])
def test_nothing_to_learn_from(tokenizer, tmp_path, pairs):
    translator = eager(make(tokenizer))
    with pytest.raises(ValueError, match=f"No pair remains of {len(pairs)}"):
        translator.fit(pairs, checkpoint_dir=tmp_path / "c", log_dir=tmp_path / "l")
    with pytest.raises(ValueError, match=f"No pair remains of {len(pairs)}"):
        translator.fit(PAIRS, validation_data=pairs, checkpoint_dir=tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pair", [("one",), "one", ("one", None), ["one", "eins", "x"]])
def test_what_is_no_pair(tokenizer, pair):
    with pytest.raises(TypeError, match="must be a tuple of two str"):
        eager(make(tokenizer)).fit([PAIRS[0], pair])


# Saving


def test_a_saved_translator_comes_back_whole(trained, tmp_path):
    translator, _, _ = trained
    translator.save(tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    loaded = Translator.load(tmp_path / "saved")
    assert loaded.max_length == MAX_LENGTH
    assert_same(loaded.explain(MIXED), translator.explain(MIXED), 1e-6)
    assert_equal(values(loaded.model.weights), values(translator.model.weights))
    here, there = loaded.model.optimizer, translator.model.optimizer
    assert int(there.iterations) == 10
    assert_equal(values(here.variables), values(there.variables))
    assert isinstance(loaded.model.loss, MaskedCrossentropy)


def test_a_loaded_translator_trains_on_as_the_saved_one_would(tokenizer, tmp_path):
    translator = eager(make(tokenizer))
    translator.fit(PAIRS, epochs=1, batch_size=3, buckets=1, verbose=0)
    translator.save(tmp_path / "saved")
    loaded = Translator.load(tmp_path / "saved")
    for one in (translator, loaded):
        one.model.run_eagerly = True
        one.fit(PAIRS, epochs=1, batch_size=3, buckets=1, seed=4, verbose=0)
    assert_equal(values(loaded.model.weights), values(translator.model.weights))


def test_an_untrained_translator_with_two_tokenizers(tmp_path):
    source = SubwordTokenizer.train(["one two"], 10, model_type="char")
    target = SubwordTokenizer.train(["eins zwei"], 11, model_type="char")
    sizes = source.vocabulary_size, target.vocabulary_size
    translator = Translator(luong_seq2seq(*sizes, units=4), source, target, max_length=3)
    translator.save(str(tmp_path / "saved"))
    loaded = Translator.load(str(tmp_path / "saved"))
    assert (loaded.source_tokenizer.model, loaded.target_tokenizer.model) == (
        source.model,
        target.model,
    )
    assert_same(loaded.explain(["one"]), translator.explain(["one"]), 1e-6)


def test_numbers_of_numpy_are_kept_as_pythons_own(fixed, tokenizer, tmp_path):
    translator = Translator(fixed.model, tokenizer, tokenizer, max_length=np.int64(MAX_LENGTH))
    assert type(translator.max_length) is int
    assert translator.translate(MIXED, batch_size=np.int64(3)) == fixed.translate(MIXED)
    learnt = translator.shortlist(PAIRS, per_word=np.int64(3), size=np.int64(8))
    assert type(learnt.size) is int and learnt.aligned.shape == (VOCABULARY, 3)
    translator.save(tmp_path / "saved")
    assert Translator.load(tmp_path / "saved").max_length == MAX_LENGTH
    for wrong in (6.0, True, "6"):
        with pytest.raises(ValueError, match="`max_length` must be an integer of at least 1"):
            Translator(fixed.model, tokenizer, tokenizer, max_length=wrong)


def test_a_translator_comes_back_from_where_a_scheme_leads(fixed):
    path = f"ram://{uuid.uuid4().hex}/models/en_de"
    fixed.save(path)
    assert_same(Translator.load(path).explain(MIXED), fixed.explain(MIXED), 1e-6)
    with pytest.raises(FileExistsError, match="en_de' exists"):
        fixed.save(path)
    tf.io.gfile.remove(f"{path}/translator.json")
    with pytest.raises(FileNotFoundError, match=r"\['translator.json'\] not found"):
        Translator.load(path)


def test_a_path_that_cannot_be_raises_before_any_work(fixed, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    translator, epochs = eager(make(tokenizer)), []
    counting = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: epochs.append(1))
    for option in ("log_dir", "checkpoint_dir"):
        with pytest.raises(ValueError, match="no file system for nothing://"):
            translator.fit(PAIRS, callbacks=[counting], **{option: "nothing://b/x"})
    for use in (fixed.save, fixed.export, Translator.load):
        with pytest.raises(ValueError, match="no file system for nothing://"):
            use("nothing://b/1")
    assert not epochs and list(tmp_path.iterdir()) == []


def test_a_training_goes_on_where_a_scheme_leads(tokenizer):
    root = f"ram://{uuid.uuid4().hex}"
    options = {"batch_size": 3, "buckets": 1, "verbose": 0, "checkpoint_dir": f"{root}/c"}
    eager(make(tokenizer)).fit(PAIRS, epochs=1, log_dir=f"{root}/logs", **options)
    resumed, whole = eager(make(tokenizer, seed=5)), eager(make(tokenizer))
    history = resumed.fit(PAIRS, epochs=2, **options)
    assert history.epoch == [1]
    whole.fit(PAIRS, epochs=2, batch_size=3, buckets=1, verbose=0)
    assert_equal(values(resumed.model.weights), values(whole.model.weights))
    assert len(tf.io.gfile.listdir(f"{root}/c")) == 1  # the older one is swept
    assert set(tf.io.gfile.listdir(f"{root}/logs")) == {"train", "hyper_parameters"}


def test_to_translate_needs_nothing_of_the_training(fixed, tokenizer, tmp_path):
    @keras.saving.register_keras_serializable("of_the_user")
    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

        def get_config(self):
            return {}

    translator = make(tokenizer, seed=7, spread=4.0)
    translator.model.compile(keras.optimizers.SGD(Schedule()), loss=MaskedCrossentropy())
    translator.save(tmp_path / "saved")
    keras.saving.get_custom_objects().pop("of_the_user>Schedule")
    with pytest.raises((TypeError, ValueError), match="Schedule"):
        Translator.load(tmp_path / "saved")
    loaded = Translator.load(tmp_path / "saved", compile=False)
    assert loaded.translate(MIXED) == fixed.translate(MIXED)
    with pytest.raises(ValueError, match="loaded with `compile=False`, without its loss and opt"):
        loaded.fit(PAIRS)
    loaded.model.compile("sgd", loss=MaskedCrossentropy(), run_eagerly=True)
    assert loaded.fit(PAIRS, epochs=1, verbose=0).epoch == [0]


def test_a_trained_translator_that_was_saved_without_its_optimizer_says_so(tokenizer, tmp_path):
    trained = eager(make(tokenizer))
    trained.fit(PAIRS, epochs=1, verbose=0)
    trained.save(tmp_path / "trained")
    Translator.load(tmp_path / "trained", compile=False).save(tmp_path / "without")
    loaded = Translator.load(tmp_path / "without")
    with pytest.raises(ValueError, match="trained before .* saved without its loss and optimizer"):
        loaded.fit(PAIRS)
    assert eager(loaded).fit(PAIRS, epochs=1, verbose=0).epoch == [0]


def test_a_translator_that_was_never_trained_needs_no_optimizer_in_its_file(
    tokenizer, fit_of, tmp_path
):
    make(tokenizer).save(tmp_path / "new")
    loaded = Translator.load(tmp_path / "new")
    calls = fit_of(loaded)
    loaded.fit(PAIRS)
    assert len(calls) == 1


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_save_does_not_overwrite(fixed, tmp_path):
    fixed.save(tmp_path / "saved")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="saved' exists and is not overwritten"):
        fixed.save(tmp_path / "saved")
    assert len(before) == 4 and contents(tmp_path) == before


def test_a_failed_save_leaves_nothing(fixed, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(fixed.target_tokenizer, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        fixed.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_load_of_something_else(fixed, tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved translator: .*'model.keras'"):
        Translator.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("text")
    with pytest.raises(FileNotFoundError, match="file' is no saved translator"):
        Translator.load(tmp_path / "file")
    fixed.save(tmp_path / "saved")
    (tmp_path / "saved" / "target.tokenizer").unlink()
    with pytest.raises(FileNotFoundError, match=r"\['target.tokenizer'\] not found"):
        Translator.load(tmp_path / "saved")
    (tmp_path / "saved" / "target.tokenizer").write_bytes(b"no tokenizer")
    with pytest.raises(ValueError, match="target.tokenizer': Not a SentencePiece model"):
        Translator.load(tmp_path / "saved")


def test_a_shortlist_is_learnt_from_attention_and_heeded(fixed, tokenizer):
    size = {"per_word": 3, "num_frequent": 2, "size": 4}
    learnt = fixed.shortlist(PAIRS, batch_size=4, **size)
    scored = fixed.score(*zip(*PAIRS, strict=True))
    ids = {piece: index for index, piece in enumerate(pieces(tokenizer))}
    counts = np.zeros((VOCABULARY, VOCABULARY))
    for one in scored:
        for t, target in enumerate(one.target_tokens):
            for s, source in enumerate(one.source_tokens):
                weight = one.attention_scores[t, s]
                counts[ids[source], ids[target]] += weight if weight > 0.01 else 0.0
    for source, of_source in enumerate(counts):
        found = learnt.aligned[source][learnt.aligned[source] >= 0]
        assert len(found) == min(3, np.count_nonzero(of_source))
        np.testing.assert_allclose(of_source[found], np.sort(of_source)[::-1][: len(found)], 1e-4)
    texts = [source for source, _ in PAIRS]
    found = fixed.explain(texts, "beam", shortlist=learnt)
    for one in found:
        own = {*learnt.frequent, END_ID, *learnt.aligned[[ids[s] for s in one.source_tokens]].flat}
        assert {ids[token] for token in one.target_tokens} <= own
    whole = fixed.shortlist(PAIRS, per_word=VOCABULARY, num_frequent=0)
    whole.frequent = np.arange(VOCABULARY)
    assert fixed.translate(MIXED, "beam", shortlist=whole) == fixed.translate(MIXED, "beam")


def pieces(tokenizer):
    everything = tf.range(VOCABULARY)[None]
    return [piece.decode() for piece in tokenizer.pieces(everything).numpy()[0]]
