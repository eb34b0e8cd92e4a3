"""`Seq2Seq.quantize`: against weights that NumPy rounded, after compiling, saving, and refusals."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import Ensemble
from tests.models.test_seq2seq import SOURCE, forward, fresh, generate

TARGET = np.array([[2, 4, 5, 9], [2, 6, 0, 0], [2, 10, 7, 0], [2, 0, 0, 0]], "int32")
SEARCH = {"search": "beam"}
NAMES = ("tied", "untied")


def weights_alone():
    return keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)


def rounded(values, axis):
    """The nearest of 255 evenly spaced numbers between the largest and its opposite, by axis."""
    # The row of the padding id is zeros.
    largest = np.maximum(np.abs(values).max(axis=axis, keepdims=True), 1e-9)
    return np.rint(values / largest * 127) * largest / 127


def rounded_to_16_levels(values, axis):
    """The nearest of 16 evenly spaced numbers from the smallest to the largest; 0 is among them."""
    least, largest = (of(values, axis=axis, keepdims=True, initial=0.0) for of in (np.min, np.max))
    distance = np.maximum((largest - least) / 15, 1e-9)
    zero = np.rint(-8 - least / distance)
    return (np.clip(np.rint(values / distance) + zero, -8, 7) - zero) * distance


def with_rounded_weights(name, rounded=rounded):
    """The model in float32, with what `quantize` makes integers rounded by NumPy."""
    model = fresh(name)
    for layer in (*model.encoder.layers, model.target_embedding, model.head):
        if isinstance(layer, keras.layers.Embedding):
            layer.embeddings.assign(rounded(ops.convert_to_numpy(layer.embeddings), axis=1))
        elif isinstance(layer, keras.layers.Dense):
            layer.kernel.assign(rounded(ops.convert_to_numpy(layer.kernel), axis=0))
    return model


def quantized(name, mode=None, config=None):
    model = fresh(name)
    model.quantize(mode, config=config)
    return model


def assert_same(result, expected, atol=1e-4):
    np.testing.assert_array_equal(result.ids, expected.ids)
    np.testing.assert_allclose(result.scores, expected.scores, atol=atol)
    np.testing.assert_allclose(result.attention_scores, expected.attention_scores, atol=atol)


@pytest.mark.parametrize("name", NAMES)
def test_integers_in_place_of_weights_are_weights_rounded(name):
    model, expected = quantized(name, config=weights_alone()), with_rounded_weights(name)
    integers = sum(variable.dtype == "int8" for variable in model.variables)
    assert integers == {"tied": 4, "untied": 5}[name] and model.is_quantized
    inputs = [SOURCE, TARGET]
    np.testing.assert_allclose(forward(model, inputs), forward(expected, inputs), atol=1e-4)
    assert np.abs(forward(fresh(name), inputs) - forward(expected, inputs)).max() > 1e-3
    assert_same(generate(model, **SEARCH), generate(expected, **SEARCH))


@pytest.mark.parametrize("name", NAMES)
def test_four_bits_are_weights_rounded_to_16_levels(name):
    model, expected = quantized(name, "int4"), with_rounded_weights(name, rounded_to_16_levels)
    inputs = [SOURCE, TARGET]
    np.testing.assert_allclose(forward(model, inputs), forward(expected, inputs), atol=1e-4)
    # They are no finer ones: these are far from the floats.
    assert np.abs(forward(fresh(name), inputs) - forward(expected, inputs)).max() > 0.1
    assert_same(generate(model, **SEARCH), generate(expected, **SEARCH))


@pytest.mark.parametrize("name", NAMES)
def test_products_of_integers_are_near_those_of_floats(name):
    inputs = [SOURCE, TARGET]
    logits, expected = forward(quantized(name, "int8"), inputs), forward(fresh(name), inputs)
    # Of numbers with 7 bits and a sign; and it is not the float path that ran.
    assert 1e-3 < np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(("name", "mode"), [("tied", "int8"), ("untied", "int8"), ("tied", "int4")])
def test_what_is_saved_says_the_same_and_has_no_optimizer(name, mode, tmp_path):
    model = fresh(name)
    model.compile("adam", loss="sparse_categorical_crossentropy")
    model.quantize(mode)
    assert not model.compiled and model.is_quantized and not fresh(name).is_quantized
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not loaded.compiled and getattr(loaded, "optimizer", None) is None
    dtypes = [variable.dtype for variable in model.variables]
    assert dtypes == [variable.dtype for variable in loaded.variables] and "int8" in dtypes
    assert_same(generate(loaded, **SEARCH), generate(model, **SEARCH))


@pytest.mark.traced
def test_what_was_compiled_before_is_compiled_anew():
    model, other = fresh("tied"), fresh("stacked")
    both = Ensemble([model, other])
    before = generate(model), generate(both)
    model.quantize("int8")
    after, of_both = generate(model), generate(both)
    assert_same(after, generate(quantized("tied", "int8")))
    assert (after.log_probs != before[0].log_probs).all()
    assert (of_both.log_probs != before[1].log_probs).all()


def test_filters_say_which_layers():
    model = fresh("untied")
    model.quantize("int8", filters=lambda layer: layer is model.head)
    assert [variable.path for variable in model.variables if variable.dtype == "int8"] == [
        model.head.kernel.path
    ]
    assert np.isfinite(generate(model).scores).all()


@pytest.mark.parametrize("mode", ["float8", "gptq"])
def test_modes_for_something_else_are_refused(mode):
    config = None
    if mode == "gptq":
        config = keras.quantizers.GPTQConfig(dataset=["a"], tokenizer=str.split)
    with pytest.raises(ValueError, match=rf"mode must be one of.*int8.*Received: '{mode}'"):
        fresh("tied").quantize(mode, config=config)


def test_once_is_enough():
    with pytest.raises(ValueError, match="already quantized"):
        quantized("tied", "int8").quantize("int8")
