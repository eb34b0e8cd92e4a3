"""`AttentionDecoder`: a decoder with attention over a whole target sequence."""

from typing import Any

import keras
from keras import ops

from keras_luong.functional import zero_masked
from keras_luong.layers.attention_decoder_cell import AttentionDecoderCell
from keras_luong.layers.checks import check_batch, check_mask, check_rank, refuse_list, refuse_mask
from keras_luong.layers.luong_attention import AttentionMemory
from keras_luong.layers.recurrence import drawn_dropout, flat_state_size, recur

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class AttentionDecoder(keras.layers.Layer):
    """Runs an `AttentionDecoderCell` over a target sequence, attending over a memory.

    Keys are projected once, before the loop. With input feeding the attention of a step is part of
    the next step's input, so it runs inside the loop; without, the loop holds the wrapped cell
    alone and the attention of all steps is one batched product after it. Dropout masks of the
    wrapped cell, and of the attention, are drawn once a sequence.

    Masked target steps leave the states as they are and put out zeros, with zero scores; what
    padding holds, on either side, does not matter. The output carries the mask of `sequences`.

    Args:
        cell: An `AttentionDecoderCell`.
        return_sequences: Whether to return every step, or only the last kept one. Defaults to
            `True`, unlike `keras.layers.RNN`: a decoder is trained on every step.
        return_state: Whether to return the last states too.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        sequences: Target inputs `(batch, target length, input depth)`.
        memory: Source states `(batch, source length, memory depth)`.
        initial_state: States of the wrapped cell, in its structure: `[h, c]` for an `LSTMCell`, a
            list of such for `StackedRNNCells`. Zeros by default. The attention vector always starts
            with zeros.
        sequences_mask: Boolean `(batch, target length)`. Defaults to the mask that `sequences`
            carries.
        memory_mask: Boolean `(batch, source length)`. Defaults to the mask that `memory` carries.
        return_attention_scores: Whether to return the scores too.
        training: Whether dropout is applied.

    Output shape:
        Attention vectors `(batch, target length, units)`, or `(batch, units)` with
        `return_sequences=False`. Then, if asked for, the scores `(batch, target length, source
        length)`, or `(batch, source length)`; then, if asked for, the states: the wrapped cell's in
        its order, flat, and with input feeding the last attention vector.

    Raises:
        ValueError: For tensors of the wrong rank, masks of the wrong shape and an initial state
            whose structure is not the wrapped cell's.
        TypeError: For `mask=`, and for a list of tensors as the first argument.

    Example:

    >>> import keras, numpy as np
    >>> from keras_luong import AttentionDecoderCell, LuongAttention
    >>> cell = AttentionDecoderCell(keras.layers.LSTMCell(8), LuongAttention("general"), units=6)
    >>> vectors = AttentionDecoder(cell)(np.ones((2, 3, 5)), np.ones((2, 4, 7)))
    >>> print(tuple(vectors.shape))
    (2, 3, 6)

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025), section 3.
    """

    def __init__(
        self,
        cell: AttentionDecoderCell,
        *,
        return_sequences: bool = True,
        return_state: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(cell, AttentionDecoderCell):
            raise ValueError(
                "cell must be an AttentionDecoderCell, which wraps a recurrent cell and its "
                f"attention. Received: {cell!r}"
            )
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.supports_masking = True

    def build(self, sequences_shape: Any, memory_shape: Any) -> None:
        if not self.cell.built:
            batch, _, depth = sequences_shape
            self.cell.build((batch, depth), memory_shape=memory_shape)

    def __call__(self, sequences: Tensor, *args: Any, **kwargs: Any) -> Any:
        call = "layer(sequences, memory, sequences_mask=..., memory_mask=...)"
        refuse_list(self, sequences, call)
        refuse_mask(self, kwargs, call)
        # Before `build`, which would stumble over a wrong rank with an error of its own.
        check_rank(self, "sequences", sequences, (3,))
        return super().__call__(sequences, *args, **kwargs)

    def call(
        self,
        sequences: Tensor,
        memory: Tensor,
        initial_state: Any = None,
        sequences_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        self._check_call(sequences, memory, initial_state, sequences_mask, memory_mask)
        sequences = zero_masked(sequences, sequences_mask)
        prepared = self.cell.prepare(memory, memory_mask, training)
        states = self.initial_states(initial_state, ops.shape(sequences)[0])
        run = self._feeding_input if self.cell.input_feeding else self._attending_afterwards
        with drawn_dropout(
            self.cell.cell,
            ops.shape(sequences)[0],
            sequences.shape[-1] + (self.cell.output_size if self.cell.input_feeding else 0),
            training,
        ):
            vectors, scores, states = run(
                sequences, prepared, states, sequences_mask, return_attention_scores, training
            )
        if not self.return_sequences:
            vectors = _last_kept(vectors, sequences_mask)
            scores = None if scores is None else _last_kept(scores, sequences_mask)
        outputs = [vectors, *([] if scores is None else [scores])]
        if self.return_state:
            outputs.extend(states)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _feeding_input(
        self,
        sequences: Tensor,
        memory: AttentionMemory,
        states: list[Tensor],
        mask: Tensor | None,
        with_scores: bool,
        training: bool | None,
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        def step(inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            if not with_scores:
                return self.cell(inputs, states, memory=memory, training=training)
            vector, states, scores = self.cell(
                inputs, states, memory=memory, return_attention_scores=True, training=training
            )
            # A loop of Keras has one output a step: vector and scores share it.
            return ops.concatenate([vector, scores], axis=-1), states

        outputs, states = recur(step, sequences, states, mask, self.dtype_policy)
        units = self.cell.output_size
        return outputs[..., :units], outputs[..., units:] if with_scores else None, states

    def _attending_afterwards(
        self,
        sequences: Tensor,
        memory: AttentionMemory,
        states: list[Tensor],
        mask: Tensor | None,
        with_scores: bool,
        training: bool | None,
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        def step(inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            return self.cell.recur(inputs, states, training)

        outputs, states = recur(step, sequences, states, mask, self.dtype_policy)
        vectors, scores = self.cell.attend(outputs, memory, mask)
        return zero_masked(vectors, mask), scores if with_scores else None, states

    def initial_states(self, initial_state: Any, batch_size: Any) -> list[Tensor]:
        """The cell's flat states at the start.

        Args:
            initial_state: States of the wrapped cell in its structure, or `None` for zeros.
            batch_size: Their leading size.

        Returns:
            The wrapped cell's states, then, with input feeding, an attention vector of zeros.
        """
        states = self.cell.get_initial_state(batch_size)
        given = keras.tree.flatten(initial_state) if initial_state is not None else []
        return [ops.cast(state, self.cell.compute_dtype) for state in given] + states[len(given) :]

    def _check_call(
        self,
        sequences: Tensor,
        memory: Tensor,
        initial_state: Any,
        sequences_mask: Tensor | None,
        memory_mask: Tensor | None,
    ) -> None:
        check_rank(self, "memory", memory, (3,))
        # The cell would take three times as many sequences for beams.
        check_batch(self, "memory", memory, sequences.shape[0])
        self.cell.attention.check_source_length(memory.shape[1])
        check_mask(self, "sequences_mask", sequences_mask, sequences.shape[:-1])
        check_mask(self, "memory_mask", memory_mask, memory.shape[:-1])
        if initial_state is not None:
            self._check_states(keras.tree.flatten(initial_state), sequences.shape[0])

    def _check_states(self, given: list[Tensor], batch_size: int | None) -> None:
        sizes = flat_state_size(self.cell.cell)
        if [tuple(state.shape[1:]) for state in given] != [(size,) for size in sizes]:
            raise ValueError(
                "initial_state must have the wrapped cell's states (no attention vector), of "
                f"depths {sizes}. Received shapes: {[tuple(state.shape) for state in given]}"
            )
        for state in given:
            check_batch(self, "initial_state", state, batch_size)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask if self.return_sequences else None

    def compute_output_spec(
        self,
        sequences: Tensor,
        memory: Tensor,
        initial_state: Any = None,
        sequences_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        self._check_call(sequences, memory, initial_state, sequences_mask, memory_mask)
        batch = sequences.shape[0]
        steps = tuple(sequences.shape[:2]) if self.return_sequences else (batch,)
        shapes = [(*steps, self.cell.output_size)]
        if return_attention_scores:
            shapes.append((*steps, memory.shape[1]))
        if self.return_state:
            shapes.extend((batch, size) for size in self.cell.state_size)
        specs = [keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes]
        return specs[0] if len(specs) == 1 else tuple(specs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AttentionDecoder":
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})


def _last_kept(sequences: Tensor, mask: Tensor | None) -> Tensor:
    """`(b, t, d) -> (b, d)`: the last kept step; where none is, the first, which is zero then."""
    if mask is None:
        return sequences[:, -1]
    steps = ops.arange(ops.shape(mask)[1])
    last = ops.max(ops.where(mask, steps, 0), axis=1)
    return ops.squeeze(ops.take_along_axis(sequences, last[:, None, None], axis=1), 1)
