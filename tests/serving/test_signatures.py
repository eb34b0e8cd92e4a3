"""The signatures of an export, in TF Serving's own loader, against what `Translator` says."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_luong import BeamSearch, GreedySearch, SamplingSearch, SubwordTokenizer, Translator
from keras_luong.ids import END_ID
from keras_luong.serving import cpp_loader
from tests.serving.numbers import (
    DTYPES,
    MAX_LENGTH,
    PAIRS,
    RANKS,
    TEXTS,
    TOO_LONG,
    VOCABULARY,
    assert_row_says,
    assert_tokens_and_attention,
    tokenizer_of_numbers,
    trained_translator,
    untrained,
)

SEARCH = BeamSearch(4, n_best=3, length_penalty="gnmt", alpha=0.5)
SAMPLE = SamplingSearch(num_samples=2, temperature=2.0, top_k=12)
# "犬" has an unknown subword; the last target text is cut.
TARGETS = [
    "eins zwei drei vier",
    "eins",
    "",
    "犬 zwei",
    "vier eins",
    "",
    "eins zwei",
    "zwei eins",
    "zwei",
    "zwei",
    " ".join(["vier drei zwei eins"] * 3),
]
RANKS = {**RANKS, "token_log_probs": 2, "target_ids": 2}
# By signature what is returned; the first dimension of each is the batch.
OUTPUTS = {
    "serving_default": DTYPES,
    "n_best": DTYPES,
    "sample": DTYPES,
    "light": {name: DTYPES[name] for name in ("translation", "score", "log_prob", "truncated")},
    "score": {
        "token_log_probs": tf.float32,
        "target_truncated": tf.bool,
        **{name: DTYPES[name] for name in DTYPES if name not in ("translation", "score")},
    },
    "ids": {
        "target_ids": tf.int32,
        **{
            name: DTYPES[name]
            for name in DTYPES
            if name not in ("translation", "source_tokens", "source_length", "target_tokens")
        },
    },
}
# As wide as the longest of them; the last three hold what is no good id.
IDS = [
    *([5, 6, 7, 8, 3], [9, 3], [3], [4, 5, 6], [7, 3, 7, 7], [], [10, 11, 12, 13, 14, 15, 16, 17]),
    *([20, 21, 3], [VOCABULARY, 5, 3], [-1, 5, 3], [2**31 - 1, 3, 2**31 - 1]),
]
INPUTS = {
    "light": {"text": TEXTS},
    "ids": {"source_ids": [row + [0] * (8 - len(row)) for row in IDS]},
    "serving_default": {"text": TEXTS},
    "n_best": {"text": TEXTS, "alpha": [0.0, 3.0, 0.5] * 3 + [3.0, 0.0]},
    "score": {"text": TEXTS, "target_text": TARGETS},
    "sample": {"text": TEXTS, "seed": [5, 5, -7, 2**31 - 1, 0, 1, 2, 3, 4, 4, 4]},
}


@pytest.fixture(scope="module")
def trained():
    return trained_translator()


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "numbers" / "1"
    trained.export(path, SEARCH, sample=SAMPLE)
    return path


@pytest.fixture(scope="module")
def replies(exported, cpp_runner):
    """By signature: the reply to all rows in one batch, to each row alone, and to no rows."""
    return {
        name: cpp_loader.run(cpp_runner, exported, batches(columns), signature=name)
        for name, columns in INPUTS.items()
    }


@pytest.fixture(scope="module")
def exact_replies(trained, tmp_path_factory):
    """The same replies by the same weights in float64, whose results are returned as float32."""
    found = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    try:
        exact = untrained(trained.source_tokenizer, units=32)
        exact.model.set_weights(trained.model.get_weights())
        path = tmp_path_factory.mktemp("float64") / "1"
        exact.export(path, SEARCH, sample=SAMPLE)
    finally:
        keras.config.set_dtype_policy(found[0])
        keras.config.set_floatx(found[1])
    loaded = tf.saved_model.load(str(path)).signatures
    return {
        name: [numpy_reply(loaded[name], batch) for batch in list(batches(columns))[:-1]]
        for name, columns in INPUTS.items()
    }


def batches(columns):
    """All rows, each row alone, no rows."""
    yield columns
    for row in range(len(TEXTS)):
        yield {name: values[row : row + 1] for name, values in columns.items()}
    yield {name: [] for name in columns}


def numpy_reply(signature, columns):
    reply = signature(**{name: tf.constant(values) for name, values in columns.items()})
    return {name: tensor.numpy() for name, tensor in reply.items()}


def of_row(reply, row):
    return {name: array[row] for name, array in reply.items()}


def of_place(row, place):
    """One of the translations of a row, as `serving_default` would say it."""
    shared = ("source_tokens", "source_length", "truncated")
    return {name: array if name in shared else array[place] for name, array in row.items()}


def assert_several(reply, expected, count):
    """Row for row the translations of a list, then empty places."""
    assert reply["translation"].shape == (len(expected), count)
    for row, found in enumerate(expected):
        got = of_row(reply, row)
        kept = [one for one in found if one.target_tokens]
        assert np.count_nonzero(got["target_length"]) == len(kept)
        for place in range(count):
            if place < len(kept):
                assert_row_says(of_place(got, place), kept[place])
            else:
                assert_nothing(of_place(got, place))


def assert_nothing(place):
    assert place["translation"] == b"" and place["target_length"] == 0
    assert place["score"] == place["log_prob"] == 0
    assert not place["attention_scores"].any()
    assert not any(place["target_tokens"].tolist())


def rank(name, key):
    of_list = name in ("n_best", "sample") and not key.startswith(("source", "truncated"))
    return RANKS.get(key, 1) + of_list


def test_the_signatures(exported):
    loaded = tf.saved_model.load(str(exported)).signatures
    assert set(loaded) == set(INPUTS)
    kinds = dict.fromkeys(("text", "target_text"), "string") | {"alpha": "float32"}
    kinds |= dict.fromkeys(("seed", "source_ids"), "int32")
    for name, columns in INPUTS.items():
        (), inputs = loaded[name].structured_input_signature
        assert inputs == {
            key: tf.TensorSpec([None] * (1 + (name == "ids")), kinds[key], name=key)
            for key in columns
        }
        outputs = loaded[name].structured_outputs
        assert {key: spec.dtype for key, spec in outputs.items()} == OUTPUTS[name]
        for key, spec in outputs.items():
            assert isinstance(spec, tf.TensorSpec)
            assert (spec.shape.rank, spec.shape[0]) == (rank(name, key), None), (name, key)


@pytest.mark.parametrize("name", INPUTS)
def test_a_row_alone_is_what_it_is_among_others(exact_replies, name):
    together, *alone = exact_replies[name]
    assert_rows(together, alone, OUTPUTS[name], tolerance=2e-6)


@pytest.mark.parametrize("name", INPUTS)
def test_float32_is_near_float64(replies, exact_replies, name):
    exact, *_ = exact_replies[name]
    together, *alone, _ = replies[name]
    rows = [
        {key: array[row : row + 1] for key, array in together.items()} for row in range(len(TEXTS))
    ]
    assert_rows(exact, alone, OUTPUTS[name], tolerance=1e-4)
    assert_rows(exact, rows, OUTPUTS[name], tolerance=1e-4)


def assert_rows(together, alone, dtypes, tolerance):
    """The batches of one row say what the batch of all says: exactly, but for floating point."""
    assert len(alone) == len(TEXTS)
    for row, reply in enumerate(alone):
        there, here = of_row(together, row), of_row(reply, 0)
        for key, array in here.items():
            inside = np.asarray(there[key])[tuple(map(slice, np.shape(array)))]
            if dtypes[key] == tf.float32:
                np.testing.assert_allclose(inside, array, rtol=0, atol=tolerance, err_msg=key)
            else:
                assert inside.tolist() == np.asarray(array).tolist(), (row, key)


@pytest.mark.parametrize("name", INPUTS)
def test_no_rows_give_no_rows(replies, name):
    *_, none = replies[name]
    assert set(none) == set(OUTPUTS[name])
    for key, array in none.items():
        assert (array.shape[0], array.ndim) == (0, rank(name, key))


def test_the_n_best_rank_by_the_alpha_of_their_own_row(trained, replies):
    reply, alphas = replies["n_best"][0], INPUTS["n_best"]["alpha"]
    by_alpha = {
        alpha: trained.n_best(TEXTS, dataclasses.replace(SEARCH, alpha=alpha))
        for alpha in set(alphas)
    }
    assert_several(reply, [by_alpha[alpha][row] for row, alpha in enumerate(alphas)], 3)
    # Were alpha of no account, or one row's for all, some row would differ from this.
    texts = {
        alpha: [[one.text for one in found] for found in by_alpha[alpha]] for alpha in (0.0, 3.0)
    }
    assert texts[0.0] != texts[3.0]


def test_the_best_of_the_n_best_is_the_default(exported, replies, cpp_runner):
    columns = {"text": TEXTS, "alpha": [SEARCH.alpha] * len(TEXTS)}
    (several,) = cpp_loader.run(cpp_runner, exported, [columns], signature="n_best")
    best = replies["serving_default"][0]
    for name in ("translation", "target_length"):
        assert several[name][:, 0].tolist() == best[name].tolist()
    for name in ("score", "log_prob"):
        np.testing.assert_allclose(several[name][:, 0], best[name], rtol=0, atol=1e-5)
    assert len(set(best["translation"].tolist())) > 5
    scores = np.where(several["target_length"] > 0, several["score"], -np.inf)
    assert (np.diff(scores[several["source_length"] > 1], axis=1) <= 0).all()


def test_what_was_cut_is_flagged(trained, replies):
    lengths = trained.source_tokenizer.tokenize(TEXTS).row_lengths().numpy()
    expected = (lengths > MAX_LENGTH).tolist()
    assert set(expected) == {False, True}
    for name in set(INPUTS) - {"ids"}:
        assert replies[name][0]["truncated"].tolist() == expected, name
    lengths = trained.target_tokenizer.tokenize(TARGETS).row_lengths().numpy()
    expected = (lengths > MAX_LENGTH).tolist()
    assert set(expected) == {False, True}
    assert replies["score"][0]["target_truncated"].tolist() == expected


def test_the_light_one_says_what_the_default_does(replies):
    light, best = replies["light"][0], replies["serving_default"][0]
    assert light["translation"].tolist() == best["translation"].tolist()
    for name in ("score", "log_prob"):
        np.testing.assert_allclose(light[name], best[name], rtol=0, atol=1e-5)


def test_ids_give_what_the_model_generates_for_them(trained, replies):
    reply = replies["ids"][0]
    cut = [len(row) > MAX_LENGTH for row in IDS]
    assert reply["truncated"].tolist() == cut and sum(cut) == 1
    for row, ids in enumerate(IDS):
        ids = [1 if not 0 <= one < VOCABULARY else one for one in ids]
        ids = ids[: ids.index(END_ID)] if END_ID in ids else ids
        source = np.array([[*ids[:MAX_LENGTH], END_ID]], "int32")
        got = of_row(reply, row)
        if not ids:
            assert got["target_length"] == got["score"] == got["log_prob"] == 0
            assert not got["target_ids"].any() and not got["attention_scores"].any()
            continue
        found = trained.model.generate(source, SEARCH, max_length=MAX_LENGTH + 1)
        length = int(found.lengths[0, 0])
        assert got["target_length"] == length
        assert got["target_ids"][:length].tolist() == found.ids[0, 0, :length].numpy().tolist()
        assert not got["target_ids"][length:].any()
        np.testing.assert_allclose(got["score"], found.scores[0, 0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(got["log_prob"], found.log_probs[0, 0], rtol=0, atol=1e-4)
        scores = np.zeros_like(got["attention_scores"])
        scores[:length, : source.shape[1]] = found.attention_scores[0, 0, :length]
        np.testing.assert_allclose(got["attention_scores"], scores, rtol=0, atol=1e-4)


def test_an_alpha_out_of_range_counts_as_the_nearest(exported, cpp_runner):
    text = "one three two"
    given = [-1.0, math.nan, 0.0, math.inf, 1e30, 10.0]
    columns = {"text": [text] * len(given), "alpha": given}
    (reply,) = cpp_loader.run(cpp_runner, exported, [columns], signature="n_best")
    for rows in ((0, 1, 2), (3, 4, 5)):
        for name, array in reply.items():
            for row in rows[:2]:
                np.testing.assert_array_equal(array[row], array[rows[2]], err_msg=name)
    assert np.isfinite(reply["score"]).all()
    assert (reply["score"][2] != reply["score"][5]).all()


def test_the_score_of_a_text_is_what_python_says(trained, replies):
    reply, expected = replies["score"][0], trained.score(TEXTS, TARGETS)
    assert reply["log_prob"].shape == (len(TEXTS),)
    for row, one in enumerate(expected):
        got = of_row(reply, row)
        assert_tokens_and_attention(got, one)
        np.testing.assert_allclose(got["log_prob"], one.log_prob, rtol=0, atol=1e-4)
        length = len(one.target_tokens)
        assert got["target_length"] == length
        token_log_probs = got["token_log_probs"]
        np.testing.assert_allclose(token_log_probs[:length], one.token_log_probs, atol=1e-4)
        assert not token_log_probs[length:].any()
    assert len(set(reply["log_prob"].tolist())) > 6


def test_the_score_of_what_a_beam_found_is_its_log_probability(exported, replies, cpp_runner):
    """Wherever the text has the same subwords as the hypothesis, which is nearly everywhere."""
    several = replies["n_best"][0]
    places = np.argwhere(several["target_length"] > 0)
    texts = [TEXTS[row] for row, _ in places]
    targets = [several["translation"][row, place] for row, place in places]
    columns = {"text": texts, "target_text": targets}
    (scored,) = cpp_loader.run(cpp_runner, exported, [columns], signature="score")
    compared = 0
    for index, (row, place) in enumerate(places):
        found = [token for token in several["target_tokens"][row, place] if token]
        if found == [token for token in scored["target_tokens"][index] if token]:
            expected = several["log_prob"][row, place]
            np.testing.assert_allclose(scored["log_prob"][index], expected, rtol=0, atol=1e-4)
            compared += 1
    assert compared > 10, f"{compared} of {len(places)}"


def test_samples_are_those_of_python_and_their_seeds(trained, replies):
    reply, seeds = replies["sample"][0], INPUTS["sample"]["seed"]
    assert_several(reply, trained.n_best(TEXTS, SAMPLE, seed=seeds), 2)


def test_a_sample_depends_on_its_seed_alone(exported, cpp_runner):
    # A text that the model has not learnt, and so is not sure of.
    text, seeds = "four four two one three", list(range(1, 17))
    first = {"text": [text] * 17 + ["two"], "seed": [*seeds, 1, 1]}
    again = {"text": [text] * 2, "seed": [2, 1]}
    some, others = cpp_loader.run(cpp_runner, exported, [first, again], signature="sample")
    drawn = [[tokens.tolist() for tokens in row] for row in some["target_tokens"]]
    assert drawn[0] == drawn[16]
    assert some["log_prob"][0].tolist() == some["log_prob"][16].tolist()
    assert len({str(row) for row in drawn[:16]}) > 4
    assert some["translation"][1].tolist() == others["translation"][0].tolist()
    assert some["translation"][0].tolist() == others["translation"][1].tolist()


def test_a_text_without_a_subword_has_no_translations_and_no_score(exported, cpp_runner):
    texts = ["", " "]
    for name, column in (("n_best", {"alpha": [0.0, 1.0]}), ("sample", {"seed": [1, 2]})):
        columns = {"text": texts, **column}
        (reply,) = cpp_loader.run(cpp_runner, exported, [columns], signature=name)
        assert not reply["target_length"].any() and not reply["score"].any()
        assert set(reply["translation"].ravel().tolist()) == {b""}
    columns = {"text": [*texts, "one"], "target_text": ["eins", "", ""]}
    (reply,) = cpp_loader.run(cpp_runner, exported, [columns], signature="score")
    assert reply["target_length"].tolist() == [0, 0, 1]
    assert reply["log_prob"][:2].tolist() == [0, 0] and reply["log_prob"][2] < 0
    assert reply["target_tokens"].tolist() == [[b""], [b""], [b"</s>"]]


def test_columns_of_different_lengths_are_refused(exported, cpp_runner):
    columns = {"text": ["one", "two"], "alpha": [0.0]}
    with pytest.raises(cpp_loader.RunError, match="alpha must have as many rows as text"):
        cpp_loader.run(cpp_runner, exported, [columns], signature="n_best")


def test_fewer_hypotheses_than_places(tmp_path, cpp_runner):
    tokenizer = tokenizer_of_numbers()
    translator = untrained(tokenizer, cell="gru")
    translator = Translator(translator.model, tokenizer, tokenizer, max_length=1)
    # Of two tokens at most, each one of two: "</s>", "x </s>" and "x x".
    banned = tuple(set(range(VOCABULARY)) - {END_ID, 7})
    search = BeamSearch(5, n_best=5, banned_ids=banned)
    translator.export(tmp_path / "1", search)
    expected = translator.n_best(["one", "two", ""], search)
    assert [len(found) for found in expected] == [3, 3, 1]
    columns = {"text": ["one", "two", ""], "alpha": [0.0] * 3}
    (reply,) = cpp_loader.run(cpp_runner, tmp_path / "1", [columns], signature="n_best")
    assert_several(reply, expected, 5)
    assert reply["target_length"].tolist()[2] == [0] * 5
    assert np.isfinite(reply["score"]).all()


@pytest.mark.parametrize(
    "search, n_best, expected",
    [("beam", None, 4), (BeamSearch(3), None, 3), (BeamSearch(3), 2, 2), (SEARCH, None, 3)],
)
def test_how_many_come_back(search, n_best, expected, tmp_path, monkeypatch):
    counts = of_export(monkeypatch, tmp_path, search, n_best=n_best)
    assert counts == {"n_best": expected}


def test_a_greedy_export_has_no_list(monkeypatch, tmp_path):
    assert of_export(monkeypatch, tmp_path, GreedySearch()) == {}
    assert of_export(monkeypatch, tmp_path, "greedy", sample=SAMPLE) == {"sample": 2}


def of_export(monkeypatch, tmp_path, *arguments, **options):
    """What would be exported: how many come back, by the signatures that return several."""
    seen = {}
    monkeypatch.setattr(
        "keras_luong.serving.translator.export_saved_model",
        lambda path, model, signatures, resources, **facts: seen.update(signatures),
    )
    tokenizer = SubwordTokenizer.train([text for pair in PAIRS for text in pair], VOCABULARY)
    untrained(tokenizer, cell="gru").export(tmp_path / "1", *arguments, **options)
    assert {"serving_default", "light", "score", "ids"} <= set(seen)
    several = {name: seen[name] for name in seen if name in ("n_best", "sample")}
    assert len(seen) == 4 + len(several)
    values = {"text": tf.constant(["one"]), "alpha": tf.ones(1), "seed": tf.ones(1, "int32")}
    return {
        name: signature.function(*(values[key] for key in signature.inputs))["score"].shape[1]
        for name, signature in several.items()
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"search": "sampling"}, "same translation every time.*goes to sample=.*SamplingSearch"),
        ({"search": "best"}, "search must be one of .*Received: 'best'"),
        ({"search": "greedy", "n_best": 2}, "n_best needs a BeamSearch.*n_best=2"),
        ({"search": BeamSearch(3), "n_best": 4}, "n_best must be from 1 to beam_width=3.* 4"),
        ({"n_best": 0}, "`n_best` must be .* 1.* Received: 0"),
        ({"sample": BeamSearch(2)}, "sample must be a SamplingSearch or None.*BeamSearch"),
        ({"search": BeamSearch(2, min_length=99)}, "max_length must be .*min_length=99"),
    ],
)
def test_what_cannot_be_exported(trained, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        trained.export(tmp_path / "1", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_these_tests_cut_what_is_too_long():
    tokenizer = tokenizer_of_numbers()
    lengths = tokenizer.tokenize([TOO_LONG, TARGETS[-1]]).row_lengths().numpy()
    assert (lengths > MAX_LENGTH + 1).all()
