"""The card of an export, and the hashes of parallel text."""

import hashlib
import json

import pytest
import tensorflow as tf

from keras_luong.serving.model_card import hashes, model_card

TEXT = tf.TensorSpec([None], tf.string, name="text")
IDS = tf.TensorSpec([None, None], tf.int32, name="ids")


@pytest.fixture(scope="module")
def functions():
    function = tf.function(
        lambda text, ids: {"length": tf.strings.length(text), "ids": ids},
        input_signature=[TEXT, IDS],
    )
    return {"serving_default": function.get_concrete_function()}


def test_what_a_card_says(functions):
    card = json.loads(model_card(functions, {"BLEU": 38.5}, parameters=7))
    assert card["signatures"] == {
        "serving_default": {
            "inputs": {
                "text": {"dtype": "string", "shape": [None]},
                "ids": {"dtype": "int32", "shape": [None, None]},
            },
            "outputs": {
                "length": {"dtype": "int32", "shape": [None]},
                "ids": {"dtype": "int32", "shape": [None, None]},
            },
        }
    }
    assert card["scores"] == {"BLEU": 38.5} and card["parameters"] == 7
    assert card["versions"]["tensorflow"] == tf.__version__
    assert {"python", "keras", "keras-luong", "tensorflow-text"} <= set(card["versions"])


def test_without_scores_there_are_none(functions):
    assert json.loads(model_card(functions, None))["scores"] == {}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "38.5", None])
def test_scores_are_finite_numbers(functions, score):
    with pytest.raises(ValueError, match="finite numbers by name. Received 'BLEU'"):
        model_card(functions, {"BLEU": score})


def test_hashes_are_those_of_the_files(tmp_path):
    pairs = [("ein Hund", "a dog"), ("", "nothing"), ("läuft", "runs")]
    (tmp_path / "de").write_text("ein Hund\n\nläuft\n", encoding="utf-8")
    (tmp_path / "en").write_text("a dog\nnothing\nruns\n", encoding="utf-8")
    of_files = [hashlib.sha256((tmp_path / n).read_bytes()).hexdigest() for n in ("de", "en")]
    assert list(hashes(iter(pairs)).values()) == [3, *of_files]
    assert hashes([]) == {
        "pairs": 0,
        "source_sha256": hashlib.sha256(b"").hexdigest(),
        "target_sha256": hashlib.sha256(b"").hexdigest(),
    }
