"""Recurrent encoders in the functional API, with the bridge to a decoder's initial state."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_luong.checked_numbers import count_of, fraction_of
from keras_luong.layers import FastRNN, LayerNormLSTMCell, WordDropout
from keras_luong.layers.arguments import checked_flag
from keras_luong.layers.checks import check_one_of
from keras_luong.models.dropout import dropout_class

_CELLS = {
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
    "layer_norm_lstm": LayerNormLSTMCell,
}


def rnn_encoder(
    vocabulary_size: int,
    embedding_dim: int,
    units: int,
    *,
    state_sizes: Sequence[int] = (),
    cell: str = "lstm",
    num_layers: int = 1,
    bidirectional: bool | str = True,
    residual: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    variational_dropout: bool = False,
    word_dropout: float = 0.0,
    embeddings_in_memory: bool = False,
    embedding: keras.layers.Layer | None = None,
    name: str = "encoder",
) -> keras.Model:
    """Embedding, a stack of recurrent layers, and a bridge: source ids to memory and states.

    The bridge makes each of the decoder's initial states as `tanh(W [final states] + b)` from the
    final states of the last layer: of both directions, where that layer has two.

    With `bidirectional="first"` and `residual=True` it is the encoder of GNMT: the first layer
    reads both ways, those above it forwards, and from the third on, the first whose input is as
    deep as its output, they add their input.

    Args:
        vocabulary_size: Number of source ids; 0 is padding.
        embedding_dim: Depth of the embedding.
        units: Depth of each layer, per direction.
        state_sizes: Depths of the decoder's states, flat, such as `[512, 512]` for an
            `LSTMCell(512)`. Empty for a decoder that starts with zeros.
        cell: `"lstm"`, `"gru"` or `"layer_norm_lstm"`, a `LayerNormLSTMCell`, for which there is no
            fast loop.
        num_layers: Number of recurrent layers.
        bidirectional: Whether every layer reads both ways, which doubles its depth; `"first"` for
            the first layer alone.
        residual: Whether layers add their input to their output, from the second on; with
            `bidirectional="first"` from the third on.
        dropout: Fraction dropped from the input of every layer, and from the memory, in training.
        recurrent_dropout: Fraction dropped from the states that a layer hands on to its next step,
            for each gate by one mask a sequence. There is no fast loop with it.
        variational_dropout: Whether `dropout` too drops by one mask a sequence, the same at every
            step, which costs no time. With `recurrent_dropout` it is the dropout of Gal and
            Ghahramani.
        word_dropout: Fraction of the words that training replaces by the unknown id.
        embeddings_in_memory: Whether the memory is the sum of the last layer's outputs and the
            embeddings, so that attention hands on the words themselves, too. The embeddings must
            then be as deep as the outputs.
        embedding: An embedding layer of these sizes with `mask_zero=True`, such as one that the
            decoder reads with too. By default there is a new one.
        name: The model's name.

    Returns:
        A functional `keras.Model`: ids `(batch, source length)` to a list of the memory `(batch,
        source length, depth)` and one `(batch, size)` for each of `state_sizes`.

    Raises:
        ValueError: For an unknown cell, sizes below 1, `bidirectional="first"` of one layer,
            `residual` where no layer could add its input, a dropout that is not from 0 to below 1,
            an `embedding` that does not fit, and `embeddings_in_memory` of another depth than the
            outputs.
        TypeError: For options of another type.

    Example:

    >>> import numpy as np
    >>> encoder = rnn_encoder(100, 8, 16, state_sizes=[32, 32])
    >>> print([tuple(part.shape) for part in encoder(np.array([[5, 6, 7, 0]]))])
    [(1, 4, 32), (1, 32), (1, 32)]

    Reference:
        `bidirectional="first"`: [Wu et al. 2016](https://arxiv.org/abs/1609.08144), sections 3.1
        and 3.2; `variational_dropout`: [Gal, Ghahramani 2016](https://arxiv.org/abs/1512.05287);
        `embeddings_in_memory`: [Gehring et al. 2017](https://arxiv.org/abs/1705.03122), section
        3.3. There the sum is what attention reads and not what it scores; here it is both.
    """
    vocabulary_size = count_of("vocabulary_size", vocabulary_size)
    embedding_dim = count_of("embedding_dim", embedding_dim)
    units, num_layers = count_of("units", units), count_of("num_layers", num_layers)
    state_sizes = _checked_sizes(state_sizes)
    bidirectional = checked_directions(bidirectional, num_layers)
    first_residual = 2 if bidirectional == "first" else 1
    residual = _checked_residual(residual, num_layers, first_residual)
    dropout = fraction_of("dropout", dropout)
    recurrent_dropout = fraction_of("recurrent_dropout", recurrent_dropout)
    word_dropout = fraction_of("word_dropout", word_dropout)
    variational_dropout = checked_flag("variational_dropout", variational_dropout)
    embeddings_in_memory = checked_flag("embeddings_in_memory", embeddings_in_memory)
    if embedding is None:
        embedding = keras.layers.Embedding(
            vocabulary_size, embedding_dim, mask_zero=True, name="source_embedding"
        )
    _check_embedding(embedding, vocabulary_size, embedding_dim)
    drop = dropout_class(variational_dropout)
    source = keras.Input((None,), dtype="int32", name="source")
    memory = words = embedding(WordDropout(word_dropout)(source) if word_dropout else source)
    states: list[Any] = []
    for index in range(num_layers):
        inputs = drop(dropout, name=f"dropout_{index}")(memory)
        both_ways = index == 0 if bidirectional == "first" else bidirectional is True
        own = cell_class(cell)(units, recurrent_dropout=recurrent_dropout)
        outputs, *states = _layer(own, both_ways, name=f"{cell}_{index}")(inputs)
        is_residual = residual and index >= first_residual
        memory = keras.layers.Add()([memory, outputs]) if is_residual else outputs
    if embeddings_in_memory:
        _check_depths(embedding_dim, memory.shape[-1])
        memory = keras.layers.Add(name="memory")([memory, words])
    memory = drop(dropout, name="memory_dropout")(memory)
    return keras.Model(source, [memory, *_bridge(states, state_sizes)], name=name)


def cell_class(name: str) -> type[keras.layers.Layer]:
    """The recurrent cell of a short name."""
    check_one_of("cell", name, tuple(_CELLS))
    return _CELLS[name]


def checked_directions(bidirectional: Any, num_layers: int) -> bool | str:
    """`True`, `False` or `"first"`, which needs a layer above the first."""
    if isinstance(bidirectional, bool | np.bool_):
        return bool(bidirectional)
    if not isinstance(bidirectional, str) or bidirectional != "first":
        raise ValueError(
            f'`bidirectional` must be True, False or "first". Received: {bidirectional!r}'
        )
    if num_layers < 2:
        raise ValueError(
            '`bidirectional="first"` needs `num_layers` of at least 2, for there is nothing above '
            f"the first layer else. Received: num_layers={num_layers}"
        )
    return bidirectional


def _checked_residual(residual: Any, num_layers: int, first_residual: int) -> bool:
    if checked_flag("residual", residual) and num_layers <= first_residual:
        raise ValueError(
            f"`residual=True` needs `num_layers` of at least {first_residual + 1}, the first layer "
            f"that adds its input. Received: num_layers={num_layers}"
        )
    return bool(residual)


def _checked_sizes(state_sizes: Any) -> list[int]:
    if not isinstance(state_sizes, Iterable):
        raise TypeError(
            f"`state_sizes` must be a list of integers, one per state. Received: {state_sizes!r}"
        )
    return [count_of("state_sizes", size) for size in state_sizes]


def _check_embedding(embedding: Any, vocabulary_size: int, embedding_dim: int) -> None:
    names = "input_dim", "output_dim", "mask_zero"
    expected = vocabulary_size, embedding_dim, True
    received = tuple(getattr(embedding, name, None) for name in names)
    if received != expected:
        raise ValueError(
            f"`embedding` must be an embedding layer whose {', '.join(names)} are {expected}. "
            f"Received: {embedding!r}, where they are {received}"
        )


def _check_depths(embedding_dim: int, outputs: int) -> None:
    if embedding_dim != outputs:
        raise ValueError(
            "`embeddings_in_memory` needs embeddings as deep as the outputs of the last layer. "
            f"Received: embedding_dim={embedding_dim} and outputs of depth {outputs}"
        )


def _layer(cell: Any, both_ways: bool, name: str) -> keras.layers.Layer:
    # `LSTM` and `GRU` may use cuDNN, which would switch XLA off for the whole model and put a GPU
    # kernel into the export; and their config does not keep `use_cudnn=False`.
    layer = FastRNN(cell, return_sequences=True, return_state=True, name=name)
    return keras.layers.Bidirectional(layer, name=f"both_{name}") if both_ways else layer


def _bridge(states: list[Any], state_sizes: Sequence[int]) -> list[Any]:
    if not state_sizes:
        return []
    final = states[0] if len(states) == 1 else keras.layers.Concatenate()(states)
    return [
        keras.layers.Dense(size, activation="tanh", name=f"bridge_{index}")(final)
        for index, size in enumerate(state_sizes)
    ]
