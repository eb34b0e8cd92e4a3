"""Writes `arrays.npz` and `public_names.txt`: what TensorFlow Addons computes, and what it exports.

The tests compare `keras_luong` with these numbers and need no TensorFlow Addons. To write the files
again, with the versions they were written with (Python 3.11, CPU):

    pip install tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0 "numpy<2"
    python tests/layers/tfa_weights/make_arrays.py

Every model is an `AttentionWrapper` with random weights, stepped by hand. Arrays are named
`<model>/<kind>/<name>`, where kind is

- `weights`: the variables, by the names that TensorFlow gives them;
- `inputs`: `sequences (b, t, d)`, `memory (b, s, d)`, `lengths (b,)` of the memory, and
  `state_0`, `state_1`, ...: the wrapped cell's initial states, flat;
- `outputs`: `vectors (b, t, units)`, `scores (b, t, s)`, and the last `state_0`, ..., flat.

`checkpoint/<model>/<name>` holds the variables of one model by their names in a checkpoint, and
`loss/...` what the losses give.
"""

import inspect
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

HERE = Path(__file__).parent
BATCH, STEPS, SOURCE = 3, 5, 6
INPUT_DEPTH, MEMORY_DEPTH, QUERY_DEPTH, UNITS = 3, 5, 4, 6
LENGTHS = [6, 2, 4]

seq2seq, layers = tfa.seq2seq, tf.keras.layers


def stack():
    """Two layers of other depths; the query is as deep as the memory, so depths tell nothing."""
    return layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(MEMORY_DEPTH)])


def lstms():
    """Two layers of one depth, which only their order tells apart."""
    return layers.StackedRNNCells([layers.LSTMCell(QUERY_DEPTH), layers.LSTMCell(QUERY_DEPTH)])


def lstm():
    return layers.LSTMCell(QUERY_DEPTH)


def gru():
    return layers.GRUCell(QUERY_DEPTH)


# name: (cell, attention mechanism, its arguments, attention_layer_size, memory set up late)
MODELS = {
    "luong": (lstm, "LuongAttention", {"units": QUERY_DEPTH}, 7, False),
    "luong_scale": (gru, "LuongAttention", {"units": QUERY_DEPTH, "scale": True}, None, True),
    "luong_hardmax": (
        gru,
        "LuongAttention",
        {"units": QUERY_DEPTH, "probability_fn": "hardmax"},
        7,
        True,
    ),
    "bahdanau": (lstm, "BahdanauAttention", {"units": UNITS}, 7, True),
    "bahdanau_normalize": (
        gru,
        "BahdanauAttention",
        {"units": UNITS, "normalize": True},
        None,
        False,
    ),
    "bahdanau_stack": (stack, "BahdanauAttention", {"units": UNITS}, 4, False),
    "luong_lstms": (lstms, "LuongAttention", {"units": QUERY_DEPTH}, 7, True),
    "luong_parallel": (
        lstm,
        "LuongMonotonicAttention",
        {"units": QUERY_DEPTH, "scale": True, "mode": "parallel"},
        7,
        False,
    ),
    "luong_recursive": (
        gru,
        "LuongMonotonicAttention",
        {"units": QUERY_DEPTH, "mode": "recursive"},
        None,
        True,
    ),
    "luong_hard": (
        lstm,
        "LuongMonotonicAttention",
        {"units": QUERY_DEPTH, "mode": "hard"},
        7,
        True,
    ),
    "bahdanau_parallel": (
        gru,
        "BahdanauMonotonicAttention",
        {"units": UNITS, "mode": "parallel"},
        None,
        False,
    ),
    "bahdanau_recursive": (
        lstm,
        "BahdanauMonotonicAttention",
        {"units": UNITS, "normalize": True, "mode": "recursive"},
        7,
        True,
    ),
    "bahdanau_hard": (
        gru,
        "BahdanauMonotonicAttention",
        {"units": UNITS, "normalize": True, "mode": "hard"},
        7,
        False,
    ),
}
CHECKPOINT = "bahdanau_stack"


def random_weights(variables, rng):
    for variable in variables:
        shape = tuple(variable.shape)
        name = variable.name
        if "attention_g" in name:  # a factor: not near 0
            values = rng.uniform(1.2, 2.0, shape)
        elif "attention_score_bias" in name:
            values = rng.uniform(-0.6, -0.3, shape)
        else:
            values = rng.normal(0.0, 0.7, shape)
        variable.assign(values.astype("float32"))


def run_model(name, rng):
    """One model, from weights to outputs, as `{kind/name: array}`; and its wrapper."""
    make_cell, mechanism_name, arguments, size, late = MODELS[name]
    # Names of layers count on from model to model otherwise.
    tf.keras.backend.clear_session()
    mechanism_class = getattr(seq2seq, mechanism_name)
    memory = rng.normal(size=(BATCH, SOURCE, MEMORY_DEPTH)).astype("float32")
    sequences = rng.normal(size=(BATCH, STEPS, INPUT_DEPTH)).astype("float32")
    lengths = np.asarray(LENGTHS, "int32")
    # The two ways to hand the memory over give the variables different names.
    if late:
        mechanism = mechanism_class(**arguments)
        mechanism.setup_memory(memory, memory_sequence_length=lengths)
    else:
        mechanism = mechanism_class(memory=memory, memory_sequence_length=lengths, **arguments)
    wrapper = seq2seq.AttentionWrapper(make_cell(), mechanism, attention_layer_size=size)
    state = wrapper.get_initial_state(batch_size=BATCH, dtype=tf.float32)
    wrapper(sequences[:, 0], state)  # makes the variables
    random_weights(wrapper.variables, rng)
    # Once more: the keys were projected with the weights of before.
    mechanism.setup_memory(memory, memory_sequence_length=lengths)

    start = tf.nest.map_structure(
        lambda one: tf.constant(rng.normal(0.0, 0.5, one.shape), tf.float32), state.cell_state
    )
    state = wrapper.get_initial_state(batch_size=BATCH, dtype=tf.float32).clone(cell_state=start)
    vectors, scores = [], []
    for t in range(STEPS):
        output, state = wrapper(sequences[:, t], state)
        np.testing.assert_array_equal(output, state.attention)
        vectors.append(state.attention.numpy())
        scores.append(state.alignments.numpy())
    arrays = {
        "inputs/sequences": sequences,
        "inputs/memory": memory,
        "inputs/lengths": lengths,
        "outputs/vectors": np.stack(vectors, axis=1),
        "outputs/scores": np.stack(scores, axis=1),
    }
    for index, (first, last) in enumerate(
        zip(tf.nest.flatten(start), tf.nest.flatten(state.cell_state))  # noqa: B905
    ):
        arrays[f"inputs/state_{index}"] = first.numpy()
        arrays[f"outputs/state_{index}"] = last.numpy()
    weights = {variable.name: variable.numpy() for variable in wrapper.variables}
    assert len(weights) == len(wrapper.variables), "two variables of one name"
    arrays.update({f"weights/{key}": value for key, value in weights.items()})
    return arrays, wrapper


def run_hard_model(name, first_seed):
    """The first of the seeds whose model moves and stops: another would test nothing."""
    for seed in range(first_seed, first_seed + 100):
        arrays, wrapper = run_model(name, np.random.default_rng(seed))
        rows = arrays["outputs/scores"].reshape(-1, SOURCE)
        if rows.any(axis=-1).mean() > 0.5 and len(set(rows.argmax(axis=-1))) >= 4:
            return arrays, wrapper
    raise RuntimeError(f"no seed makes {name} move")


def run_losses(rng):
    logits = rng.normal(size=(BATCH, STEPS, 8)).astype("float32")
    targets = rng.integers(1, 8, (BATCH, STEPS)).astype("int32")
    kept = np.arange(STEPS) < np.asarray([5, 2, 3])[:, None]
    targets = np.where(kept, targets, 0).astype("int32")
    weights = kept.astype("float32")
    return {
        "logits": logits,
        "targets": targets,
        "SequenceLoss": seq2seq.SequenceLoss()(targets, logits, weights).numpy(),
        "sequence_loss": seq2seq.sequence_loss(logits, targets, weights).numpy(),
    }


def checkpoint_arrays(wrapper):
    with tempfile.TemporaryDirectory() as folder:
        path = tf.train.Checkpoint(decoder_cell=wrapper).write(f"{folder}/model")
        names = [name for name, shape in tf.train.list_variables(path)]
        return {
            name: tf.train.load_variable(path, name)
            for name in names
            if name.startswith("decoder_cell/")
        }


def public_names():
    """What `tensorflow_addons.seq2seq` exports: classes and functions, no modules."""
    return sorted(
        name
        for name, value in vars(seq2seq).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    )


def main():
    arrays = {}
    for seed, name in enumerate(MODELS):
        if name.endswith("hard"):
            of_model, wrapper = run_hard_model(name, first_seed=100 * seed)
        else:
            of_model, wrapper = run_model(name, np.random.default_rng(seed))
        arrays.update({f"{name}/{key}": value for key, value in of_model.items()})
        if name == CHECKPOINT:
            saved = checkpoint_arrays(wrapper)
            arrays.update({f"checkpoint/{name}/{key}": value for key, value in saved.items()})
    losses = run_losses(np.random.default_rng(2017))
    arrays.update({f"loss/{key}": value for key, value in losses.items()})
    np.savez_compressed(HERE / "arrays.npz", **arrays)
    names = "\n".join(public_names()) + "\n"
    (HERE / "public_names.txt").write_text(names, encoding="utf-8")
    print(f"{len(arrays)} arrays of {len(MODELS)} models, {len(names.split())} public names")


if __name__ == "__main__":
    main()
