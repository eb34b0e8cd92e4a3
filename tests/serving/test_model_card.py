"""The card of an export."""

import json

import pytest
import tensorflow as tf

from keras_luong.serving.model_card import model_card

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
