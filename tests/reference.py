"""The papers' equations as slow float64 NumPy loops, and what the tests need to compare with them.

Everything up to `decode` is written from Luong, Pham and Manning (2015), section 3, from the papers
named below, and from the textbook equations of the recurrent cells, one sentence, one target step
and one source position at a time. Only the order of the gates is Keras' own: `i, f, c, o` in an
LSTM and `z, r, h` in a GRU. Masked positions are skipped, never multiplied by zero, so garbage in
them cannot reach a number.
"""

import dataclasses

import keras
import numpy as np

# ---------------------------------------------------------------------------------------------
# Attention logits
# ---------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x):
    powers = [np.exp(element - max(x)) for element in x]
    return np.array([power / sum(powers) for power in powers])


ACTIVATIONS = {
    "linear": lambda x: x,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softmax": softmax,
}


def attention_logit(attention, query, key, position, coverage):
    """The logit of one query `(d,)` for one key `(d,)`, which stands at that position."""
    weights, score_mode = attention.weights, attention.score_mode
    if score_mode == "dot":
        return np.dot(query, key)
    if score_mode == "general":
        return np.dot(query, np.dot(key, weights["kernel"]))
    if score_mode == "location":
        logit = np.dot(query, weights["kernel"][:, position])
        return logit + weights["bias"][position] if "bias" in weights else logit
    if score_mode == "tutorial":
        of_query = np.dot(weights["v"], np.dot(query, weights["kernel"][position]))
        return of_query + np.dot(weights["u"], ACTIVATIONS[attention.score_activation](key))
    if score_mode in ("concat", "bahdanau"):
        both = np.concatenate([query, key])
        hidden = np.dot(both, np.concatenate([weights["query_kernel"], weights["key_kernel"]]))
        if "bias" in weights:
            hidden = hidden + weights["bias"]
        if "coverage_kernel" in weights:  # See, Liu, Manning 2017, equation 11
            hidden = hidden + weights["coverage_kernel"] * coverage[position]
        v = weights["v"]
        if "g" in weights:  # Salimans, Kingma 2016
            v = weights["g"] * v / np.sqrt(sum(element**2 for element in v))
        return np.dot(v, np.tanh(hidden))
    raise ValueError(f"no such score in the reference: {score_mode!r}")


# ---------------------------------------------------------------------------------------------
# From the logits `{position: logit}` of the positions that count to their scores
# ---------------------------------------------------------------------------------------------


def softmax_scores(logits):
    return dict(zip(logits, softmax(list(logits.values())), strict=True)) if logits else {}


def hardmax_scores(logits):
    """All weight on the first of the highest."""
    best = max(logits, key=lambda position: (logits[position], -position), default=None)
    return {position: float(position == best) for position in logits}


def sparsemax_scores(logits):
    """Martins and Astudillo (2016), algorithm 1."""
    descending, support_sum, size = sorted(logits.values(), reverse=True), 0.0, 0
    for count, z in enumerate(descending, start=1):
        if 1.0 + count * z > sum(descending[:count]):
            support_sum, size = sum(descending[:count]), count
    return {s: max(z - (support_sum - 1.0) / size, 0.0) for s, z in logits.items()}


PROBABILITIES = {
    "softmax": softmax_scores,
    "hardmax": hardmax_scores,
    "sparsemax": sparsemax_scores,
}


# ---------------------------------------------------------------------------------------------
# Attention: `step` attends with one query `(d,)` over one sentence and gives the context
# `(value depth,)`, the scores `(s,)` and the state after it, `(s,)` or `None`
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Attention:
    """Luong's attention and Bahdanau's; which weights are there says what the score has."""

    score_mode: str
    weights: dict
    window: str = "global"
    window_size: float | None = None
    probability_fn: str = "softmax"
    score_activation: str = "sigmoid"

    @property
    def has_state(self):
        return "coverage_kernel" in self.weights

    @property
    def needs_position(self):
        return self.window == "local_m"

    def start(self, values):
        return np.zeros(len(values)) if self.has_state else None

    def centre(self, query, kept, position):
        """Where the window stands; in a predicted one, S is 1 + the last kept position."""
        if self.window == "local_m":
            return position
        hidden = np.tanh(np.dot(query, self.weights["position_kernel"]))
        share = sigmoid(np.dot(self.weights["position_v"], hidden))
        return (1 + max(kept, default=-1)) * share

    def logits(self, query, keys, positions, coverage):
        scale = self.weights.get("scale", 1.0)
        return {s: scale * attention_logit(self, query, keys[s], s, coverage) for s in positions}

    def step(self, query, values, keys, source_mask, position, state):
        positions = kept = [s for s in range(len(values)) if source_mask[s]]
        if self.window != "global":
            centre, size = self.centre(query, kept, position), self.window_size
            positions = [s for s in kept if centre - size <= s <= centre + size]
        logits = self.logits(query, keys, positions, state)
        by_position = PROBABILITIES[self.probability_fn](logits)
        if self.window == "local_p":
            variance = (size / 2.0) ** 2
            for s in positions:
                by_position[s] *= np.exp(-((s - centre) ** 2) / (2.0 * variance))
        context, scores = weighed(values, by_position)
        return context, scores, state + scores if self.has_state else None


@dataclasses.dataclass
class Monotonic:
    """Raffel et al. (2017): the expectation over all the places where a reader may have stood.

    Written as the sum over where the reader starts and where it stops, not as the recursion.
    """

    attention: Attention
    score_bias: np.ndarray
    mode: str = "parallel"

    has_state = True
    needs_position = False

    def start(self, values):
        return np.array([float(s == 0) for s in range(len(values))])

    def step(self, query, values, keys, source_mask, position, state):
        kept = [s for s in range(len(values)) if source_mask[s]]
        logits = self.attention.logits(query, keys, kept, None)
        by_position = dict.fromkeys(kept, 0.0)
        for before in range(len(values)):
            still_reading = state[before]
            for s in kept:
                if s >= before:
                    logit = logits[s] + self.score_bias
                    stops = float(logit > 0.0) if self.mode == "hard" else sigmoid(logit)
                    by_position[s] += still_reading * stops
                    still_reading = still_reading * (1.0 - stops)
        context, scores = weighed(values, by_position)
        return context, scores, scores


@dataclasses.dataclass
class MultiSource:
    """Several attentions, each over its own source; everything stands side by side."""

    attentions: list

    @property
    def has_state(self):
        return any(one.has_state for one in self.attentions)

    @property
    def needs_position(self):
        return any(one.needs_position for one in self.attentions)

    def start(self, values):
        if not self.has_state:
            return None
        parts = zip(self.attentions, values, strict=True)
        # An attention without a state has zeros in its place.
        return np.concatenate(
            [one.start(own) if one.has_state else np.zeros(len(own)) for one, own in parts]
        )

    def step(self, query, values, keys, source_mask, position, state):
        contexts, scores, states, begin = [], [], [], 0
        for one, *own in zip(self.attentions, values, keys, source_mask, strict=True):
            end = begin + len(own[0])
            own_state = state[begin:end] if one.has_state else None
            context, own_scores, new_state = one.step(query, *own, position, own_state)
            contexts.append(context)
            scores.append(own_scores)
            if self.has_state:
                states.append(new_state if one.has_state else state[begin:end])
            begin = end
        state = np.concatenate(states) if self.has_state else None
        return np.concatenate(contexts), np.concatenate(scores), state


def weighed(values, by_position):
    """The context and the scores `(s,)` of weights by position."""
    context, scores = np.zeros(values.shape[-1]), np.zeros(len(values))
    for position, score in by_position.items():
        scores[position] = score
        context = context + score * values[position]
    return context, scores


@dataclasses.dataclass
class Attended:
    """What attending gives: `state` is that after the last query, or `None`."""

    context: np.ndarray
    scores: np.ndarray
    state: np.ndarray | None


def attend(
    attention,
    query,
    value,
    key=None,
    query_mask=None,
    value_mask=None,
    query_position=None,
    state=None,
):
    """All queries `(b, t, d)` over `value` `(b, s, d)`, one after the other.

    Several sources have a list for `value`, `key` and `value_mask`.
    """
    batch, target = query.shape[:2]
    key, value_mask = _with_defaults(value, key, value_mask)
    query_mask = np.ones((batch, target), bool) if query_mask is None else query_mask
    positions = np.arange(target) if query_position is None else query_position
    positions = np.broadcast_to(positions, (batch, target))
    rows = []
    for b in range(batch):
        values, keys, source_mask = (_of_sentence(one, b) for one in (value, key, value_mask))
        own_state = attention.start(values) if state is None else state[b]
        nothing = _nothing(values)
        contexts, scores = [], []
        for t in range(target):
            context, own_scores = nothing
            if query_mask[b, t]:
                context, own_scores, own_state = attention.step(
                    query[b, t], values, keys, source_mask, positions[b, t], own_state
                )
            contexts.append(context)
            scores.append(own_scores)
        rows.append((np.stack(contexts), np.stack(scores), own_state))
    context, scores, states = zip(*rows, strict=True)
    return Attended(
        np.stack(context), np.stack(scores), np.stack(states) if attention.has_state else None
    )


def _with_defaults(value, key, value_mask):
    """Key and mask, several for several sources."""
    if isinstance(value, list):
        none = [None] * len(value)
        parts = zip(value, key or none, value_mask or none, strict=True)
        keys, masks = zip(*(_with_defaults(*part) for part in parts), strict=True)
        return list(keys), list(masks)
    mask = np.ones(value.shape[:2], bool) if value_mask is None else value_mask
    return value if key is None else key, mask


def _of_sentence(batch, b):
    return [one[b] for one in batch] if isinstance(batch, list) else batch[b]


def _nothing(values):
    """Context and scores of a step that does not attend."""
    values = values if isinstance(values, list) else [values]
    depth, length = sum(one.shape[-1] for one in values), sum(len(one) for one in values)
    return np.zeros(depth), np.zeros(length)


# ---------------------------------------------------------------------------------------------
# Attention vector
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Vector:
    """Luong's `h~_t`; gates after Tu et al. (2017). Without a `"kernel"` it is the context."""

    weights: dict
    activation: str = "tanh"
    gate: str | None = None

    def gate_of(self, *parts):
        products = np.dot(np.concatenate(parts), self.weights["gate_kernel"])
        return sigmoid(products + self.weights["gate_bias"])

    def __call__(self, context, query, inputs):
        weights, activate = self.weights, ACTIVATIONS[self.activation]
        if self.gate == "context":
            context = self.gate_of(context, query) * context
        if "kernel" not in weights:
            return context
        bias = weights.get("bias", 0.0)
        if "hidden_kernel" in weights:
            hidden = np.dot(context, weights["hidden_kernel"]) + weights["hidden_bias"]
            return activate(np.dot(activate(hidden), weights["kernel"]) + bias)
        of_source, of_target = 1.0, 1.0
        if self.gate in ("source", "both"):
            of_source = self.gate_of(inputs, query, context)
        if self.gate == "target":
            of_target = self.gate_of(inputs, query, context)
        if self.gate == "both":
            of_target = 1.0 - of_source
        source = np.dot(context, weights["kernel"][: len(context)])
        target = np.dot(query, weights["kernel"][len(context) :])
        return activate(of_source * source + of_target * target + bias)


# ---------------------------------------------------------------------------------------------
# Recurrent cells: `step(weights, inputs, states) -> (output, states)` for one sentence
# ---------------------------------------------------------------------------------------------


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
    """One recurrent layer of a stack: its step, its weights, its number of states.

    A residual one adds its input to its output, and not to its states (Wu et al. 2016).
    """

    step: callable
    weights: dict
    state_count: int
    is_residual: bool = False


def stacked_step(layers, inputs, states):
    """All layers of a stack in order; the states are flat, the first layer's first."""
    new_states = []
    for layer in layers:
        own, states = states[: layer.state_count], states[layer.state_count :]
        output, own = layer.step(layer.weights, inputs, own)
        inputs = output + inputs if layer.is_residual else output
        new_states.extend(own)
    return inputs, new_states


# ---------------------------------------------------------------------------------------------
# Decoder
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Decoder:
    """What a decoder is made of."""

    layers: list
    attention: Attention | Monotonic | MultiSource
    vector: Vector
    input_feeding: bool = True


@dataclasses.dataclass
class Decoded:
    """What a decoder returns: `states` are flat, the rest of the state is the last kept step's."""

    vectors: np.ndarray
    scores: np.ndarray
    states: list
    last_vector: np.ndarray
    attention_state: np.ndarray | None


def decode_sentence(decoder, sequence, values, keys, states, target_mask, source_mask):
    """One sentence `(t, d)`: vectors `(t, units)`, scores `(t, s)`, and what is left at the end."""
    no_context, no_scores = _nothing(values)
    kernel = decoder.vector.weights.get("kernel")
    no_vector = no_context if kernel is None else np.zeros(kernel.shape[-1])
    vectors, scores = [], []
    last_vector, attention_state = no_vector, decoder.attention.start(values)
    for t in range(len(sequence)):
        vector, own_scores = no_vector, no_scores
        if target_mask[t]:
            fed_back = [last_vector] if decoder.input_feeding else []
            inputs = np.concatenate([sequence[t], *fed_back])
            output, states = stacked_step(decoder.layers, inputs, states)
            context, own_scores, attention_state = decoder.attention.step(
                output, values, keys, source_mask, t, attention_state
            )
            vector = last_vector = decoder.vector(context, output, sequence[t])
        vectors.append(vector)
        scores.append(own_scores)
    return np.stack(vectors), np.stack(scores), states, last_vector, attention_state


def decode(
    decoder,
    sequences,
    memory,
    memory_key=None,
    initial_states=None,
    target_mask=None,
    source_mask=None,
):
    """The decoder over a batch; `initial_states` are flat, each `(b, units)`, zeros by default."""
    batch, target = sequences.shape[:2]
    memory_key, source_mask = _with_defaults(memory, memory_key, source_mask)
    target_mask = np.ones((batch, target), bool) if target_mask is None else target_mask
    if initial_states is None:
        initial_states = [
            np.zeros((batch, len(layer.weights["recurrent_kernel"])))
            for layer in decoder.layers
            for _ in range(layer.state_count)
        ]
    rows = [
        decode_sentence(
            decoder,
            sequences[b],
            _of_sentence(memory, b),
            _of_sentence(memory_key, b),
            [state[b] for state in initial_states],
            target_mask[b],
            _of_sentence(source_mask, b),
        )
        for b in range(batch)
    ]
    vectors, scores, states, last_vectors, attention_states = zip(*rows, strict=True)
    return Decoded(
        vectors=np.stack(vectors),
        scores=np.stack(scores),
        states=[np.stack(state) for state in zip(*states, strict=True)],
        last_vector=np.stack(last_vectors),
        attention_state=np.stack(attention_states) if decoder.attention.has_state else None,
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
