"""What every option of the layers must do, alone and in pairs: the checks walk `options.py`.

The numbers of each option are held against the paper's equations in the `*_numbers` files.
"""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    AttentionVector,
    BahdanauAttention,
    LuongAttention,
    MonotonicAttention,
    MultiSourceAttention,
    ResidualCell,
)
from tests.functional.tools import compiled
from tests.layers.layer_checks import (
    POLICIES,
    check_config,
    check_precision,
    check_saved,
    check_symbolic,
    symbolic_inputs,
    to_numpy,
)
from tests.layers.options import ALONE, PAIRS
from tests.reference import automatic_gradients, why_not

each_option = pytest.mark.parametrize("case", ALONE.values(), ids=ALONE)
each_pair = pytest.mark.parametrize("case", PAIRS.values(), ids=PAIRS)
x64 = keras.backend.backend() == "jax" and why_not("float32")
in_float32 = pytest.mark.skipif(bool(x64), reason=str(x64))
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="pairs of options run on TensorFlow"
)


# ---------------------------------------------------------------------------------------------
# The table is complete
# ---------------------------------------------------------------------------------------------

LAYERS = (
    AttentionDecoder,
    AttentionDecoderCell,
    AttentionVector,
    BahdanauAttention,
    LuongAttention,
    MonotonicAttention,
    MultiSourceAttention,
    ResidualCell,
)


def configs_of(layer):
    """The configs of a layer and of all layers inside, as Keras serializes them."""
    found = []

    def visit(config):
        if isinstance(config, dict):
            if "class_name" in config and isinstance(config.get("config"), dict):
                found.append((config["class_name"], config["config"]))
            for value in config.values():
                visit(value)
        elif isinstance(config, list | tuple):
            for value in config:
                visit(value)

    visit(keras.saving.serialize_keras_object(layer))
    return found


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_every_option_has_a_row(layer):
    configs = [
        config
        for case in ALONE.values()
        for name, config in configs_of(case.make())
        if name == layer.__name__
    ]
    if layer is AttentionVector:  # made by the cell, from options of its own
        configs = [case.make().cell.attention_vector.get_config() for case in DECODERS.values()]
    for name, parameter in inspect.signature(layer.__init__).parameters.items():
        if name == "self" or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        values = {repr(config[name]) for config in configs}
        plain = {repr(parameter.default), repr(keras.activations.serialize(keras.activations.tanh))}
        assert values - plain, f"no row sets {name} of {layer.__name__}"


DECODERS = {name: case for name, case in ALONE.items() if name.startswith("decoder")}


# ---------------------------------------------------------------------------------------------
# Config, shapes, saving, precision
# ---------------------------------------------------------------------------------------------


@each_option
def test_config(case):
    check_config(case.make())


@in_float32
@each_option
def test_symbolic_shapes(case):
    check_symbolic(case.make(), case.arrays, **case.call)


@in_float32
@each_option
def test_saved_and_loaded(case, tmp_path):
    check_saved(case.make(), case.arrays, tmp_path, **case.call)


@in_float32
@each_option
@pytest.mark.parametrize("policy", POLICIES)
def test_precision(case, policy):
    check_precision(case.make, case.arrays, policy, **case.call)


# ---------------------------------------------------------------------------------------------
# Invariance: to what padding holds, to how much there is, and to the other sentences
# ---------------------------------------------------------------------------------------------


def run(layer, arrays, **call):
    return to_numpy(layer(**arrays, **call))


def is_source(name):
    return name.startswith(("value", "key", "memory"))


def is_target(name):
    return name.startswith(("query", "sequences"))


def mapped(arrays, change):
    """`change(name, array)` for every array, also those in lists."""
    return {
        name: keras.tree.map_structure(lambda one, name=name: change(name, one), given)
        for name, given in arrays.items()
    }


def mask_of(arrays, name):
    if is_target(name):
        return arrays["query_mask" if "query_mask" in arrays else "sequences_mask"]
    return arrays["value_mask" if "value_mask" in arrays else "memory_mask"]


def with_garbage(arrays, garbage):
    """The arrays with garbage wherever their mask drops a position."""
    filled = dict(arrays)
    for name, given in arrays.items():
        if name.endswith("_mask") or not (is_source(name) or is_target(name)):
            continue
        if name != "query_position":
            filled[name] = keras.tree.map_structure(
                lambda one, mask: np.where(mask[..., None], one, one.dtype.type(garbage)),
                given,
                mask_of(arrays, name),
            )
    return filled


def longer(arrays, by=2):
    """The arrays with masked positions, full of garbage, after those of both sides."""

    def change(name, one):
        if name == "query_position":
            return np.pad(one, [(0, 0), (0, by)], constant_values=99.0)
        if name == "state":
            return np.pad(one, [(0, 0), (0, by)])
        if not (is_source(name) or is_target(name)):
            return one
        fill = False if one.dtype == bool else 1e9
        widths = [(0, 0), (0, by)] + [(0, 0)] * (one.ndim - 2)
        return np.pad(one, widths, constant_values=fill)

    return mapped(arrays, change)


def last_sentence(arrays):
    return mapped(arrays, lambda name, one: one[1:])


def start_of(array, shape):
    return array[tuple(slice(size) for size in shape)]


def check_invariance(case):
    layer = case.make()
    expected = run(layer, case.arrays, **case.call)
    for garbage in (np.nan, np.inf, -3e38):
        actual = run(layer, with_garbage(case.arrays, garbage), **case.call)
        for one, other in zip(actual, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    alone = run(layer, last_sentence(case.arrays), **case.call)
    for one, other in zip(alone, expected, strict=True):
        np.testing.assert_allclose(one, other[1:], rtol=0, atol=1e-5)
    padded = run(layer, longer(case.arrays), **case.call)
    # Scores over several sources stand side by side: padding the first moves the second.
    several = any(isinstance(case.arrays.get(name), list) for name in ("value", "memory"))
    for one, other in list(zip(padded, expected, strict=True))[: 1 if several else None]:
        steps = 2 * (other.dtype.kind == "i")  # a position counts masked steps
        np.testing.assert_allclose(start_of(one, other.shape), other + steps, rtol=0, atol=1e-5)


@in_float32
@each_option
def test_invariance(case):
    check_invariance(case)


# ---------------------------------------------------------------------------------------------
# States: a decoder goes on where it stopped
# ---------------------------------------------------------------------------------------------


def in_pieces(decoder, arrays):
    """The outputs of a call over a target, and of two calls over two pieces of it."""
    scores = {"return_attention_scores": True}

    def run(arrays):
        before = {name: one[:, :2] if is_target(name) else one for name, one in arrays.items()}
        after = {name: one[:, 2:] if is_target(name) else one for name, one in arrays.items()}
        first, *states = decoder(**before)
        after["initial_state"] = states
        return decoder(**arrays, **scores), first, decoder(**after, **scores), after

    # A program for all three takes JAX a third of the time.
    return (compiled(run) if keras.backend.backend() == "jax" else run)(arrays)


def pieces_case(name):
    """A decoder that returns its states, and arrays with holes in the mask of the first piece."""
    case = ALONE[name]
    mask = np.array([[False, True, True], [True, False, True]])
    decoder = AttentionDecoder(case.make().cell, return_state=True)
    named = ("sequences", "memory", "memory_key")
    given = [case.arrays[name] for name in named if name in case.arrays]
    decoder.build(*(keras.tree.map_structure(np.shape, one) for one in given))
    return decoder, {**case.arrays, "sequences_mask": mask}


def check_pieces(decoder, arrays, atol):
    whole, first, second, after = in_pieces(decoder, arrays)
    vectors, scores, *states = to_numpy(whole)
    of_second = [vectors[:, 2:], scores[:, 2:], *states]
    of_pieces = [(first, [vectors[:, :2]]), (second, of_second)]
    for piece, expected in of_pieces:
        for one, other in zip(to_numpy(piece), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=atol)
    return after, of_second


@in_float32
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_goes_on_from_its_states(name):
    check_pieces(*pieces_case(name), atol=2e-6)


@in_float32
@pytest.mark.parametrize("name", ["local_m", "coverage", "no_input_feeding"])
def test_a_decoder_goes_on_from_its_states_in_16_bits(name):
    keras.config.set_dtype_policy("mixed_float16")
    check_pieces(*pieces_case(f"decoder_{name}"), atol=2e-3)


@in_float32
@pytest.mark.parametrize("return_sequences", [True, False])
def test_the_fast_loop_goes_on_from_states(return_sequences):
    decoder, arrays = pieces_case("decoder_general")
    after, (vectors, *_) = check_pieces(decoder, arrays, atol=2e-6)
    fast = AttentionDecoder(decoder.cell, return_sequences=return_sequences)
    expected = vectors if return_sequences else vectors[:, 0]
    np.testing.assert_allclose(to_numpy(fast(**after))[0], expected, rtol=0, atol=2e-6)


@in_float32
@pytest.mark.parametrize("name", ["local_m", "coverage"])
def test_a_saved_model_goes_on_from_states(name, tmp_path):
    decoder, arrays = pieces_case(f"decoder_{name}")
    after, (vectors, _, *states) = check_pieces(decoder, arrays, atol=2e-6)
    after = keras.tree.map_structure(ops.convert_to_numpy, after)
    inputs = symbolic_inputs(after)
    keras.Model(inputs, decoder(**inputs)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.compile(jit_compile=keras.backend.backend() != "torch")
    actual = to_numpy(loaded.predict(after, verbose=0))
    for one, other in zip(actual, [vectors, *states], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


# ---------------------------------------------------------------------------------------------
# Gradients, along random directions, against differences in float64
# ---------------------------------------------------------------------------------------------


def floating(arrays):
    """Paths of the floating arrays in a structure, and the structure without them."""
    flat = keras.tree.flatten(arrays)
    return [index for index, one in enumerate(flat) if one.dtype.kind == "f"], flat


def floats_of(outputs):
    """The outputs but for positions, which have no gradient."""
    flat = keras.tree.flatten(outputs)
    return [one for one in flat if "float" in keras.backend.standardize_dtype(one.dtype)]


def check_gradients(case):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    layer = case.make()
    arrays = keras.tree.map_structure(
        lambda one: one.astype("float64") if one.dtype.kind == "f" else one, case.arrays
    )
    outputs = floats_of(run(layer, arrays, **case.call))
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(0.5 * rng.normal(size=variable.shape))
    weights = [rng.normal(size=one.shape) for one in outputs]
    where, flat = floating(arrays)

    def loss(*inputs):
        filled = list(flat)
        for index, one in zip(where, inputs, strict=True):
            filled[index] = one
        outputs = layer(**keras.tree.pack_sequence_as(arrays, filled), **case.call)
        parts = zip(floats_of(outputs), weights, strict=True)
        return sum(ops.sum(one * weight) for one, weight in parts)

    inputs, variables = [flat[index] for index in where], layer.trainable_variables
    for_inputs, for_variables = automatic_gradients(loss, inputs, variables)
    values = [ops.convert_to_numpy(variable) for variable in variables]
    for _ in range(2):
        along = [rng.normal(size=np.shape(one)) for one in [*inputs, *values]]
        slope = sum(
            np.sum(g * d) for g, d in zip([*for_inputs, *for_variables], along, strict=True)
        )

        def moved(step, along=along):
            for variable, value, d in zip(variables, values, along[len(inputs) :], strict=True):
                variable.assign(value + step * d)
            shifted = [one + step * d for one, d in zip(inputs, along, strict=False)]
            return float(ops.convert_to_numpy(loss(*map(ops.convert_to_tensor, shifted))))

        difference = (moved(1e-6) - moved(-1e-6)) / 2e-6
        moved(0.0)
        np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6)


in_float64 = pytest.mark.skipif(
    bool(why_not("float64")), reason=str(why_not("float64") or "float64 is there")
)


@in_float64
@each_option
def test_gradients(case):
    if keras.backend.backend() == "jax" and case in DECODERS.values():
        pytest.skip("Keras' own cells round to float32 there; test_attention_decoder_numbers.py")
    check_gradients(case)


# ---------------------------------------------------------------------------------------------
# Pairs of options
# ---------------------------------------------------------------------------------------------


@on_tensorflow
@each_pair
def test_pairs(case, tmp_path):
    check_config(case.make())
    check_symbolic(case.make(), case.arrays, **case.call)
    check_saved(case.make(), case.arrays, tmp_path, **case.call)
    check_invariance(case)


@on_tensorflow
@pytest.mark.long  # each option of a pair is in test_precision
@each_pair
@pytest.mark.parametrize("policy", POLICIES[1:])
def test_precision_of_pairs(case, policy):
    check_precision(case.make, case.arrays, policy, **case.call)


@on_tensorflow
@each_pair
def test_gradients_of_pairs(case):
    check_gradients(case)
