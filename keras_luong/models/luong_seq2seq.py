"""`luong_seq2seq`: the model of the paper from a few sizes."""

import functools
import itertools

import keras

from keras_luong.checked_numbers import count_of, fraction_of
from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    CopyMechanism,
    LuongAttention,
    ScheduledSampling,
)
from keras_luong.layers.arguments import checked_flag
from keras_luong.layers.cells import flat_state_size
from keras_luong.models.encoders import cell_class, checked_directions, rnn_encoder
from keras_luong.models.seq2seq import Seq2Seq


def luong_seq2seq(
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    *,
    units: int = 256,
    embedding_dim: int | None = None,
    num_layers: int = 1,
    cell: str = "lstm",
    bidirectional: bool | str = True,
    residual: bool = False,
    score_mode: str = "general",
    window: str = "global",
    window_size: float | None = None,
    max_source_length: int | None = None,
    input_feeding: bool = True,
    tie_embeddings: bool = True,
    share_embeddings: bool = False,
    embeddings_in_memory: bool = False,
    copy: bool = False,
    scheduled_sampling: ScheduledSampling | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    variational_dropout: bool = False,
    word_dropout: float = 0.0,
    consistency: float = 0.0,
    name: str = "luong_seq2seq",
) -> Seq2Seq:
    """Builds the attentional encoder-decoder of Luong et al. 2015.

    For another shape, put `Seq2Seq` together from parts of your own; this function is an example.

    Args:
        source_vocabulary_size: Number of source ids.
        target_vocabulary_size: Number of target ids.
        units: Depth of the decoder, the attention vector and the memory. An encoder that reads both
            ways has half of it in each direction.
        embedding_dim: Depth of the embeddings. Defaults to `units`.
        num_layers: Number of layers of the encoder and of the decoder.
        cell: `"lstm"`, `"gru"` or `"layer_norm_lstm"`, for which there are no fast loops.
        bidirectional: Whether the encoder reads both ways; `"first"` for its first layer alone,
            which then has `units` in each direction, as in GNMT.
        residual: Whether layers of the encoder add their input to their output. See `rnn_encoder`.
        score_mode: The score of `LuongAttention`.
        window: `"global"`, `"local_m"` or `"local_p"`, as in `LuongAttention`.
        window_size: For the local windows, as in `LuongAttention`.
        max_source_length: For `score_mode="location"`.
        input_feeding: Whether the attention vector is part of the decoder's next input.
        tie_embeddings: Whether the vocabulary product uses the target embedding; `embedding_dim`
            must then be `units`.
        share_embeddings: Whether source and target are read with one embedding, for one vocabulary
            on both sides. With `tie_embeddings` it is the vocabulary product's, too.
        embeddings_in_memory: Whether the memory holds the source embeddings, too: see
            `rnn_encoder`. `embedding_dim` must then be `units`.
        copy: Whether words of the source can be copied, for one vocabulary on both sides: see
            `CopyMechanism`.
        scheduled_sampling: What makes the decoder read words of its own in training.
        dropout: Fraction dropped from inputs of encoder layers, the memory, target embeddings and
            attention vectors, and (one mask a sequence) from the inputs of decoder cells after the
            first.
        recurrent_dropout: Fraction dropped from the states that encoder layers and decoder cells
            hand on to their next step, by masks of a whole sequence. There are no fast loops with
            it.
        variational_dropout: Whether all of `dropout` is by one mask a sequence. With
            `recurrent_dropout` it is the dropout of Gal and Ghahramani (2016).
        word_dropout: Fraction of the words, on both sides, that training replaces by the unknown
            id.
        consistency: Weight of how far apart two passes of training may be. See `Seq2Seq`.
        name: The model's name.

    Returns:
        An uncompiled `Seq2Seq`.

    Raises:
        ValueError: For an unknown cell, an odd `units` with a bidirectional encoder, tied
            embeddings of another depth than `units`, a shared embedding or copying with two
            vocabularies, and whatever `rnn_encoder`, `LuongAttention` and `Seq2Seq` do not take.
        TypeError: For options of another type.

    Example:

    >>> model = luong_seq2seq(1000, 1000, units=32, cell="gru", dropout=0.2)
    >>> print(model.name, tuple(model.output.shape))
    luong_seq2seq (None, None, 1000)

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025). The paper's encoder reads one
        way; two ways are the default here, as in the reference models that followed it.
    """
    units, num_layers = count_of("units", units), count_of("num_layers", num_layers)
    sizes = {
        "source_vocabulary_size": source_vocabulary_size,
        "target_vocabulary_size": target_vocabulary_size,
    }
    source_vocabulary_size, target_vocabulary_size = itertools.starmap(count_of, sizes.items())
    bidirectional = checked_directions(bidirectional, num_layers)
    recurrent_dropout = fraction_of("recurrent_dropout", recurrent_dropout)
    dropout = fraction_of("dropout", dropout)
    tie_embeddings = checked_flag("tie_embeddings", tie_embeddings)
    input_feeding = checked_flag("input_feeding", input_feeding)
    halves = bidirectional is True
    if halves and units % 2:
        raise ValueError(
            "`units` must be even for a bidirectional encoder, which has half of them in each "
            f"direction. Received: {units}"
        )
    embedding_dim = count_of("embedding_dim", units if embedding_dim is None else embedding_dim)
    _check_vocabularies(source_vocabulary_size, target_vocabulary_size, share_embeddings, copy)
    if tie_embeddings and embedding_dim != units:
        raise ValueError(
            "`tie_embeddings=True` needs an `embedding_dim` equal to `units`. Received: "
            f"embedding_dim={embedding_dim}, units={units}"
        )
    new_embedding = functools.partial(
        keras.layers.ReversibleEmbedding if tie_embeddings else keras.layers.Embedding,
        target_vocabulary_size,
        embedding_dim,
    )
    # The encoder takes its mask from it.
    shared = new_embedding(mask_zero=True, name="embedding") if share_embeddings else None
    decoder_cell = _decoder_cell(cell, units, num_layers, dropout, recurrent_dropout)
    encoder = rnn_encoder(
        source_vocabulary_size,
        embedding_dim,
        units // 2 if halves else units,
        state_sizes=flat_state_size(decoder_cell),
        cell=cell,
        num_layers=num_layers,
        bidirectional=bidirectional,
        residual=residual,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        variational_dropout=variational_dropout,
        word_dropout=word_dropout,
        embeddings_in_memory=embeddings_in_memory,
        embedding=shared,
    )
    attention = LuongAttention(
        score_mode,
        window=window,
        window_size=window_size,
        max_source_length=max_source_length,
    )
    step = AttentionDecoderCell(decoder_cell, attention, units, input_feeding=input_feeding)
    return Seq2Seq(
        encoder,
        new_embedding(name="target_embedding") if shared is None else shared,
        AttentionDecoder(step, name="decoder"),
        None if tie_embeddings else keras.layers.Dense(target_vocabulary_size, name="head"),
        copy_mechanism=CopyMechanism(target_vocabulary_size) if copy else None,
        scheduled_sampling=scheduled_sampling,
        dropout=dropout,
        variational_dropout=variational_dropout,
        word_dropout=word_dropout,
        consistency=consistency,
        name=name,
    )


def _check_vocabularies(source: int, target: int, share_embeddings: bool, copy: bool) -> None:
    sizes = f"source_vocabulary_size={source} and target_vocabulary_size={target}"
    if checked_flag("share_embeddings", share_embeddings) and source != target:
        raise ValueError(
            f"`share_embeddings` is for one vocabulary on both sides. Received: {sizes}"
        )
    if checked_flag("copy", copy) and source > target:
        raise ValueError(
            "`copy` is for one vocabulary on both sides: source ids beyond the target vocabulary "
            f"could not be copied. Received: {sizes}"
        )


def _decoder_cell(
    cell: str, units: int, num_layers: int, dropout: float, recurrent_dropout: float
) -> keras.layers.Layer:
    # The first cell's input is dropped outside the loop, by Seq2Seq.
    cells = [
        cell_class(cell)(
            units, dropout=dropout if index else 0.0, recurrent_dropout=recurrent_dropout
        )
        for index in range(num_layers)
    ]
    return cells[0] if num_layers == 1 else keras.layers.StackedRNNCells(cells)
