"""The walk over nested layers."""

from keras import layers

from keras_luong.models.inner_layers import inner_layers, layer_at


def test_what_a_closed_layer_holds_is_not_found():
    both = layers.Bidirectional(layers.GRU(2))
    part = {"read": [both, layers.TimeDistributed(layers.Dense(2))]}
    found = [layer for _, layer in inner_layers(part, (layers.Bidirectional,))]
    assert found == [both, part["read"][1], part["read"][1].layer]
    paths = {id(layer): path for path, layer in inner_layers(part)}
    assert layer_at(part, paths[id(both.backward_layer)]) is both.backward_layer
