"""When a decoder can run in `functional.decoder_loop`, and what it hands to it."""

from typing import Any

import keras
from keras import ops

from keras_luong.functional import (
    DERIVATIVES,
    GRU,
    LSTM,
    Given,
    GRUWeights,
    Kind,
    LSTMWeights,
    Trained,
    decoder_loop,
    float32_at_least,
    is_there,
    project,
)
from keras_luong.layers.attention import AttentionMemory
from keras_luong.layers.attention_decoder_cell import AttentionDecoderCell
from keras_luong.layers.luong_attention import LuongAttention

Tensor = Any
KINDS: dict[type, Kind] = {keras.layers.LSTMCell: LSTM, keras.layers.GRUCell: GRU}


def is_fast(cell: AttentionDecoderCell) -> bool:
    """Whether a decoder's cell is one that the fast loop knows."""
    return (
        cell.input_feeding
        and _is_fast_attention(cell.attention, cell.compute_dtype)
        and _is_fast_vector(cell.attention_vector)
        and all(is_fast_cell(one, cell.compute_dtype) for one in _cells(cell))
    )


def _is_fast_attention(attention: Any, dtype: str) -> bool:
    # A subclass may compute something else.
    return (
        type(attention) is LuongAttention
        and attention.score_mode in ("dot", "general")
        and attention.window == "global"
        and attention.probability_fn == "softmax"
        and attention.compute_dtype == dtype
    )


def _is_fast_vector(vector: Any) -> bool:
    is_plain = vector.units is not None and not vector.two_layer and vector.gate is None
    return is_plain and vector.activation in DERIVATIVES


def is_fast_cell(cell: Any, dtype: str) -> bool:
    """Whether a recurrent cell is one that the fast loops know."""
    return (
        type(cell) in KINDS
        and cell.activation is keras.activations.tanh
        and cell.recurrent_activation is keras.activations.sigmoid
        and cell.compute_dtype == dtype
        and not cell.recurrent_dropout
        and cell.activity_regularizer is None
        # `implementation=1` draws a mask for each gate.
        and not (cell.dropout and cell.implementation == 1)
        and getattr(cell, "reset_after", True)
    )


def run_fast(
    cell: AttentionDecoderCell,
    sequences: Tensor,
    memory: AttentionMemory,
    states: list[Tensor],
    mask: Tensor | None,
    training: bool | None,
) -> Tensor:
    """Attention vectors `(b, t, a)`, where `is_fast`.

    Args:
        cell: The decoder's.
        sequences: `(b, t, d)`, zeros at padding.
        memory: What `cell.prepare` returned.
        states: Flat, of `cell.initial_states`.
        mask: Boolean `(b, t)`, or `None`.
        training: Whether dropout is applied.
    """
    dtype = cell.compute_dtype
    cells = _cells(cell)
    sequences = ops.transpose(ops.cast(sequences, dtype), (1, 0, 2))
    factors = [_dropout_factors(one, training) for one in cells]
    depth = sequences.shape[-1]
    if is_there(factors[0]):
        sequences, factors[0] = sequences * factors[0][:, :depth], factors[0][:, depth:]
    kernel = ops.cast(cell.attention_vector.kernel, dtype)
    context_depth = kernel.shape[0] - cells[-1].units
    bias = cell.attention_vector.bias
    extra = [input_bias(one) for one in cells]
    extra[0] = project(sequences, ops.cast(cells[0].kernel, dtype)[:depth]) + extra[0]
    states = list(states)
    trained = Trained(
        extra=tuple(extra),
        weights=tuple(loop_weights(one, 0 if index else depth) for index, one in enumerate(cells)),
        keys=ops.cast(_scaled(memory.keys, cell.attention), dtype),
        values=ops.cast(project(memory.values, kernel[:context_depth]), dtype),
        query_kernel=kernel[context_depth:],
        bias=() if bias is None else ops.cast(bias, dtype),
        vector=ops.cast(states.pop(), dtype),
        states=tuple(
            tuple(ops.cast(states.pop(0), dtype) for _ in range(KINDS[type(one)].count))
            for one in cells
        ),
    )
    drop = memory.dropout_mask
    given = Given(
        kept=() if mask is None else ops.cast(ops.transpose(mask), dtype)[..., None],
        memory_kept=() if memory.mask is None else ops.cast(memory.mask, dtype),
        below_factors=tuple(factors),
        score_factors=() if drop is None else ops.squeeze(drop, 1),
    )
    kinds = tuple(KINDS[type(one)] for one in cells)
    vectors = decoder_loop(trained, given, kinds, cell.attention_vector.activation)
    return ops.transpose(vectors, (1, 0, 2))


def _cells(cell: AttentionDecoderCell) -> list[Any]:
    wrapped = cell.cell
    return list(wrapped.cells) if type(wrapped) is keras.layers.StackedRNNCells else [wrapped]


def _dropout_factors(cell: Any, training: bool | None) -> Any:
    if not (training and cell.dropout):
        return ()
    # Drawn before, for the length of the sequence: what is handed in gives no more than its shape.
    return cell.get_dropout_mask(None)


def input_bias(cell: Any) -> Tensor:
    """What a cell adds to its projected inputs."""
    if not cell.use_bias:
        return ops.zeros((cell.kernel.shape[-1],), cell.compute_dtype)
    bias = ops.cast(cell.bias, cell.compute_dtype)
    return bias[0] if isinstance(cell, keras.layers.GRUCell) else bias


def loop_weights(cell: Any, inputs: int) -> LSTMWeights | GRUWeights:
    """The weights of a step, without the first `inputs` rows, projected before the loop."""
    dtype = cell.compute_dtype
    kernel = ops.cast(cell.kernel, dtype)[inputs:]
    recurrent = ops.cast(cell.recurrent_kernel, dtype)
    if isinstance(cell, keras.layers.LSTMCell):
        return LSTMWeights(ops.concatenate([kernel, recurrent], axis=0))
    bias = (
        ops.cast(cell.bias, dtype)[1] if cell.use_bias else ops.zeros((recurrent.shape[-1],), dtype)
    )
    return GRUWeights(kernel if kernel.shape[0] else (), recurrent, bias)


def _scaled(keys: Tensor, attention: LuongAttention) -> Tensor:
    if attention.scale is None:
        return keys
    # Not in 16 bits: the gradient for the scale is a sum over all that it multiplies.
    wide = float32_at_least(keys)
    return wide * ops.cast(attention.scale, wide.dtype)
