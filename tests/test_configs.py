"""The config of every public class holds every argument of its constructor, and makes it again."""

import importlib
import inspect

import keras
import pytest

from keras_luong import layers, models, training
from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    BahdanauAttention,
    LuongAttention,
)

ROOMS = ("layers", "models", "search", "text", "training", "serving")
# Contracts that others derive from.
ABSTRACT = (layers.Attention, layers.ScoredAttention)


def public_classes():
    """All that have a config."""
    found = []
    for room in ROOMS:
        module = importlib.import_module(f"keras_luong.{room}")
        members = [getattr(module, name) for name in module.__all__]
        found += [one for one in members if inspect.isclass(one) and hasattr(one, "get_config")]
    return [one for one in found if one not in ABSTRACT]


def own_cell(attention="general", **options):
    return AttentionDecoderCell(
        keras.layers.LSTMCell(4), LuongAttention(attention), units=4, **options
    )


OF_LAYER = {"name": "given", "trainable": False, "dtype": "mixed_bfloat16"}
# What a config says of parts that a layer makes itself.
OF_OWN_PARTS = {"attention_vector_trainable"}
OF_RNN = dict.fromkeys(
    ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask"), True
)
OF_CELL = {
    "units": 3,
    "activation": "relu",
    "recurrent_activation": "tanh",
    "use_bias": False,
    "unit_forget_bias": False,
    "dropout": 0.2,
    "recurrent_dropout": 0.3,
    "seed": 7,
    "kernel_initializer": keras.initializers.Zeros(),
    "recurrent_initializer": keras.initializers.Zeros(),
    "bias_initializer": keras.initializers.Ones(),
}
for _name in ("kernel", "recurrent", "bias"):
    OF_CELL[f"{_name}_regularizer"] = keras.regularizers.L2(0.5)
    OF_CELL[f"{_name}_constraint"] = keras.constraints.NonNeg()


def parts_of_seq2seq():
    return {
        "encoder": models.rnn_encoder(9, 4, 4, bidirectional=False),
        "target_embedding": keras.layers.Embedding(9, 4),
        "decoder": AttentionDecoder(own_cell()),
        "head": keras.layers.Dense(9),
    }


# For each class, arguments that are not the defaults. Several where options exclude each other;
# functions where Keras ties what is made to the one layer that it is made for.
ARGUMENTS = {
    layers.AttentionDecoder: [
        lambda: {
            "cell": own_cell(),
            "return_sequences": False,
            "return_state": True,
            "coverage_loss": 0.5,
            **OF_LAYER,
        }
    ],
    layers.AttentionDecoderCell: [
        lambda: {
            "cell": keras.layers.GRUCell(4),
            "attention": BahdanauAttention(3),
            "units": 5,
            "attention_activation": "relu",
            "use_bias": True,
            "gate": "both",
            "input_feeding": False,
            **OF_LAYER,
        },
        lambda: {
            "cell": keras.layers.GRUCell(4),
            "attention": BahdanauAttention(3),
            "units": 5,
            "two_layer": True,
        },
    ],
    layers.AttentionVector: [
        {"units": 5, "activation": "relu", "use_bias": True, "gate": "both", **OF_LAYER},
        {"units": 5, "two_layer": True},
    ],
    layers.BahdanauAttention: [
        {
            "units": 5,
            "normalize": True,
            "use_coverage": True,
            "probability_fn": "sparsemax",
            "dropout": 0.2,
            "seed": 7,
            **OF_LAYER,
        }
    ],
    layers.CopyMechanism: [
        {
            "vocabulary_size": 9,
            "target_ids": [0, 3, 2],
            "max_unknown_words": 2,
            "unknown_id": 2,
            **OF_LAYER,
        }
    ],
    layers.FastRNN: [
        lambda: {"cell": keras.layers.LSTMCell(3), "stateful": True, **OF_RNN, **OF_LAYER},
        lambda: {"cell": keras.layers.GRUCell(3), "unroll": True},
    ],
    layers.InverseSigmoidDecay: [{"k": 3.0}],
    layers.LayerNormLSTMCell: [{**OF_CELL, "epsilon": 0.1, **OF_LAYER}],
    layers.LuongAttention: [
        {
            "score_mode": "concat",
            "window": "local_p",
            "window_size": 2.5,
            "units": 5,
            "use_scale": True,
            "use_bias": True,
            "use_coverage": True,
            "probability_fn": "hardmax",
            "dropout": 0.2,
            "seed": 7,
            **OF_LAYER,
        },
        {"score_mode": "tutorial", "max_source_length": 6, "score_activation": "softmax"},
    ],
    layers.MonotonicAttention: [
        lambda: {
            "attention": BahdanauAttention(3),
            "mode": "hard",
            "sigmoid_noise": 0.5,
            "score_bias_init": -1.0,
            "dropout": 0.2,
            "seed": 7,
            **OF_LAYER,
        }
    ],
    layers.MultiSourceAttention: [
        lambda: {"attentions": [LuongAttention(), BahdanauAttention(3)], **OF_LAYER}
    ],
    layers.ResidualCell: [lambda: {"cell": keras.layers.GRUCell(3, dropout=0.2), **OF_LAYER}],
    layers.ScheduledSampling: [
        {
            "teacher_forcing": layers.InverseSigmoidDecay(3.0),
            "passes": 2,
            "draws": True,
            "seed": 7,
            **OF_LAYER,
        }
    ],
    layers.WordDropout: [
        {"rate": 0.2, "unknown_id": 4, "last_special_id": 5, "seed": 7, **OF_LAYER}
    ],
    models.Seq2Seq: [
        lambda: {
            **parts_of_seq2seq(),
            "copy_mechanism": layers.CopyMechanism(9),
            "dropout": 0.2,
            "variational_dropout": True,
            "word_dropout": 0.3,
            "consistency": 0.5,
            "name": "given",
            "trainable": False,
        },
        lambda: {**parts_of_seq2seq(), "scheduled_sampling": layers.ScheduledSampling(0.5)},
    ],
    models.Seq2SeqWithScores: [
        lambda: {
            "seq2seq": models.Seq2Seq(**parts_of_seq2seq()),
            "name": "given",
            "trainable": False,
        }
    ],
    training.GuidedAlignment: [{"name": "given"}],
    training.Halving: [{"initial_learning_rate": 0.7, "start": 3, "every": 2}],
    training.InverseSquareRoot: [{"peak": 0.1, "warmup": 3}],
    training.MaskedCrossentropy: [{"label_smoothing": 0.1, "padding_id": 3, "name": "given"}],
    training.Perplexity: [{"padding_id": 3, "name": "given", "dtype": "float16"}],
    training.TokenAccuracy: [{"padding_id": 3, "name": "given", "dtype": "float16"}],
}
ROWS = [(made, row) for made, rows in ARGUMENTS.items() for row in rows]


def arguments_of(row):
    return row() if callable(row) else dict(row)


def parameters_of(made):
    """Those of the constructor and, where it hands `**kwargs` on, of Keras' class below it."""
    parameters = {}
    for one in made.__mro__:
        # A functional model's class gets one of Keras' below it, once there is a model.
        if one is keras.layers.Layer or (one is not made and issubclass(one, keras.Model)):
            break
        if "__init__" in vars(one):
            signature = inspect.signature(one.__init__).parameters.values()
            kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
            named = {each.name: each for each in signature if each.kind not in kinds}
            parameters = {**named, **parameters}
            if len(named) == len(signature):
                break
    del parameters["self"]
    return parameters


@pytest.mark.parametrize("made", public_classes(), ids=lambda made: made.__name__)
def test_every_argument_of_every_public_class_has_a_row(made):
    given = set().union(*(arguments_of(row) for row in ARGUMENTS.get(made, [])))
    missing = set(parameters_of(made)) - given
    assert not missing, f"give {made.__name__} a row with {sorted(missing)}"


def in_config(value):
    """What stands in a config for an argument."""
    if isinstance(value, list):
        return [in_config(one) for one in value]
    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value


def without_training(config):
    """A config but for how a model is trained."""
    if isinstance(config, dict):
        return {name: one for name, one in config.items() if name != "compile_config"}
    return config


@pytest.mark.parametrize(("made", "row"), ROWS, ids=lambda one: getattr(one, "__name__", ""))
def test_config_holds_what_the_constructor_was_given(made, row):
    arguments = arguments_of(row)
    one = made(**arguments)
    config = one.get_config()
    parameters = parameters_of(made)
    for name, value in arguments.items():
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        assert value != default, f"{name} of {made.__name__} is the default: it shows nothing"
        expected = in_config(value)
        if name == "dtype" and isinstance(config[name], dict):
            expected = in_config(keras.dtype_policies.get(value))
        assert without_training(config[name]) == without_training(expected), name
    assert set(config) <= {*parameters, *OF_LAYER, *OF_OWN_PARTS}
    again = made.from_config(config)
    assert type(again) is made and again.get_config() == config


@pytest.mark.parametrize("made", ARGUMENTS, ids=lambda made: made.__name__)
def test_an_argument_that_there_is_not_is_an_error(made):
    arguments = arguments_of(ARGUMENTS[made][0])
    with pytest.raises((TypeError, ValueError), match="no_such_option"):
        made(**arguments, no_such_option=1)
