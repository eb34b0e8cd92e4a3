"""Keras' own tests of `RNN`, `LSTM` and `GRU`, with `FastRNN` in the place of their loop."""

import types

import keras
import pytest

from keras_luong.layers import FastRNN

# They are part of Keras' wheel, though not of what it promises.
rnn_test = pytest.importorskip("keras.src.layers.rnn.rnn_test")
lstm_test = pytest.importorskip("keras.src.layers.rnn.lstm_test")
gru_test = pytest.importorskip("keras.src.layers.rnn.gru_test")


@keras.saving.register_keras_serializable(package="tests")
class FastLSTM(keras.layers.LSTM, FastRNN):
    """`keras.layers.LSTM` on the loop of `FastRNN`."""


@keras.saving.register_keras_serializable(package="tests")
class FastGRU(keras.layers.GRU, FastRNN):
    """`keras.layers.GRU` on the loop of `FastRNN`."""


@pytest.fixture(autouse=True)
def our_loops(monkeypatch):
    ours = {"RNN": FastRNN, "LSTM": FastLSTM, "GRU": FastGRU}
    layers = types.SimpleNamespace(**{**vars(keras.layers), **ours})
    for module in (rnn_test, lstm_test, gru_test):
        monkeypatch.setattr(module, "layers", layers)
    filtering = keras.config.is_traceback_filtering_enabled()
    yield
    if filtering:  # which the `setUp` of Keras' tests ends
        keras.config.enable_traceback_filtering()


class RNNTest(rnn_test.RNNTest):
    # Of seconds: the harness on many arguments, of which `test_keras_harness.py` has a part.
    test_basics = pytest.mark.long(rnn_test.RNNTest.test_basics)


class LSTMTest(lstm_test.LSTMTest):
    test_basics = pytest.mark.long(lstm_test.LSTMTest.test_basics)


class GRUTest(gru_test.GRUTest):
    test_basics = pytest.mark.long(gru_test.GRUTest.test_basics)
    # On a GPU: that Keras' loop reaches cuDNN.
    test_torch_cudnn_dispatch_fires = None
