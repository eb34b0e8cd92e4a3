"""What every layer of this package must do, whatever it computes: Keras has no public `testing`."""

import inspect
import json

import keras
import numpy as np

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


@keras.saving.register_keras_serializable(package="tests")
class OwnCell(keras.layers.Layer):
    """A user's cell: no `training`, no `output_size`, two states of two depths."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, 2]

    def build(self, inputs_shape):
        self.kernel = self.add_weight(name="kernel", shape=(inputs_shape[-1], self.units))

    def call(self, inputs, states):
        h, count = states
        h = keras.ops.tanh(keras.ops.matmul(inputs, self.kernel) + 0.5 * h)
        return h, [h, count + 1.0]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def stacked_cells():
    """A stack whose layers have other depths and other numbers of states."""
    return keras.layers.StackedRNNCells([keras.layers.LSTMCell(3), keras.layers.GRUCell(4)])


def check_config(layer):
    """Config is JSON, holds every constructor argument, and makes the same layer again."""
    config = layer.get_config()
    arguments = inspect.signature(type(layer).__init__).parameters.values()
    named = {one.name for one in arguments if one.kind is not inspect.Parameter.VAR_KEYWORD}
    assert named - {"self"} <= set(config)
    again = type(layer).from_config(config)
    assert again is not layer and again.get_config() == config
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    # By its registered name: no custom objects are handed over.
    registered = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(registered) is type(layer)
    assert registered.get_config() == config


def symbolic_inputs(arrays, known=False):
    """`keras.Input`s like the arrays by name; with `known=False` only depths have a size."""

    def like(array, name=None):
        shape = array.shape
        if not known:
            depth = () if array.dtype == bool else shape[-1:]
            shape = (None,) * (array.ndim - len(depth)) + depth
        return keras.Input(batch_shape=shape, dtype=array.dtype.name, name=name)

    return {
        name: like(one, name) if hasattr(one, "shape") else keras.tree.map_structure(like, one)
        for name, one in arrays.items()
    }


def functional_model(layer, arrays, **arguments):
    """A functional model from inputs like `arrays`, lengths unknown, to the layer's outputs."""
    inputs = symbolic_inputs(arrays)
    return keras.Model(inputs, layer(**inputs, **arguments))


def to_numpy(outputs):
    """A structure of tensors as a flat list of arrays; bfloat16 becomes float32."""
    flat = keras.tree.flatten(outputs)
    return [
        keras.ops.convert_to_numpy(keras.ops.cast(one, "float32") if "16" in dtype_of(one) else one)
        for one in flat
    ]


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


def check_symbolic(layer, arrays, **arguments):
    """Symbolic outputs have the shapes and dtypes of the eager ones, or `None` for a size."""
    eager = keras.tree.flatten(layer(**arrays, **arguments))
    for known in (True, False):
        inputs = symbolic_inputs(arrays, known)
        symbolic = keras.tree.flatten(layer(**inputs, **arguments))
        assert len(symbolic) == len(eager)
        for spec, output in zip(symbolic, eager, strict=True):
            assert dtype_of(spec) == dtype_of(output)
            assert len(spec.shape) == len(output.shape)
            for expected, size in zip(spec.shape, output.shape, strict=True):
                assert expected == size or (expected is None and not known)


def check_saved(layer, arrays, path, **arguments):
    """A model of the layer, saved as `.keras` and loaded, predicts the very same numbers."""
    model = functional_model(layer, arrays, **arguments)
    for index, variable in enumerate(model.trainable_variables):
        # Not what any initializer would make again.
        values = np.random.default_rng(index).normal(size=variable.shape)
        variable.assign(values.astype("float32"))
    expected = to_numpy(model(arrays, training=False))
    model.save(path / "model.keras")
    loaded = keras.saving.load_model(path / "model.keras")
    for got, wanted in zip(to_numpy(loaded(arrays, training=False)), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    return loaded


def check_precision(make, arrays, policy, **arguments):
    """Under a policy: variables in float32, outputs finite and in the compute dtype."""
    keras.config.set_dtype_policy(policy)
    layer = make()
    outputs = keras.tree.flatten(layer(**arrays, **arguments))
    assert all(dtype_of(variable) == "float32" for variable in layer.trainable_variables)
    compute = keras.dtype_policies.get(policy).compute_dtype
    # The state of an attention adds up over the steps, in float32 at least; a position comes last.
    assert {dtype_of(output) for output in outputs[:-1]} <= {compute, "float32"}
    assert dtype_of(outputs[-1]) in {compute, "float32", "int32"}
    assert dtype_of(outputs[0]) == compute
    for output in to_numpy(outputs):
        assert np.isfinite(output).all() and output.any()


def check_training(layer, arrays, jit_compile, still=(), **arguments):
    """One step of `fit` has a finite loss and moves every variable, but for those named `still`."""
    model = functional_model(layer, arrays, **arguments)
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    labels = keras.tree.map_structure(lambda array: array + 1.0, list(to_numpy(model(arrays))))
    model.compile(keras.optimizers.SGD(1.0), loss=["mse"] * len(labels), jit_compile=jit_compile)
    history = model.fit(arrays, labels, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert before
    for variable, old in zip(model.trainable_variables, before, strict=True):
        new = keras.ops.convert_to_numpy(variable)
        assert np.isfinite(new).all() and (new != old).any() != (variable.name in still), (
            variable.path
        )
