"""The paper's equations as slow float64 NumPy loops, and what the tests need to compare with them.

Everything up to `decode` is written from Luong, Pham and Manning (2015), section 3, and from the
textbook equations of the recurrent cells, one sentence, one target step and one source position at
a time. Only the order of the gates is Keras' own: `i, f, c, o` in an LSTM and `z, r, h` in a GRU.
Masked positions are skipped, never multiplied by zero, so garbage in them cannot reach a number.
"""

import dataclasses

import keras
import numpy as np

# ---------------------------------------------------------------------------------------------
# Attention
# ---------------------------------------------------------------------------------------------


def attention_logits(score_mode, query, keys, weights, kept):
    """The logits of one query `(d,)` over the kept ones of the keys `(s, d)`, as `{s: logit}`."""
    logits = {}
    for position in kept:
        if score_mode == "dot":
            logit = np.dot(query, keys[position])
        elif score_mode == "general":
            logit = np.dot(query, np.dot(keys[position], weights["kernel"]))
        elif score_mode == "concat":
            both = np.concatenate([query, keys[position]])
            kernel = np.concatenate([weights["query_kernel"], weights["key_kernel"]])
            logit = np.dot(weights["v"], np.tanh(np.dot(both, kernel) + weights.get("bias", 0.0)))
        elif score_mode == "location":
            logit = np.dot(query, weights["kernel"][:, position])
            if "bias" in weights:
                logit = logit + weights["bias"][position]
        else:
            raise ValueError(f"no such score in the reference: {score_mode!r}")
        logits[position] = weights.get("scale", 1.0) * logit
    return logits


def attend_once(score_mode, query, values, keys, weights, source_mask):
    """One query `(d,)` over one sentence: the context `(value depth,)` and the scores `(s,)`."""
    kept = [position for position in range(len(values)) if source_mask[position]]
    logits = attention_logits(score_mode, query, keys, weights, kept)
    context, scores = np.zeros(values.shape[-1]), np.zeros(len(values))
    if kept:
        largest = max(logits.values())
        total = sum(np.exp(logit - largest) for logit in logits.values())
    for position in kept:
        scores[position] = np.exp(logits[position] - largest) / total
        context = context + scores[position] * values[position]
    return context, scores


def attend(score_mode, query, value, weights, key=None, query_mask=None, value_mask=None):
    """All queries `(b, t, d)` over `value` `(b, s, d)`: context `(b, t, d)`, scores `(b, t, s)`."""
    key = value if key is None else key
    batch, target, source = len(value), query.shape[1], value.shape[1]
    query_mask = np.ones((batch, target), bool) if query_mask is None else query_mask
    value_mask = np.ones((batch, source), bool) if value_mask is None else value_mask
    context = np.zeros((batch, target, value.shape[-1]))
    scores = np.zeros((batch, target, source))
    for b in range(batch):
        for t in range(target):
            if query_mask[b, t]:
                context[b, t], scores[b, t] = attend_once(
                    score_mode, query[b, t], value[b], key[b], weights, value_mask[b]
                )
    return context, scores


# ---------------------------------------------------------------------------------------------
# Recurrent cells: `step(weights, inputs, states) -> (output, states)` for one sentence
# ---------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def lstm_step(weights, inputs, states):
    """An LSTM step; the states are `h` and `c`, each `(units,)`."""
    h, c = states
    gates = np.dot(inputs, weights["kernel"]) + np.dot(h, weights["recurrent_kernel"])
    i, f, candidate, o = np.split(gates + weights["bias"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
    h = sigmoid(o) * np.tanh(c)
    return h, [h, c]


def gru_step(weights, inputs, states):
    """A GRU step whose reset gate acts after the product (Keras' `reset_after=True`)."""
    (h,) = states
    bias, recurrent_bias = weights["bias"]
    from_inputs = np.split(np.dot(inputs, weights["kernel"]) + bias, 3)
    from_state = np.split(np.dot(h, weights["recurrent_kernel"]) + recurrent_bias, 3)
    z = sigmoid(from_inputs[0] + from_state[0])
    r = sigmoid(from_inputs[1] + from_state[1])
    candidate = np.tanh(from_inputs[2] + r * from_state[2])
    h = z * h + (1.0 - z) * candidate
    return h, [h]


def simple_rnn_step(weights, inputs, states):
    """An Elman step: `h = tanh(x W + h U + b)`."""
    (h,) = states
    products = np.dot(inputs, weights["kernel"]) + np.dot(h, weights["recurrent_kernel"])
    h = np.tanh(products + weights["bias"])
    return h, [h]


@dataclasses.dataclass
class Layer:
    """One recurrent layer of a stack: its step, its weights, its number of states."""

    step: callable
    weights: dict
    state_count: int


def stacked_step(layers, inputs, states):
    """All layers of a stack in order; the states are flat, the first layer's first."""
    new_states = []
    for layer in layers:
        own, states = states[: layer.state_count], states[layer.state_count :]
        inputs, own = layer.step(layer.weights, inputs, own)
        new_states.extend(own)
    return inputs, new_states


# ---------------------------------------------------------------------------------------------
# Decoder
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Decoder:
    """What a decoder is made of; `kernel=None` puts the context in the attention vector's place."""

    layers: list
    score_mode: str
    attention_weights: dict
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    activation: str = "tanh"
    input_feeding: bool = True

    def attention_vector(self, context, output):
        """`h~_t = activation([c_t; h_t] W_c)`."""
        if self.kernel is None:
            return context
        products = np.dot(np.concatenate([context, output]), self.kernel)
        if self.bias is not None:
            products = products + self.bias
        return np.tanh(products) if self.activation == "tanh" else products


@dataclasses.dataclass
class Decoded:
    """What a decoder returns: `states` are flat, `last_vector` is the last kept step's."""

    vectors: np.ndarray
    scores: np.ndarray
    states: list
    last_vector: np.ndarray


def decode_sentence(decoder, sequence, memory, states, vector, target_mask, source_mask):
    """One sentence `(t, d)`: vectors `(t, units)`, scores `(t, s)`, states and last vector."""
    vectors = np.zeros((len(sequence), len(vector)))
    scores = np.zeros((len(sequence), len(memory)))
    for t in range(len(sequence)):
        if not target_mask[t]:
            continue
        inputs = np.concatenate([sequence[t], vector]) if decoder.input_feeding else sequence[t]
        output, states = stacked_step(decoder.layers, inputs, states)
        context, scores[t] = attend_once(
            decoder.score_mode, output, memory, memory, decoder.attention_weights, source_mask
        )
        vector = decoder.attention_vector(context, output)
        vectors[t] = vector
    return vectors, scores, states, vector


def decode(decoder, sequences, memory, initial_states=None, target_mask=None, source_mask=None):
    """The decoder over a batch; `initial_states` are flat, each `(b, units)`, zeros by default."""
    batch, target, source = len(sequences), sequences.shape[1], memory.shape[1]
    target_mask = np.ones((batch, target), bool) if target_mask is None else target_mask
    source_mask = np.ones((batch, source), bool) if source_mask is None else source_mask
    if initial_states is None:
        initial_states = [
            np.zeros((batch, len(layer.weights["recurrent_kernel"])))
            for layer in decoder.layers
            for _ in range(layer.state_count)
        ]
    width = memory.shape[-1] if decoder.kernel is None else decoder.kernel.shape[-1]
    rows = [
        decode_sentence(
            decoder,
            sequences[b],
            memory[b],
            [state[b] for state in initial_states],
            np.zeros(width),
            target_mask[b],
            source_mask[b],
        )
        for b in range(batch)
    ]
    vectors, scores, states, last_vectors = zip(*rows, strict=True)
    return Decoded(
        vectors=np.stack(vectors),
        scores=np.stack(scores),
        states=[np.stack(state) for state in zip(*states, strict=True)],
        last_vector=np.stack(last_vectors),
    )


# ---------------------------------------------------------------------------------------------
# Ragged batches, weights and gradients
# ---------------------------------------------------------------------------------------------

GARBAGE = (np.nan, np.inf, -np.inf, 3e38, -3e38)


def ragged_mask(lengths, size):
    """A boolean mask `(b, size)` whose row `b` keeps its first `lengths[b]` positions."""
    return np.arange(size) < np.asarray(lengths)[:, None]


def with_garbage(array, mask, garbage=GARBAGE):
    """A copy of `array` `(b, n, d)` where positions outside the mask hold the garbage by turns."""
    filled = np.resize(np.asarray(garbage, dtype=array.dtype), array.shape)
    return np.where(mask[..., None], array, filled)


def set_weights(variables, arrays):
    """Give each variable the array of its name; both must have exactly the same names."""
    assert sorted(variable.name for variable in variables) == sorted(arrays)
    for variable in variables:
        assert variable.shape == arrays[variable.name].shape, variable.name
        variable.assign(arrays[variable.name])


def why_not(dtype):
    """Why this run does not test that precision, or `None` if it does."""
    backend = keras.backend.backend()
    if backend == "torch" and dtype == "float64":
        return "keras.ops.matmul on torch rounds float64 to float32"
    if backend == "jax":
        import jax

        if jax.config.jax_enable_x64 and dtype == "float32":
            return "with JAX_ENABLE_X64=1 float64 alone is tested"
        if not jax.config.jax_enable_x64 and dtype == "float64":
            return "JAX has float64 only with JAX_ENABLE_X64=1"
    return None


def central_differences(function, array, step=1e-5):
    """The gradient of the scalar `function()` with respect to `array`, which it reads anew."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = function()
        array[index] = kept - step
        below = function()
        array[index] = kept
        gradient[index] = (above - below) / (2.0 * step)
    return gradient


def automatic_gradients(loss, inputs, variables):
    """The backend's gradients of `loss(*inputs)`: a list for the inputs, one for the variables."""
    return {
        "tensorflow": _tensorflow_gradients,
        "jax": _jax_gradients,
        "torch": _torch_gradients,
    }[keras.backend.backend()](loss, inputs, variables)


def _tensorflow_gradients(loss, inputs, variables):
    import tensorflow as tf

    tensors, values = [tf.constant(array) for array in inputs], [v.value for v in variables]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        result = loss(*tensors)
    return _arrays(tape.gradient(result, [tensors, values], unconnected_gradients="zero"))


def _jax_gradients(loss, inputs, variables):
    import jax

    def pure(tensors, values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return loss(*tensors)

    values = [variable.value for variable in variables]
    return _arrays(jax.jit(jax.grad(pure, argnums=(0, 1)))(list(inputs), values))


def _torch_gradients(loss, inputs, variables):
    import torch

    tensors = [keras.ops.convert_to_tensor(array).requires_grad_() for array in inputs]
    values = [variable.value for variable in variables]
    gradients = torch.autograd.grad(loss(*tensors), tensors + values, allow_unused=True)
    dense = [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(tensors + values, gradients, strict=True)
    ]
    return _arrays([dense[: len(tensors)], dense[len(tensors) :]])


def _arrays(groups):
    return [[keras.ops.convert_to_numpy(gradient) for gradient in group] for group in groups]
