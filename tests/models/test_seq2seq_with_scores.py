"""`Seq2SeqWithScores`: the checks of a `Seq2Seq`, and its files."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import MaskedCrossentropy
from keras_luong.models import Seq2SeqWithScores
from tests.models.test_seq2seq import (
    SOURCE,
    TARGETS,
    TARGETS_IN,
    build,
    randomize,
    shared_embedding_model,
)

pytestmark = pytest.mark.traced

SCORES = np.full((*TARGETS.shape, SOURCE.shape[1]), 0.2, "float32")


def test_a_file_keeps_what_is_shared_and_how_it_is_trained(tmp_path):
    model = shared_embedding_model()
    randomize(model)
    model.compile("sgd", MaskedCrossentropy())
    guided = model.with_attention_scores()
    guided.compile("adam", [MaskedCrossentropy(), "mse"])
    guided.optimizer.build(guided.trainable_variables)
    guided.save(tmp_path / "guided.keras")
    loaded = keras.saving.load_model(tmp_path / "guided.keras")
    assert type(loaded) is Seq2SeqWithScores and loaded.name == guided.name
    assert isinstance(loaded.optimizer, keras.optimizers.Adam) and not loaded.seq2seq.compiled
    assert len(loaded.weights) == len(guided.weights) == len(model.weights)
    words = loaded.seq2seq.target_embedding
    assert loaded.seq2seq.encoder.get_layer("words") is words and words in loaded.layers
    for one, other in zip(loaded.get_weights(), guided.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_weights_are_those_of_the_model():
    model = build()
    guided = model.with_attention_scores()
    assert guided.seq2seq is model and guided.count_params() == model.count_params()
    assert {id(one) for one in guided.weights} == {id(one) for one in model.weights}


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: model(x),
        lambda model, x: model.predict(x, verbose=0),
        lambda model, x: model.predict_on_batch(x),
        lambda model, x: model.train_on_batch(x, [TARGETS, SCORES]),
        lambda model, x: model.fit(x, [TARGETS, SCORES], verbose=0),
    ],
    ids=["call", "predict", "predict_on_batch", "train_on_batch", "fit"],
)
def test_ids_outside_raise(call):
    model = build().with_attention_scores()
    model.compile("sgd", [MaskedCrossentropy(), "mse"])
    for x, name in (([SOURCE + 1, TARGETS_IN], "source"), ([SOURCE, TARGETS_IN + 1], "target")):
        with pytest.raises(ValueError, match=rf"`{name}` must hold integers from 0 to (8|10)\. "):
            call(model, x)


def test_labels_outside_raise():
    model = build().with_attention_scores()
    model.compile("sgd", [MaskedCrossentropy(), "mse"])
    with pytest.raises(ValueError, match=r"`y` must hold integers from 0 to 10.* Received: 11 at"):
        model.train_on_batch([SOURCE, TARGETS_IN], [TARGETS + 1, SCORES])


def test_the_loss_of_a_batch_outside_is_no_number():
    model = build().with_attention_scores()
    model.compile("sgd", [MaskedCrossentropy(), "mse"])
    x = tuple(map(ops.convert_to_tensor, (SOURCE + 1, TARGETS_IN)))
    outputs = [ops.zeros((*TARGETS.shape, 11)), ops.convert_to_tensor(SCORES)]
    assert np.isnan(float(model.compute_loss(x, [TARGETS, SCORES], outputs)))


def test_it_is_made_of_one_model_only():
    with pytest.raises(TypeError, match="takes `seq2seq` by position.*Received besides: \\(3,\\)"):
        Seq2SeqWithScores(build(), 3)
