import keras
import numpy as np
import pytest

from keras_luong.training import MaskedCrossentropy, Perplexity


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def by_loops(batches):
    costs = [
        -log_softmax(logits.astype("float64"))[row, step, ids[row, step]]
        for ids, logits in batches
        for row, step in np.ndindex(ids.shape)
        if ids[row, step]
    ]
    return np.exp(np.mean(costs))


def test_mean_of_all_tokens_not_of_batches():
    numbers = np.random.default_rng(1)
    batches = [
        (np.array(ids), numbers.normal(size=(*np.shape(ids), 6)).astype("float32"))
        for ids in ([[1, 0, 0]], [[1, 2, 3], [4, 5, 0]])
    ]
    perplexity = Perplexity()
    for batch in batches:
        perplexity.update_state(*batch)
    np.testing.assert_allclose(float(perplexity.result()), by_loops(batches), rtol=1e-6)
    perplexity.reset_state()
    assert float(perplexity.result()) == 1.0


def test_tokens_of_weight_zero_and_another_padding_are_left_out():
    logits = np.zeros((2, 2, 4), "float32")
    logits[0, 0, 1] = np.log(3.0)  # of 3 + 1 + 1 + 1: a half
    perplexity = Perplexity(padding_id=3)
    perplexity.update_state(np.array([[1, 3], [0, 2]]), logits, np.array([2.0, 0.0]))
    np.testing.assert_allclose(float(perplexity.result()), 2.0, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_fit_whatever_the_loss_adds(jit_compile):
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, keras.layers.Embedding(5, 5, mask_zero=True)(ids))
    metric = keras.metrics.deserialize(keras.metrics.serialize(Perplexity()))
    assert metric.get_config() == Perplexity().get_config()
    model.compile(
        "sgd", MaskedCrossentropy(label_smoothing=0.3), metrics=[metric], jit_compile=jit_compile
    )
    x = np.array([[1, 2, 3], [4, 0, 0], [2, 1, 0]], "int32")
    y = np.array([[1, 2, 2], [4, 0, 0], [3, 1, 0]], "int32")
    logits = np.array(model.predict(x, verbose=0))
    found = model.evaluate(x, y, batch_size=2, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["perplexity"], by_loops([(y, logits)]), rtol=1e-5)
    assert np.isfinite(model.fit(x, y, verbose=0).history["perplexity"][0])
