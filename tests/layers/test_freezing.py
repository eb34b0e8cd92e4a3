"""What is frozen stays frozen, each part for itself, in configs and files: see `parts_of`."""

import itertools

import keras
import pytest

from keras_luong import luong_seq2seq
from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    BahdanauAttention,
    FastRNN,
    LuongAttention,
    MonotonicAttention,
    MultiSourceAttention,
    ResidualCell,
)
from tests.layers.layer_checks import functional_model
from tests.layers.options import random

DEPTH = 4


def parts_of(layer, path="", seen=()):
    """All layers inside a layer by the path of attributes that leads to them, itself first."""
    found = {path: layer}
    inside = {"layers": layer.layers} if isinstance(layer, keras.Model) else vars(layer)
    # On torch a layer is a module, which keeps its parts here.
    inside = {**inside, **inside.get("_modules", {})}
    for name, value in inside.items():
        if name.startswith("_"):
            continue
        several = value if isinstance(value, list | tuple) else [value]
        for index, one in enumerate(several):
            if isinstance(one, keras.layers.Layer) and one not in seen:
                found.update(parts_of(one, f"{path}/{name}{index}", (*seen, layer)))
    return found


def flags(layer):
    """Of every part that has weights whether it is trained, and which of its weights are."""
    return {
        path: (part.trainable, [weight.trainable for weight in part.weights])
        for path, part in parts_of(layer).items()
        if part.weights
    }


def set_all(layer, trainable):
    # On TensorFlow Keras does not see an attribute that is set to the value it has.
    layer.trainable = not trainable
    layer.trainable = trainable


def decoder(attention, **options):
    cells = [keras.layers.LSTMCell(DEPTH), ResidualCell(keras.layers.GRUCell(DEPTH))]
    stack = keras.layers.StackedRNNCells(cells)
    return AttentionDecoder(AttentionDecoderCell(stack, attention, 6, **options))


MEMORY = random(2, 3, DEPTH)
DECODED = {"sequences": random(2, 3, DEPTH), "memory": MEMORY}
LAYERS = {
    "decoder": (lambda: decoder(LuongAttention(), gate="both"), DECODED),
    "monotonic": (lambda: decoder(MonotonicAttention(BahdanauAttention(5))), DECODED),
    "several sources": (
        lambda: decoder(MultiSourceAttention([LuongAttention(), BahdanauAttention(5)])),
        {**DECODED, "memory": [MEMORY, MEMORY]},
    ),
    "recurrent": (
        lambda: FastRNN([keras.layers.LSTMCell(DEPTH), ResidualCell(keras.layers.LSTMCell(DEPTH))]),
        {"sequences": MEMORY},
    ),
    "both ways": (
        lambda: keras.layers.Bidirectional(FastRNN(keras.layers.LSTMCell(DEPTH))),
        {"sequences": MEMORY},
    ),
}


def seq2seq():
    return luong_seq2seq(9, 9, units=4, copy=True)


def shape_of(given):
    return [one.shape for one in given] if isinstance(given, list) else given.shape


def built(layer, arrays):
    named = {f"{name}_shape": shape_of(one) for name, one in arrays.items()}
    layer.build(**named)
    return layer


def check_each_part(original, remake):
    """Freezes every part on its own, and trains every part inside of a frozen whole."""
    paths = list(flags(original))
    assert len(paths) > 3
    for path, trainable in itertools.product(paths, (True, False)):
        set_all(original, trainable)
        set_all(parts_of(original)[path], not trainable)
        assert flags(remake(original)) == flags(original), (path, trainable)


@pytest.mark.parametrize("name", LAYERS)
def test_a_config_keeps_what_is_frozen(name):
    make, arrays = LAYERS[name]
    check_each_part(
        built(make(), arrays),
        lambda layer: built(type(layer).from_config(layer.get_config()), arrays),
    )


@pytest.mark.parametrize("first", [0, 1])
def test_a_model_keeps_what_is_frozen(first):
    model = seq2seq()
    for path in list(flags(model))[first::2]:
        set_all(parts_of(model)[path], path.endswith("attention_vector0"))
    assert flags(type(model).from_config(model.get_config())) == flags(model)


@pytest.mark.parametrize("name", ["monotonic", "several sources"])
def test_a_file_keeps_what_is_frozen(name, tmp_path):
    make, arrays = LAYERS[name]
    layer = make()
    model = functional_model(layer, arrays)
    layer.cell.trainable = False
    layer.cell.cell.cells[1].cell.trainable = True
    layer.cell.attention.trainable = True
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [flags(one) for one in loaded.layers] == [flags(one) for one in model.layers]
    assert 0 < len(loaded.trainable_weights) < len(loaded.weights)


@pytest.mark.parametrize("with_scores", [False, True])
def test_a_file_of_a_model_keeps_what_is_frozen(with_scores, tmp_path):
    original = seq2seq()
    original.decoder.cell.attention_vector.trainable = False
    original.encoder.get_layer("bridge_0").trainable = False
    model = original.with_attention_scores() if with_scores else original
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(model.trainable_weights) == len(model.weights) - 3
    assert flags(loaded) == flags(model)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_made_frozen_has_frozen_parts(name):
    make, arrays = LAYERS[name]
    config = make().get_config()
    if name == "both ways":
        pytest.skip("a layer of Keras freezes its own weights only")
    cell = keras.saving.deserialize_keras_object(config["cell"])
    layer = built(type(make())(cell, trainable=False), arrays)
    assert layer.weights and not any(weight.trainable for weight in layer.weights)


def test_what_was_frozen_can_be_trained_again():
    make, arrays = LAYERS["decoder"]
    layer = make()
    layer.trainable = False
    again = built(type(layer).from_config(layer.get_config()), arrays)
    assert not again.trainable_weights
    again.trainable = True
    assert len(again.trainable_weights) == len(again.weights) > 5
