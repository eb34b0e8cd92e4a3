import keras
import numpy as np
import pytest

from keras_luong.training import TextScores, score_signatures, score_texts
from tests.labelled import Labelled

PAIRS = [("eins", "one small house"), ("zwei", "two"), ("drei", "three"), ("vier", "four")]


def fit(*callbacks, epochs=4):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    arrays = np.ones((2, 3)), np.ones((2, 1))
    return model.fit(*arrays, epochs=epochs, callbacks=list(callbacks), verbose=0)


def improving(known=(1, 3, 2, 2)):
    """Translates as many of the pairs, from call to call, as `known` says; keeps the calls."""
    references, calls = dict(PAIRS), []

    def translate(texts):
        right = known[len(calls)]
        calls.append(list(texts))
        return [references[text] if i < right else "no" for i, text in enumerate(texts)]

    return translate, calls


def test_scores_of_each_epoch_are_in_the_history():
    translate, calls = improving()
    history = fit(TextScores(translate, PAIRS, ["exact_match"])).history
    assert history["val_exact_match"] == [0.25, 0.75, 0.5, 0.5]
    assert calls == [["eins", "zwei", "drei", "vier"]] * 4


def test_callbacks_behind_see_them():
    translate, calls = improving()
    stop = keras.callbacks.EarlyStopping("val_exact_match", mode="max", patience=1)
    fit(TextScores(translate, PAIRS, ["exact_match"]), stop, epochs=9)
    assert (len(calls), stop.stopped_epoch, stop.best) == (3, 2, 0.75)


def test_epochs_between_repeat_the_last_score():
    translate, calls = improving()
    history = fit(TextScores(translate, PAIRS, ["exact_match"], every=2), epochs=5).history
    assert history["val_exact_match"] == [0.25, 0.25, 0.75, 0.75, 0.5]
    assert len(calls) == 3


def test_resumed_between_two_scorings_it_scores_at_once():
    translate, _ = improving()
    callback, logs = TextScores(translate, PAIRS, ["exact_match"], every=2), {}
    callback.on_epoch_end(3, logs)
    assert logs == {"val_exact_match": 0.25}


def test_bleu_and_chrf():
    pytest.importorskip("sacrebleu")
    pairs = [("", "the cat sat on the mat"), ("", "a dog runs")]
    logs = {}
    TextScores(lambda _: ["the cat sat on a mat", "a dog runs"], pairs).on_epoch_end(0, logs)
    # n-grams right: 8 of 9, 5 of 7, 3 of 5, 1 of 3; as long as the references.
    assert logs["val_bleu"] == pytest.approx(100 * (8 / 9 * 5 / 7 * 3 / 5 * 1 / 3) ** 0.25)
    assert 0 < logs["val_chrf"] < 100
    TextScores(lambda _: [target for _, target in pairs], pairs).on_epoch_end(0, logs)
    assert logs["val_bleu"] == pytest.approx(100)
    assert logs["val_chrf"] == pytest.approx(100)


def test_chrf_by_hand():
    """Letters: 2 of 2 and 2 of 3; pairs of them: 1 of 1 and 1 of 2; recall counts four times."""
    pytest.importorskip("sacrebleu")
    logs = {}
    TextScores(lambda _: ["ab"], [("", "abc")], ["chrf"]).on_epoch_end(0, logs)
    recall = (2 / 3 + 1 / 2) / 2
    assert logs["val_chrf"] == pytest.approx(100 * 5 * recall / (4 + recall))


CHINESE, THAI = "我们都是好朋友", "พวกเราเป็นเพื่อนที่ดีต่อกัน"
JAPANESE = "わたしたちは友達です"


@pytest.mark.parametrize(
    ("text", "tokenize", "is_warned_of"),
    [
        (CHINESE, None, True),
        (f"Keras3{CHINESE}2024年", "13a", True),
        (JAPANESE, "intl", True),
        (THAI, None, True),
        (CHINESE, "zh", False),
        (THAI, "char", False),
        ("우리는 모두 좋은 친구입니다", None, False),
        ("Sie schrieb das Zeichen 我 auf das Papier", None, False),
    ],
)
def test_text_without_spaces_needs_another_tokenizer(recwarn, text, tokenize, is_warned_of):
    pytest.importorskip("sacrebleu")
    hypotheses, references = [text[:-1]], [text]  # all but the last character is right
    found = score_texts(hypotheses, references, ["bleu"], tokenize=tokenize)
    assert (found["bleu"] == 0) == is_warned_of
    warned = [str(one.message) for one in recwarn if "splits at spaces" in str(one.message)]
    assert len(warned) == is_warned_of and all("for Chinese" in one for one in warned)
    TextScores(lambda _: hypotheses, [("", text)], ["chrf"])  # counts characters
    assert len(recwarn) == is_warned_of


def test_the_tokenizer_of_the_scores_while_training(capsys):
    """Characters: 6 of 6, 5 of 5, 4 of 4 and 3 of 3 n-grams are right, and one is missing."""
    pytest.importorskip("sacrebleu")
    callback = TextScores(lambda _: [CHINESE[:-1]], iter([("", CHINESE)]), tokenize="zh")
    history = fit(callback, epochs=2).history
    assert history["val_bleu"] == pytest.approx([100 * np.exp(1 - 7 / 6)] * 2)
    printed = capsys.readouterr().out
    assert printed.count("|tok:zh|") == 1 and "val_chrf: nrefs:1" in printed
    assert "|tok:zh|" in score_signatures(["bleu"], tokenize="zh")["bleu"]
    assert "|tok:13a|" in score_signatures(["bleu", "exact_match"])["bleu"]


@pytest.mark.parametrize("tokenize", ["ja-mecab", "ko-mecab"])
def test_a_tokenizer_without_its_package(monkeypatch, tokenize):
    pytest.importorskip("sacrebleu")
    name = f"tokenizer_{tokenize.replace('-', '_')}"
    monkeypatch.setattr(f"sacrebleu.tokenizers.{name}.MeCab", None)
    with pytest.raises(ImportError, match=rf"'{tokenize}' of sacrebleu.*pip install sacrebleu"):
        TextScores(list, PAIRS, ["bleu"], tokenize=tokenize)


@pytest.mark.parametrize(
    ("texts", "message"),
    [(([], []), "0 hypotheses and 0 ref"), ((["a"], iter("ab")), "1 hypotheses and 2 ref")],
)
def test_as_many_references_as_hypotheses(texts, message):
    with pytest.raises(ValueError, match=message):
        score_texts(*texts, ["exact_match"])


def test_pairs_scores_and_translations_may_be_read_once():
    translate, calls = improving()
    callback = TextScores(
        lambda texts: iter(translate(texts)), iter(PAIRS), iter(["exact_match"]), np.int64(1)
    )
    assert fit(callback).history["val_exact_match"] == [0.25, 0.75, 0.5, 0.5]
    assert calls == [["eins", "zwei", "drei", "vier"]] * 4
    names = iter(["exact_match"])
    assert score_texts(iter(["a", "b"]), Labelled(["a", "c"]), names) == {"exact_match": 0.5}
    for found, wanted in ((["a"], ["a", "b"]), ([], [])):
        with pytest.raises(ValueError, match=f"Received: {len(found)} hypotheses and "):
            score_texts(found, wanted, ["exact_match"])
    with pytest.raises(TypeError, match="`scores` must be a list of strings. Received one: 'bleu'"):
        TextScores(translate, PAIRS, "bleu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": ["bleu"], "tokenize": "zn"}, "'13a', 'char'.*Received: 'zn'"),
        ({"tokenize": "zh"}, "is of BLEU. Received: tokenize='zh' and scores=.'exact_match'"),
        ({"scores": ["rouge"]}, "'bleu', 'chrf', 'exact_match'.*rouge"),
        ({"scores": []}, r"Received: \[\]"),
        ({"pairs": []}, "at least one pair"),
        ({"every": 0}, "Received: 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TextScores(**{"translate": list, "pairs": PAIRS, "scores": ["exact_match"], **arguments})
