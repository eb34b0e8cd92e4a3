"""Weights of TensorFlow Addons give its numbers, and the page on migrating from it is true.

The numbers come from `tensorflow_addons` itself: `tfa_weights/make_arrays.py` says how.
"""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    BahdanauAttention,
    LuongAttention,
    MaskedCrossentropy,
    MonotonicAttention,
    MultiSourceAttention,
    load_tfa_weights,
)
from tests import reference

FOLDER = Path(__file__).parent / "tfa_weights"
PAGE = Path(__file__).parents[2] / "docs" / "migrating-from-tfa.md"
STORED = dict(np.load(FOLDER / "arrays.npz"))


def of(name, kind):
    """The stored arrays `<name>/<kind>/...` without that prefix, in the stored order."""
    prefix = f"{name}/{kind}/"
    return {key.removeprefix(prefix): STORED[key] for key in STORED if key.startswith(prefix)}


def lstm(units=4):
    return keras.layers.LSTMCell(units)


def gru(units=4):
    return keras.layers.GRUCell(units)


def stack(*cells):
    return keras.layers.StackedRNNCells(list(cells))


def monotonic(attention, mode):
    return MonotonicAttention(attention, mode=mode)


# What `make_arrays.py` built, as one builds it here: the wrapped cell, the attention, `units`.
MODELS = {
    "luong": lambda: (lstm(), LuongAttention("general"), 7),
    "luong_scale": lambda: (gru(), LuongAttention("general", use_scale=True), None),
    "luong_hardmax": lambda: (gru(), LuongAttention("general", probability_fn="hardmax"), 7),
    "bahdanau": lambda: (lstm(), BahdanauAttention(6), 7),
    "bahdanau_normalize": lambda: (gru(), BahdanauAttention(6, normalize=True), None),
    "bahdanau_stack": lambda: (stack(gru(3), lstm(5)), BahdanauAttention(6), 4),
    "luong_lstms": lambda: (stack(lstm(), lstm()), LuongAttention("general"), 7),
    "luong_parallel": lambda: (
        lstm(),
        monotonic(LuongAttention("general", use_scale=True), "parallel"),
        7,
    ),
    "luong_recursive": lambda: (gru(), monotonic(LuongAttention("general"), "recursive"), None),
    "luong_hard": lambda: (lstm(), monotonic(LuongAttention("general"), "hard"), 7),
    "bahdanau_parallel": lambda: (gru(), monotonic(BahdanauAttention(6), "parallel"), None),
    "bahdanau_recursive": lambda: (
        lstm(),
        monotonic(BahdanauAttention(6, normalize=True), "recursive"),
        7,
    ),
    "bahdanau_hard": lambda: (
        gru(),
        monotonic(BahdanauAttention(6, normalize=True), "hard"),
        7,
    ),
}


def make_cell(name="luong", **kwargs):
    cell, attention, units = MODELS[name]()
    return AttentionDecoderCell(cell, attention, units, attention_activation=None, **kwargs)


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def check_equal(tensor, array):
    np.testing.assert_array_equal(to_numpy(tensor), array)


def check_numbers(cell, name):
    """The decoder over the stored inputs gives the stored vectors, scores and states."""
    inputs, outputs = of(name, "inputs"), of(name, "outputs")
    mask = reference.ragged_mask(inputs["lengths"], inputs["memory"].shape[1])
    states = [inputs[f"state_{i}"] for i in range(len(cell.state_size) - 1)]
    vectors, scores, *last = AttentionDecoder(cell, return_state=True)(
        inputs["sequences"],
        reference.with_garbage(inputs["memory"], mask),
        initial_state=states,
        memory_mask=mask,
        return_attention_scores=True,
    )
    got = {"vectors": vectors, "scores": scores}
    got |= {f"state_{index}": last[index] for index in range(len(states))}
    assert sorted(got) == sorted(outputs)
    for key, tensor in got.items():
        np.testing.assert_allclose(
            to_numpy(tensor), outputs[key], rtol=1e-5, atol=1e-5, err_msg=key
        )
    assert not to_numpy(scores)[~np.repeat(mask[:, None], 5, 1)].any()


def test_every_stored_model_is_tested():
    assert {key.split("/")[0] for key in STORED if "/weights/" in key} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_built_cell_gives_the_stored_numbers(name):
    cell = make_cell(name)
    cell.build((None, 3), memory_shape=(None, None, 5))
    load_tfa_weights(cell, of(name, "weights"))
    check_numbers(cell, name)


@pytest.mark.parametrize("name", ["luong_scale", "bahdanau_stack"])
def test_a_cell_that_is_not_built_is_built_from_the_arrays(name):
    decoder = AttentionDecoder(make_cell(name))
    load_tfa_weights(decoder, of(name, "weights"))
    check_numbers(decoder.cell, name)


def test_names_of_a_checkpoint():
    cell = make_cell("bahdanau_stack")
    load_tfa_weights(cell, of("checkpoint", "bahdanau_stack"))
    check_numbers(cell, "bahdanau_stack")


def test_the_scale_of_luong_attention_has_another_name_in_a_checkpoint():
    weights = of("luong_scale", "weights")
    (name,) = (key for key in weights if key.endswith("attention_g:0"))
    end = "scale_weight/.ATTRIBUTES/VARIABLE_VALUE"
    weights[f"decoder_cell/_attention_mechanisms/0/{end}"] = weights.pop(name)
    cell = make_cell("luong_scale")
    load_tfa_weights(cell, weights)
    assert float(cell.attention.scale) == weights[f"decoder_cell/_attention_mechanisms/0/{end}"]


def test_names_inside_a_model():
    """As `model.variables` has them where a model sets up the memory in its call."""
    renamed = {}
    for key, array in of("bahdanau_stack", "weights").items():
        inside = key.startswith("attention_wrapper")
        renamed[f"my_model/{'basic_decoder/decoder/' * inside}{key}"] = array
    wrapper = "my_model/basic_decoder/decoder/attention_wrapper"
    cell = make_cell("bahdanau_stack")
    load_tfa_weights(cell, renamed)
    check_equal(cell.attention.key_kernel, renamed["my_model/BahdanauAttention/kernel:0"])
    check_equal(cell.attention.query_kernel, renamed[f"{wrapper}/BahdanauAttention/kernel:0"])


def test_a_bias_of_the_attention_layer():
    weights = of("luong", "weights")
    bias = np.linspace(-1.0, 1.0, 7).astype("float32")
    plain, biased = make_cell(), make_cell(use_bias=True)
    load_tfa_weights(plain, weights)
    load_tfa_weights(biased, weights | {"attention_wrapper/attention_layer/bias:0": bias})
    check_equal(biased.attention_vector.bias, bias)
    check_equal(biased.attention_vector.kernel, to_numpy(plain.attention_vector.kernel))


# ---------------------------------------------------------------------------------------------
# Refused
# ---------------------------------------------------------------------------------------------


def without(end):
    return lambda weights: {key: weights[key] for key in weights if not key.endswith(end)}


def reshaped(end, shape):
    return lambda weights: {
        key: np.zeros(shape) if key.endswith(end) else array for key, array in weights.items()
    }


def also(**arrays):
    return lambda weights: (
        weights | {key.replace("__", "/") + ":0": np.zeros(shape) for key, shape in arrays.items()}
    )


REFUSED = {
    "none": (lambda weights: {}, "Received:\n  nothing"),
    "no memory layer": (without("LuongAttention/kernel:0"), r"memory_layer/kernel"),
    "no attention layer": (without("attention_layer/kernel:0"), r"Missing: attention_layer/kernel"),
    "no bias": (without("lstm_cell/bias:0"), "Missing: cell 0/bias"),
    "scalar kernel": (reshaped("LuongAttention/kernel:0", ()), r"LuongAttention/kernel:0 \(\)"),
    "other query": (reshaped("LuongAttention/kernel:0", (5, 3)), "Of another shape: memory_layer"),
    "other memory": (reshaped("LuongAttention/kernel:0", (2, 4)), "Of another shape"),
    "other vector": (reshaped("attention_layer/kernel:0", (9, 6)), "Of another shape: attention_l"),
    "a GRU's bias": (reshaped("lstm_cell/bias:0", (2, 12)), r"expected|Expected:[\s\S]*\(16,\)"),
    "few rows": (reshaped("lstm_cell/kernel:0", (7, 16)), "shape|rows for the input"),
    "scale": (also(LuongAttention__attention_g=()), "Not expected: LuongAttention/attention_g:0"),
    "a head": (also(dense__kernel=(7, 9), dense__bias=(9,)), r"dense/kernel:0 \(7, 9\), not known"),
    "a second mechanism": (
        also(Second__memory_layer__kernel=(5, 4), LuongAttention__memory_layer__kernel=(5, 4)),
        "Two variables seem to be memory_layer/kernel: 'Second/memory_layer/kernel:0' and",
    ),
    "a second cell": (
        also(a__lstm_cell_1__kernel=(4, 16), a__lstm_cell_1__recurrent_kernel=(4, 16)),
        "Not expected: a/lstm_cell_1/kernel:0, a/lstm_cell_1/recurrent_kernel:0",
    ),
}


@pytest.mark.parametrize("built", [True, False], ids=["built", "not built"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(what, built):
    change, message = REFUSED[what]
    cell = make_cell()
    if built:
        cell.build((None, 3), memory_shape=(None, None, 5))
    before = [np.array(to_numpy(variable)) for variable in cell.variables]
    with pytest.raises(ValueError, match=message):
        load_tfa_weights(cell, change(of("luong", "weights")))
    assert cell.built == built
    assert len(cell.variables) == len(before)
    for variable, old in zip(cell.variables, before, strict=True):
        check_equal(variable, old)


def test_the_error_lists_both_sides():
    weights = without("lstm_cell/bias:0")(of("luong", "weights"))
    with pytest.raises(ValueError) as caught:
        load_tfa_weights(make_cell(), weights)
    for line in (
        "  cell 0/bias (16,)",
        "  attention_layer/kernel (9, 7)",
        "  attention_wrapper/lstm_cell/kernel:0 (10, 16), taken for cell 0/kernel",
        "  LuongAttention/kernel:0 (5, 4), taken for memory_layer/kernel",
    ):
        assert line in str(caught.value).splitlines()


def test_a_sorted_stack_is_refused():
    """Sorted by name, the 11th cell of a program comes before its 3rd."""
    name = "attention_wrapper/stacked_rnn_cells/lstm_cell"
    late = {}
    for key, array in of("luong_lstms", "weights").items():
        key = key.replace(f"{name}/", f"{name}_9/").replace(f"{name}_1/", f"{name}_10/")
        late[key] = array
    load_tfa_weights(make_cell("luong_lstms"), late)
    with pytest.raises(ValueError, match="order"):
        load_tfa_weights(make_cell("luong_lstms"), dict(sorted(late.items())))


def test_two_kernels_that_cannot_be_told_apart_are_refused():
    """The names that a mechanism would have if its memory were set up inside the wrapper."""
    weights = {
        key.replace("BahdanauAttention/kernel", "A/kernel")
        if key.startswith("attention_wrapper")
        else key.replace("BahdanauAttention/kernel", "attention_wrapper/B/kernel"): array
        for key, array in of("bahdanau_stack", "weights").items()
    }
    with pytest.raises(ValueError, match="belongs to the memory, and which to the query"):
        load_tfa_weights(make_cell("bahdanau_stack"), weights)


@pytest.mark.parametrize(
    "attention",
    [
        LuongAttention("dot"),
        LuongAttention("concat", units=6),
        LuongAttention("location", max_source_length=9),
        LuongAttention("general", window="local_m"),
        MonotonicAttention(LuongAttention("dot")),
        MultiSourceAttention([LuongAttention("general")]),
    ],
    ids=lambda one: f"{type(one).__name__} {getattr(one, 'score_mode', '')}",
)
def test_attention_that_tensorflow_addons_does_not_have_is_refused(attention):
    cell = AttentionDecoderCell(lstm(), attention, 7)
    with pytest.raises(ValueError, match="TensorFlow Addons has the attention of"):
        load_tfa_weights(cell, of("luong", "weights"))


@pytest.mark.parametrize("option", [{"two_layer": True}, {"gate": "both"}])
def test_attention_vectors_that_tensorflow_addons_does_not_have_are_refused(option):
    with pytest.raises(ValueError, match="no gate"):
        load_tfa_weights(make_cell(**option), of("luong", "weights"))


def test_a_layer_without_attention_is_refused():
    with pytest.raises(TypeError, match="AttentionDecoderCell"):
        load_tfa_weights(lstm(), of("luong", "weights"))


# ---------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------


def table_rows():
    """The first column of the page's table of names."""
    return re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def code_blocks():
    """The page's Python blocks that do not use TensorFlow Addons, in order."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return [block for block in blocks if "tfa." not in block]


def test_the_table_has_every_public_name_once():
    names = (FOLDER / "public_names.txt").read_text(encoding="utf-8").split()
    assert len(names) > 30
    assert sorted(table_rows()) == sorted(names)


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # What the page says it was written to, for the depths of the page's decoder.
    np.savez("decoder.npz", **page_weights())
    names, blocks = {}, code_blocks()
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    batch = names["batch"]
    logits = to_numpy(names["model"](batch[0]))
    assert logits.shape == (2, 4, 40) and np.isfinite(logits).all()
    assert names["result"].ids.shape == (2, 1, 20)
    loaded = names["converted"].cell.attention_vector.kernel
    array = page_weights()["attention_wrapper/attention_layer/kernel:0"]
    check_equal(loaded[:48], array[32:])
    check_equal(loaded[48:], array[:32])


def page_weights():
    """An LSTM of 32 over a memory of 48, inputs of 16, attention vectors of 24."""
    shapes = {
        "attention_wrapper/attention_layer/kernel:0": (32 + 48, 24),
        "attention_wrapper/lstm_cell/kernel:0": (16 + 24, 128),
        "attention_wrapper/lstm_cell/recurrent_kernel:0": (32, 128),
        "attention_wrapper/lstm_cell/bias:0": (128,),
        "LuongAttention/memory_layer/kernel:0": (48, 32),
    }
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


@pytest.mark.parametrize("theirs", ["SequenceLoss", "sequence_loss"])
def test_the_loss_with_a_mask_for_weights_is_masked_crossentropy(theirs):
    loss = MaskedCrossentropy()(STORED["loss/targets"], STORED["loss/logits"])
    np.testing.assert_allclose(float(loss), STORED[f"loss/{theirs}"], rtol=1e-5)
