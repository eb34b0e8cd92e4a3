import keras
import numpy as np
import pytest

from keras_luong.training import MaskedCrossentropy, TokenAccuracy


def one_hot(ids, depth=10):
    return np.eye(depth, dtype="float32")[np.asarray(ids)]


def test_ratio_over_tokens_not_over_batches():
    accuracy = TokenAccuracy()
    accuracy.update_state(np.array([[1, 0, 0]]), one_hot([[1, 0, 3]]))  # 1 of 1
    accuracy.update_state(np.array([[1, 2, 3], [4, 5, 0]]), one_hot([[1, 9, 9], [9, 9, 0]]))  # 1/5
    np.testing.assert_allclose(float(accuracy.result()), 2 / 6, rtol=1e-6)  # not (1 + 1/5) / 2
    accuracy.reset_state()
    assert float(accuracy.result()) == 0


def test_counts_past_the_whole_numbers_of_float32():
    accuracy = TokenAccuracy()
    for variable in (accuracy.total, accuracy.count):
        variable.assign(2**24)
    accuracy.update_state(np.array([[1]]), one_hot([[1]]))
    assert (int(accuracy.total.numpy()), int(accuracy.count.numpy())) == (2**24 + 1, 2**24 + 1)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [([1.0, 0.0], 1 / 3), ([0.0, 0.5], 1.0), ([[0, 1, 1], [1, 1, 1]], 2 / 4)],
)
def test_tokens_of_weight_zero_are_left_out(weight, expected):
    accuracy = TokenAccuracy()
    y_true, predicted = np.array([[1, 2, 3], [4, 5, 0]]), [[1, 9, 9], [4, 5, 0]]
    accuracy.update_state(y_true, one_hot(predicted), np.array(weight))
    if weight == [[0, 1, 1], [1, 1, 1]]:
        assert int(accuracy.count.numpy()) == 4
    np.testing.assert_allclose(float(accuracy.result()), expected, rtol=1e-6)


def test_a_tie_goes_to_the_lower_id():
    accuracy = TokenAccuracy()
    accuracy.update_state(np.array([[1, 2]]), np.array([[[0, 3.0, 3.0], [0, 3.0, 3.0]]]))
    assert float(accuracy.result()) == 0.5


def test_another_padding_id():
    accuracy = TokenAccuracy(padding_id=5)
    accuracy.update_state(np.array([[0, 5]]), one_hot([[0, 9]]))
    assert float(accuracy.result()) == 1


def test_in_fit_and_through_config():
    ids = keras.Input((None,), dtype="int32")
    eye = keras.layers.Embedding(10, 10, embeddings_initializer="identity", mask_zero=True)
    model = keras.Model(ids, eye(ids))
    metric = keras.metrics.deserialize(keras.metrics.serialize(TokenAccuracy(padding_id=0)))
    assert metric.get_config() == TokenAccuracy().get_config()
    model.compile(loss=MaskedCrossentropy(), metrics=[metric])
    x = np.array([[1, 2, 3], [4, 0, 0], [5, 6, 0]], "int32")
    y = np.array([[1, 2, 9], [4, 0, 0], [9, 6, 0]], "int32")
    result = model.evaluate(x, y, batch_size=2, verbose=0, return_dict=True)
    np.testing.assert_allclose(result["token_accuracy"], 4 / 6, rtol=1e-6)


def test_wrong_ranks():
    with pytest.raises(ValueError, match=r"y_pred\.shape=\(2, 3\)"):
        TokenAccuracy().update_state(np.ones((2, 3), "int32"), np.ones((2, 3)))
