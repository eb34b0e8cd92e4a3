"""Copies of a model: those that Keras and Python make."""

import copy

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import Ensemble, Seq2Seq
from tests.models.test_seq2seq import SOURCE, build, randomize


def test_clone_model_raises_and_names_what_clones():
    model = build()
    with pytest.raises(TypeError, match=r"Seq2Seq\.from_config\(model\.get_config\(\)\)"):
        keras.models.clone_model(model)
    clone = Seq2Seq.from_config(model.get_config())
    clone.set_weights(model.get_weights())
    for one, other in zip(clone.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_clone_model_raises_for_a_model_with_scores_too():
    with pytest.raises(TypeError, match=r"Seq2SeqWithScores\.from_config\(model\.get_config"):
        keras.models.clone_model(build().with_attention_scores())


def test_a_copy_of_an_ensemble_searches_with_its_own_weights():
    ensemble = Ensemble([build()])
    randomize(ensemble.models[0])
    before = ops.convert_to_numpy(ensemble.generate(SOURCE, max_length=3).log_probs)
    other = copy.deepcopy(ensemble)
    randomize(ensemble.models[0], seed=4)
    after = ops.convert_to_numpy(other.generate(SOURCE, max_length=3).log_probs)
    np.testing.assert_allclose(after, before, atol=1e-5)
