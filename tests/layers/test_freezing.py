"""What is frozen stays frozen, each part for itself, in configs and files: see `parts_of`."""

import keras
import numpy as np
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
    for name, value in inside.items():
        if name.startswith("_"):
            continue
        several = value if isinstance(value, list | tuple) else [value]
        for index, one in enumerate(several):
            if isinstance(one, keras.layers.Layer) and one not in seen:
                found.update(parts_of(one, f"{path}/{name}{index}", (*seen, layer)))
    return found


def flags(layer):
    """Of every part whether it is trained, and which of all weights are."""
    return {
        path: (part.trainable, [variable.trainable for variable in part.variables])
        for path, part in parts_of(layer).items()
    }


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
    return luong_seq2seq(9, 9, units=4, num_layers=2, copy=True, share_embeddings=True)


def built(layer, arrays):
    layer(**arrays)
    return layer


def check_each_part(original, remake):
    """Freezes every part on its own, and trains every part inside of a frozen whole."""
    paths = [path for path, part in parts_of(original).items() if part.variables]
    assert len(paths) > 3
    for frozen in (True, False):
        for path in paths:
            original.trainable = frozen
            parts_of(original)[path].trainable = not frozen
            expected = flags(original)
            assert flags(remake(original)) == expected, (path, frozen)


@pytest.mark.parametrize("name", LAYERS)
def test_a_config_keeps_what_is_frozen(name):
    make, arrays = LAYERS[name]
    check_each_part(
        built(make(), arrays),
        lambda layer: built(type(layer).from_config(layer.get_config()), arrays),
    )


def test_a_model_keeps_what_is_frozen():
    check_each_part(seq2seq(), lambda model: type(model).from_config(model.get_config()))


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
    assert layer.variables and not any(variable.trainable for variable in layer.variables)


def test_what_was_frozen_can_be_trained_again():
    make, arrays = LAYERS["decoder"]
    layer = make()
    layer.trainable = False
    again = built(type(layer).from_config(layer.get_config()), arrays)
    assert not again.trainable_variables
    again.trainable = True
    assert len(again.trainable_variables) == len(again.variables) > 5
    assert np.all([variable.trainable for variable in again.variables])
