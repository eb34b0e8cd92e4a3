"""`.keras` files: the weights that a config declares are counted before memory is taken."""

import random

import keras
import pytest

from keras_luong import luong_seq2seq
from keras_luong.models.keras_files import count_declared, load_keras_file

OPTIONS = {
    "plain": {},
    "shared": {"share_embeddings": True, "tie_embeddings": True},
    "stacked": {"num_layers": 2, "cell": "gru", "score_mode": "concat"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_count_is_that_of_the_model(name):
    model = luong_seq2seq(9, 9, units=4, **OPTIONS[name])
    config = keras.saving.serialize_keras_object(model)
    state = random.getstate()
    declared = count_declared(config)
    assert random.getstate() == state  # of which Keras draws seeds
    shared = 9 * 4 if name == "shared" else 0
    assert model.count_params() <= declared <= model.count_params() + 2 * shared + 20


def test_a_config_that_is_none_has_no_count():
    assert count_declared({"class_name": "Nothing", "config": {}}) is None


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_memory_is_taken_for_what_is_declared():
    huge = keras.Sequential([keras.Input((None,)), keras.layers.Embedding(3, 2, name="words")])
    config = keras.saving.serialize_keras_object(huge)
    (words,) = [one for one in config["config"]["layers"] if one["class_name"] == "Embedding"]
    words["config"]["input_dim"], words["config"]["output_dim"] = 10**9, 10**3
    assert count_declared(config) == 10**12  # of 4 bytes, which no machine has
    with keras.StatelessScope():
        pass  # gives values to the variables of this thread that have none: there are none


def test_what_is_saved_is_loaded(tmp_path):
    model = luong_seq2seq(9, 9, units=4)
    model.compile("adam")
    model.save(tmp_path / "a.keras")
    loaded = load_keras_file(tmp_path / "a.keras", compile=True)
    assert loaded.count_params() == model.count_params() and loaded.compiled
