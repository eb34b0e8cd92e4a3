"""Every option gives the same context whether attention scores are asked for or not.

Whoever asks for them leaves attention in blocks and the decoder's fast loop, the two ways that
training takes; so each row of the options' table runs both ways here, in blocks of a few weights.
"""

import importlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.layers import attention_decoder, luong_attention
from tests.layers.layer_checks import POLICIES, dtype_of, to_numpy
from tests.layers.options import ALONE, PAIRS
from tests.reference import automatic_gradients, why_not

BACKEND = keras.backend.backend()
blocks = importlib.import_module("keras_luong.functional.long_attention")
# A decoder in mixed precision rounds every state to 8 or 11 bits, in either loop at other places.
TOLERANCE = {"float32": 2e-6, "mixed_bfloat16": 4e-2, "mixed_float16": 4e-3}
# Dropout needs the weights of all steps, and so does what is no softmax over the whole source.
IN_BLOCKS = {"dot", "general", "key", "two_sources", "decoder_no_input_feeding"}
IN_BLOCKS_OUTSIDE_OF_TRAINING = {"dropout"}
IN_THE_FAST_LOOP = {"decoder_general", "decoder_bias_linear", "decoder_key"}
x64 = BACKEND == "jax" and why_not("float32")
pytestmark = pytest.mark.skipif(bool(x64), reason=str(x64))


@pytest.fixture(autouse=True)
def ways(monkeypatch):
    """The ways that were taken: blocks, which hold a row or two of weights, and the fast loop."""
    taken = set()

    def noting(module, name, what):
        function = getattr(module, name)

        def noted(*arguments, **options):
            taken.add(what)
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, noted)

    monkeypatch.setattr(blocks, "LONG_FROM", 0)
    monkeypatch.setattr(blocks, "_BLOCK", 8)
    noting(luong_attention.functional, "long_attention", "blocks")
    noting(attention_decoder, "run_fast", "fast loop")
    return taken


def seeded(layer):
    """Puts the seeds back, for the same dice to be thrown again."""
    seeds = layer.non_trainable_variables
    start = [ops.convert_to_numpy(one) for one in seeds]

    def again():
        keras.utils.set_random_seed(0)  # what torch draws with
        for variable, value in zip(seeds, start, strict=True):
            variable.assign(value)

    return again


def made(case):
    """The layer, with weights that none begins with, such as a scale that is not 1."""
    layer = case.make()
    layer(**case.arrays, return_attention_scores=True)
    for index, variable in enumerate(layer.trainable_variables):
        values = np.random.default_rng(index).normal(size=variable.shape)
        variable.assign(0.7 * values.astype("float32"))
    return layer


def first(outputs):
    return keras.tree.flatten(outputs)[0]


def both_ways(case, training):
    layer = made(case)
    again = seeded(layer)

    def run(scores):
        again()
        return first(layer(**case.arrays, return_attention_scores=scores, training=training))

    results = run(True), run(False)
    assert dtype_of(results[0]) == dtype_of(results[1])
    return to_numpy(results)


def ways_of(name, training):
    in_blocks = IN_BLOCKS if training else IN_BLOCKS | IN_BLOCKS_OUTSIDE_OF_TRAINING
    found = {"blocks": in_blocks, "fast loop": IN_THE_FAST_LOOP}
    return {way for way, names in found.items() if name in names}


@pytest.mark.parametrize(
    ("name", "training"),
    [*((name, True) for name in ALONE), ("dropout", False), ("decoder_gru_dropout", False)],
)
def test_numbers(name, training, ways):
    with_scores, without = both_ways(ALONE[name], training)
    np.testing.assert_allclose(without, with_scores, rtol=0, atol=TOLERANCE["float32"])
    assert ways == ways_of(name, training)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="pairs of options run on TensorFlow")
@pytest.mark.long  # each option of a pair is in test_numbers
@pytest.mark.parametrize("name", PAIRS)
def test_numbers_of_pairs(name):
    with_scores, without = both_ways(PAIRS[name], training=True)
    np.testing.assert_allclose(without, with_scores, rtol=0, atol=TOLERANCE["float32"])


@pytest.mark.parametrize("policy", POLICIES[1:])
@pytest.mark.parametrize("name", sorted(IN_BLOCKS | IN_THE_FAST_LOOP))
def test_numbers_in_mixed_precision(name, policy):
    keras.config.set_dtype_policy(policy)
    with_scores, without = both_ways(ALONE[name], training=False)
    np.testing.assert_allclose(without, with_scores, rtol=0, atol=TOLERANCE[policy])


@pytest.mark.parametrize("name", sorted(IN_BLOCKS | IN_THE_FAST_LOOP))
def test_gradients(name):
    case = ALONE[name]
    layer = made(case)
    floating = [one for one in case.arrays.items() if getattr(one[1], "dtype", None) == "float32"]
    names, inputs = zip(*floating, strict=True)
    upstream = np.random.default_rng(1).normal(size=first(layer(**case.arrays)).shape)

    def loss(scores):
        def of(*inputs):
            given = {**case.arrays, **dict(zip(names, inputs, strict=True))}
            output = first(layer(**given, return_attention_scores=scores))
            return ops.sum(output * ops.cast(upstream, output.dtype))

        return of

    without, with_scores = (
        automatic_gradients(loss(scores), inputs, layer.trainable_variables)
        for scores in (False, True)
    )
    for one, other in zip(
        keras.tree.flatten(without), keras.tree.flatten(with_scores), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
