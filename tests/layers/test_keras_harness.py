"""Keras' own checks of a layer, on every layer of ours: its harness has no public name.

`AttentionDecoderCell` is checked inside its decoder: the harness cannot hand a memory over.
"""

import keras
import pytest
from keras import ops
from keras.src import testing

from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    AttentionVector,
    BahdanauAttention,
    CopyMechanism,
    FastRNN,
    LayerNormLSTMCell,
    LuongAttention,
    MonotonicAttention,
    MultiSourceAttention,
    ResidualCell,
    ScheduledSampling,
    WordDropout,
)


@keras.saving.register_keras_serializable(package="tests")
class TwoSources(MultiSourceAttention):
    """Two memories as two arguments, since the harness knows of no list among named inputs."""

    def build(self, query_shape, value_shape, other_shape):
        super().build(query_shape, [value_shape, other_shape])

    def __call__(self, query, value, other):
        return keras.layers.Layer.__call__(self, query, value, other)

    def call(self, query, value, other):
        return super().call(query, [value, other])

    def compute_output_spec(self, query, value, other):
        return super().compute_output_spec(query, [value, other])


QUERIES = {"query_shape": (2, 3, 4), "value_shape": (2, 5, 6)}
TARGET = {"sequences_shape": (2, 3, 4), "memory_shape": (2, 5, 6)}
SEQUENCES = (2, 3, 4)


def decoder_cell(**options):
    return AttentionDecoderCell(
        keras.layers.LSTMCell(4), LuongAttention("concat", use_coverage=True), 6, **options
    )


# Class, arguments, shapes of the inputs, shape of the output, and what else the harness is told.
LAYERS = {
    "luong": (LuongAttention, {}, QUERIES, (2, 3, 6), {}),
    "bahdanau": (BahdanauAttention, {"units": 7, "dropout": 0.5}, QUERIES, (2, 3, 6), {}),
    "monotonic": (
        MonotonicAttention,
        {"attention": BahdanauAttention(7), "sigmoid_noise": 1.0},
        QUERIES,
        (2, 3, 6),
        {},
    ),
    "two sources": (
        TwoSources,
        {"attentions": [LuongAttention(), MonotonicAttention(LuongAttention())]},
        {**QUERIES, "other_shape": (2, 7, 5)},
        (2, 3, 11),
        {},
    ),
    "vector": (
        AttentionVector,
        {"units": 7, "gate": "both"},
        {"context_shape": (2, 3, 4), "query_shape": (2, 3, 5), "inputs_shape": (2, 3, 6)},
        (2, 3, 7),
        {},
    ),
    "decoder": (AttentionDecoder, {"cell": decoder_cell()}, TARGET, (2, 3, 6), {}),
    "decoder without input feeding": (
        AttentionDecoder,
        {"cell": decoder_cell(input_feeding=False), "return_sequences": False},
        TARGET,
        (2, 6),
        {},
    ),
    "copying": (
        CopyMechanism,
        {"vocabulary_size": 8, "max_unknown_words": 2},
        {
            "logits_shape": (2, 3, 8),
            "attention_vectors_shape": (2, 3, 6),
            "attention_scores_shape": (2, 3, 5),
            "memory_shape": (2, 5, 6),
            "copied_ids_shape": (2, 5),
        },
        (2, 3, 10),
        {
            "input_dtype": {
                "logits_shape": "float32",
                "attention_vectors_shape": "float32",
                "attention_scores_shape": "float32",
                "memory_shape": "float32",
                "copied_ids_shape": "int32",
            },
            "supports_masking": False,
        },
    ),
    "residual": (
        keras.layers.RNN,
        {"cell": ResidualCell(keras.layers.GRUCell(4)), "return_sequences": True},
        SEQUENCES,
        (2, 3, 4),
        {},
    ),
    "layer norm": (keras.layers.RNN, {"cell": LayerNormLSTMCell(5)}, SEQUENCES, (2, 5), {}),
    "fast": (FastRNN, {"cell": keras.layers.GRUCell(5)}, SEQUENCES, (2, 5), {}),
    "word dropout": (
        WordDropout,
        {"rate": 0.5},
        (2, 3),
        (2, 3),
        {"input_dtype": "int32", "supports_masking": False},
    ),
    "scheduled sampling": (
        ScheduledSampling,
        {"teacher_forcing": 0.5, "draws": True, "seed": 3},
        (2, 3),
        (2, 3),
        {
            "input_dtype": "int32",
            "supports_masking": False,
            "call_kwargs": {"predict": lambda ids: ops.one_hot(ids, 9)},
            # Neither of these two hands `predict` over.
            "run_training_check": False,
            "run_mixed_precision_check": False,
        },
    ),
}
on_each_layer = pytest.mark.parametrize(
    ("layer", "arguments", "shapes", "output", "told"), LAYERS.values(), ids=LAYERS
)


@on_each_layer
def test_keras_own_checks_of_a_layer(layer, arguments, shapes, output, told):
    several = isinstance(shapes, dict)
    options = {"supports_masking": True, "run_training_check": not several, **told}
    testing.TestCase().run_layer_test(
        layer, arguments, input_shape=shapes, expected_output_shape=output, **options
    )
