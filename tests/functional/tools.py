"""What the tests of the pure functions share: random arrays, precisions, and the compilers."""

import keras
import numpy as np

from tests.reference import automatic_gradients, why_not

BACKEND = keras.backend.backend()

# The precision that numbers are compared in, here, and how far they and gradients may be off.
DTYPE = "float32" if why_not("float64") else "float64"
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}[DTYPE]
GRADIENT_TOLERANCE = {"float32": 1e-4, "float64": 1e-6}[DTYPE]


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def tensor(array, dtype="float32"):
    return keras.ops.convert_to_tensor(array, dtype)


def weighted(tensor, upstream):
    """A scalar whose gradient with respect to the tensor is `upstream`."""
    return keras.ops.sum(tensor * keras.ops.cast(upstream, tensor.dtype))


def compiled(function):
    """The function as XLA runs it; as it is on torch, which has another compiler."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    return function


def gradients_of(loss, inputs):
    """The backend's gradients of `loss(*inputs)` for the inputs."""

    def of_all(*tensors):
        # torch refuses a loss that does not depend on what can be trained, such as hard choices.
        result = loss(*tensors)
        for one in tensors:
            nothing = keras.ops.where(keras.ops.zeros_like(one, "bool"), one, 0.0)
            result = result + keras.ops.cast(keras.ops.sum(nothing), result.dtype)
        return result

    return automatic_gradients(of_all, inputs, [])[0]


def gradients_under_xla(loss, inputs):
    """The gradients of `loss(*inputs)` for the inputs, forward and backward compiled as one."""
    if BACKEND != "tensorflow":
        return gradients_of(loss, inputs)  # compiled already on JAX
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def gradients(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = loss(*tensors)
        return tape.gradient(result, tensors)

    return [one.numpy() for one in gradients(*(tf.constant(one) for one in inputs))]
