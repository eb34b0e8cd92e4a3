import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import WordDropout

IDS = np.random.default_rng(1).integers(4, 50, (40, 60)).astype("int32")
IDS[:, 0], IDS[:, 40], IDS[:, 41:] = 2, 3, 0


def called(layer, ids=IDS, training=True):
    return ops.convert_to_numpy(layer(ids, training=training))


def test_a_fraction_of_the_words_is_unknown_and_the_rest_stays():
    dropped = called(WordDropout(0.3, seed=3))
    words = IDS > 3
    changed = dropped != IDS
    assert not changed[~words].any()
    assert set(dropped[changed]) == {1}
    # 1,560 words: four standard deviations are 0.046.
    assert abs(changed[words].mean() - 0.3) < 0.046
    assert dropped.dtype == IDS.dtype


def test_drawn_anew_and_not_outside_of_training():
    layer = WordDropout(0.3, seed=3)
    assert (called(layer) != called(layer)).any()
    np.testing.assert_array_equal(called(layer, training=False), IDS)
    np.testing.assert_array_equal(called(WordDropout(0.0)), IDS)


def test_other_ids():
    dropped = called(WordDropout(0.9, unknown_id=99, last_special_id=30, seed=1))
    assert (dropped[IDS <= 30] == IDS[IDS <= 30]).all()
    assert set(dropped[dropped != IDS]) == {99}


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_model_that_is_trained_saved_and_loaded(jit_compile, tmp_path):
    ids = keras.Input((None,), dtype="int32")
    vectors = keras.layers.Embedding(60, 3, mask_zero=True)(WordDropout(0.5, seed=4)(ids))
    model = keras.Model(ids, keras.layers.GlobalAveragePooling1D()(vectors))
    model.compile("sgd", "mse", jit_compile=jit_compile and keras.backend.backend() != "torch")
    before = keras.ops.convert_to_numpy(model.layers[2].embeddings)
    model.fit(IDS, np.ones((40, 3)), verbose=0)
    # No text holds the unknown id: its vector moves because words were replaced.
    assert (keras.ops.convert_to_numpy(model.layers[2].embeddings)[1] != before[1]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(IDS, verbose=0), model.predict(IDS, verbose=0))
    (layer,) = (one for one in loaded.layers if isinstance(one, WordDropout))
    assert (layer.rate, layer.seed) == (0.5, 4)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_wrong_rates(rate):
    with pytest.raises(ValueError, match=f"Received: {rate}"):
        WordDropout(rate)
