"""`AttentionDecoder`: a decoder with attention over a whole target sequence."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_luong.checked_numbers import at_least
from keras_luong.functional import coverage_loss, recur, wider, zero_masked
from keras_luong.layers.arguments import checked_flag
from keras_luong.layers.attention import AttentionMemory, check_forms
from keras_luong.layers.attention_decoder_cell import AttentionDecoderCell
from keras_luong.layers.cells import drawn_dropout, flat_state_size
from keras_luong.layers.checks import (
    check_batch,
    check_mask,
    check_not_regularized,
    check_rank,
    refuse_list,
    refuse_mask,
)
from keras_luong.layers.fast_loop import is_fast, run_fast
from keras_luong.layers.freezing import freeze_parts, parts_as_configured

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class AttentionDecoder(keras.layers.Layer):
    """Runs an `AttentionDecoderCell` over a target sequence, attending over a memory.

    Keys are projected once, before the loop. With input feeding the attention of a step is part of
    the next step's input, so it runs inside the loop; without, the loop holds the wrapped cell
    alone and the attention of all steps is one batched product after it. Dropout masks of the
    wrapped cell, and of the attention, are drawn once a sequence.

    The layer itself chooses between two loops that compute the same. The fast one takes all that
    can be out of the loop, inputs projected before it, and gathers the gradients of the weights
    into a few large products after it. It runs for `LSTMCell`, `GRUCell` (`reset_after=True`) and
    `StackedRNNCells` of them, with tanh and sigmoid in their places and without
    `recurrent_dropout`; a `LuongAttention` with the score `"dot"` or `"general"`, the global window
    and softmax; and a plain attention vector whose activation is tanh, sigmoid or none: with input
    feeding, and where neither scores nor states are asked for. It can be differentiated once. All
    else runs in the general one: `LayerNormLSTMCell`, `ResidualCell` and cells of one's own too.
    In float64 on JAX the two differ by up to 1e-6: there the tanh of Keras, and with it `LSTMCell`
    and `GRUCell` in the general loop, rounds to float32, while the fast loop does not.

    Masked target steps leave the states as they are and put out zeros, with zero scores; what
    padding holds, on either side, does not matter. The output carries the mask of `sequences`.

    Args:
        cell: An `AttentionDecoderCell`.
        return_sequences: Whether to return every step, or only the last kept one. Defaults to
            `True`, unlike `keras.layers.RNN`: a decoder is trained on every step.
        return_state: Whether to return the last states too.
        coverage_loss: Weight of the coverage loss, `sum_s min(a_t(s), c_t(s))` averaged over the
            kept target steps, c_t being the sum of the scores of earlier steps; the decoder adds it
            to the model's loss.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        sequences: Target inputs `(batch, target length, input depth)`.
        memory: Source states `(batch, source length, memory depth)`; a list of them for a
            `MultiSourceAttention`, as then `memory_key` and `memory_mask`.
        memory_key: What is compared with the queries, if not the memory itself: `(batch, source
            length, key depth)`.
        initial_state: States of the wrapped cell, in its structure: `[h, c]` for an `LSTMCell`, a
            list of such for `StackedRNNCells`; the attention vector then starts with zeros. Or all
            the states that a decoder returned, so that this call goes on where that one stopped.
            Zeros by default.
        sequences_mask: Boolean `(batch, target length)`. Defaults to the mask that `sequences`
            carries.
        memory_mask: Boolean `(batch, source length)`. Defaults to the mask that `memory` carries.
        return_attention_scores: Whether to return the scores too.
        training: Whether dropout is applied.

    Output shape:
        Attention vectors `(batch, target length, units)`, or `(batch, units)` with
        `return_sequences=False`. Then, if asked for, the scores `(batch, target length, source
        length)`, or `(batch, source length)`; then, if asked for, the states, flat:

        - those of the wrapped cell in its order, such as h and c, `(batch, depth of the state)`;
        - with input feeding, the last attention vector `(batch, units)`;
        - for an attention with a state, coverage or monotonic scores, that: `(batch, source
          length)`, in float32 at least;
        - for an attention that needs positions (`"local_m"`), the position of the next step, int32
          `(batch,)`. Masked steps count.

        A call with these as its `initial_state` gives what one call over both sequences gives. Only
        dropout and noise are drawn anew, and the coverage loss is of each call: its coverage begins
        with the call.

    Raises:
        ValueError: For tensors of the wrong rank, masks of the wrong shape and an initial state
            that has neither the wrapped cell's states nor all of the decoder's; for a negative
            `coverage_loss`; for `stateful`, `go_backwards` and `unroll` of `keras.layers.RNN`,
            which a decoder does not have.
        TypeError: For `mask=`, a list of tensors as the first argument, and options of another
            type.

    Example:

    >>> import keras, numpy as np
    >>> from keras_luong import AttentionDecoderCell, LuongAttention
    >>> cell = AttentionDecoderCell(keras.layers.LSTMCell(8), LuongAttention("general"), units=6)
    >>> vectors = AttentionDecoder(cell)(np.ones((2, 3, 5)), np.ones((2, 4, 7)))
    >>> print(tuple(vectors.shape))
    (2, 3, 6)

    A long target in pieces:

    >>> decoder = AttentionDecoder(cell, return_state=True)
    >>> sequences, memory = np.random.normal(size=(2, 6, 5)), np.random.normal(size=(2, 4, 7))
    >>> whole, *_ = decoder(sequences, memory)
    >>> first, *states = decoder(sequences[:, :4], memory)
    >>> print([tuple(state.shape) for state in states])  # h, c and the attention vector
    [(2, 8), (2, 8), (2, 6)]
    >>> second, *states = decoder(sequences[:, 4:], memory, initial_state=states)
    >>> print(np.allclose(whole[:, 4:], second, atol=1e-6))
    True

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025), section 3; the coverage loss:
        [See, Liu, Manning 2017](https://arxiv.org/abs/1704.04368), equation 12.
    """

    def __init__(
        self,
        cell: AttentionDecoderCell,
        *,
        return_sequences: bool = True,
        return_state: bool = False,
        coverage_loss: float = 0.0,
        **kwargs: Any,
    ) -> None:
        _refuse_options_of_rnn(kwargs)
        # Casts are the cell's: the state of an attention keeps more digits than 16 bits have.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(cell, AttentionDecoderCell):
            raise ValueError(
                "cell must be an AttentionDecoderCell, which wraps a recurrent cell and its "
                f"attention. Received: {cell!r}"
            )
        check_not_regularized("AttentionDecoder", cell)
        self.cell = cell
        self.return_sequences = checked_flag("return_sequences", return_sequences)
        self.return_state = checked_flag("return_state", return_state)
        self.coverage_loss = at_least("coverage_loss", coverage_loss, 0)
        self.supports_masking = True
        freeze_parts(self)

    def build(self, sequences_shape: Any, memory_shape: Any, memory_key_shape: Any = None) -> None:
        if not self.cell.built:
            batch, _, depth = sequences_shape
            self.cell.build((batch, depth), memory_shape=memory_shape, key_shape=memory_key_shape)

    def __call__(self, sequences: Tensor, *args: Any, **kwargs: Any) -> Any:
        call = "layer(sequences, memory, sequences_mask=..., memory_mask=...)"
        refuse_list(self, sequences, call)
        refuse_mask(self, kwargs, call)
        # Before `build`, which would stumble over a wrong rank with an error of its own.
        check_rank(self, "sequences", sequences, (3,))
        check_forms(self, self.cell.attention, ("memory", "memory_key"), args, kwargs)
        return super().__call__(sequences, *args, **kwargs)

    def call(
        self,
        sequences: Tensor,
        memory: Any,
        memory_key: Any = None,
        initial_state: Any = None,
        sequences_mask: Tensor | None = None,
        memory_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        self._check_call(sequences, memory, memory_key, initial_state, sequences_mask, memory_mask)
        sequences = zero_masked(sequences, sequences_mask)
        prepared = self.cell.prepare(memory, memory_mask, memory_key, training)
        states = self.cell.initial_states(prepared, initial_state)
        position = self.cell.initial_position(prepared, initial_state)
        with_scores = return_attention_scores or self.coverage_loss > 0
        run = self._loop(with_scores)
        with drawn_dropout(
            self.cell.cell,
            ops.shape(sequences)[0],
            sequences.shape[-1] + (self.cell.output_size if self.cell.input_feeding else 0),
            training,
        ):
            vectors, scores, states = run(
                sequences, prepared, states, position, sequences_mask, with_scores, training
            )
        if self.coverage_loss:
            self._add_coverage_loss(scores, sequences_mask)
        if not self.return_sequences:
            vectors = _last_kept(vectors, sequences_mask)
            scores = None if scores is None else _last_kept(scores, sequences_mask)
        outputs = [vectors, *([scores] if return_attention_scores else [])]
        if self.return_state:
            outputs.extend(states)
            if self.cell.attention.needs_position:
                outputs.append(position + ops.shape(sequences)[1])
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _loop(self, with_scores: bool) -> Callable:
        if is_fast(self.cell) and not with_scores and not self.return_state:
            return self._in_fast_loop
        return self._feeding_input if self.cell.input_feeding else self._attending_afterwards

    def _in_fast_loop(
        self,
        sequences: Tensor,
        memory: AttentionMemory,
        states: list[Tensor],
        position: Tensor,
        mask: Tensor | None,
        with_scores: bool,
        training: bool | None,
    ) -> tuple[Tensor, None, list[Tensor]]:
        vectors = run_fast(self.cell, sequences, memory, states, mask, training)
        return ops.cast(vectors, self.compute_dtype), None, states

    def _feeding_input(
        self,
        sequences: Tensor,
        memory: AttentionMemory,
        states: list[Tensor],
        position: Tensor,
        mask: Tensor | None,
        with_scores: bool,
        training: bool | None,
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        attention, steps = self.cell.attention, ops.shape(sequences)[1]
        positions = _positions(position, steps)
        channels = attention.step_channels(memory, steps, positions, training)

        def step(inputs: Tensor, states: list[Tensor], *own: Tensor) -> tuple[Tensor, list[Tensor]]:
            of_step = dict(zip(channels, own, strict=True))
            if not with_scores:
                return self.cell(inputs, states, memory=memory, training=training, **of_step)
            vector, states, scores = self.cell(
                inputs,
                states,
                memory=memory,
                return_attention_scores=True,
                training=training,
                **of_step,
            )
            # A loop of Keras has one output a step: vector and scores share it.
            return ops.concatenate([vector, scores], axis=-1), states

        loop_dtype = wider(attention.loop_dtype, self.compute_dtype)
        outputs, states = recur(step, sequences, states, mask, list(channels.values()), loop_dtype)
        # The attention's own state stays as wide as the attention has it.
        narrow = len(self.cell.state_size)
        states = [
            *(ops.cast(one, self.compute_dtype) for one in states[:narrow]),
            *(ops.cast(one, attention.loop_dtype) for one in states[narrow:]),
        ]
        outputs = ops.cast(outputs, self.compute_dtype)
        units = self.cell.output_size
        return outputs[..., :units], outputs[..., units:] if with_scores else None, states

    def _attending_afterwards(
        self,
        sequences: Tensor,
        memory: AttentionMemory,
        states: list[Tensor],
        position: Tensor,
        mask: Tensor | None,
        with_scores: bool,
        training: bool | None,
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        def step(inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            return self.cell.recur(inputs, states, training)

        narrow = len(self.cell.state_size)
        cell_states, of_attention = states[:narrow], states[narrow:]
        outputs, cell_states = recur(step, sequences, cell_states, mask, dtype=self.compute_dtype)
        attended = self.cell.attend_sequence(
            outputs,
            memory,
            sequences,
            mask,
            _positions(position, ops.shape(sequences)[1]),
            of_attention[0] if of_attention else None,
            with_scores,
            training,
        )
        vectors = ops.cast(zero_masked(attended.context, mask), self.compute_dtype)
        scores = ops.cast(attended.scores, self.compute_dtype) if with_scores else None
        last = [] if attended.state is None else [attended.state]
        return vectors, scores, [*cell_states, *last]

    def _add_coverage_loss(self, scores: Tensor, mask: Tensor | None) -> None:
        """The mean over kept steps, so that it weighs the same whatever the padding."""
        losses = coverage_loss(scores)
        kept = ops.ones_like(losses) if mask is None else ops.cast(mask, losses.dtype)
        self.add_loss(self.coverage_loss * ops.sum(losses) / ops.maximum(ops.sum(kept), 1.0))

    def _check_call(
        self,
        sequences: Tensor,
        memory: Any,
        memory_key: Any,
        initial_state: Any,
        sequences_mask: Tensor | None,
        memory_mask: Any,
    ) -> None:
        # A memory of other sentences would pass for beams.
        self.cell.attention.check_memory(
            self, "memory", memory, memory_mask, sequences.shape[0], memory_key
        )
        check_mask(self, "sequences_mask", sequences_mask, sequences.shape[:-1])
        if initial_state is not None:
            length = self.cell.attention.source_length(memory)
            self._check_states(keras.tree.flatten(initial_state), sequences.shape[0], length)

    def _check_states(
        self, given: list[Tensor], batch_size: int | None, source_length: int | None
    ) -> None:
        of_cell = flat_state_size(self.cell.cell)
        shapes = self._state_shapes(source_length)
        received = [tuple(getattr(state, "shape", ())) for state in given]
        if not _fit(received, [(size,) for size in of_cell]) and not _fit(received, shapes):
            raise ValueError(
                f"`initial_state` must have the states of the wrapped cell, of depths {of_cell}, "
                "or all those that a decoder returns, of shapes "
                f"{[('batch', *shape) for shape in shapes]}. Received shapes: {received}"
            )
        for state in given:
            check_batch(self, "initial_state", state, batch_size)
        if len(given) > len(of_cell) and self.cell.attention.needs_position:
            _check_position(given[-1])

    def _state_shapes(self, source_length: int | None) -> list[tuple[int | None, ...]]:
        """The shapes of all states, as they are returned, without the size of the batch."""
        attention = self.cell.attention
        shapes: list[tuple[int | None, ...]] = [(size,) for size in self.cell.state_size]
        shapes += [(source_length,)] if attention.has_state else []
        return shapes + ([()] if attention.needs_position else [])

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask if self.return_sequences else None

    def compute_output_spec(
        self,
        sequences: Tensor,
        memory: Any,
        memory_key: Any = None,
        initial_state: Any = None,
        sequences_mask: Tensor | None = None,
        memory_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        self._check_call(sequences, memory, memory_key, initial_state, sequences_mask, memory_mask)
        attention = self.cell.attention
        batch, source = sequences.shape[0], attention.source_length(memory)
        steps = tuple(sequences.shape[:2]) if self.return_sequences else (batch,)

        def spec(*shape: int | None, dtype: str = self.compute_dtype) -> keras.KerasTensor:
            return keras.KerasTensor(shape, dtype=dtype)

        specs = [spec(*steps, self.cell.output_size)]
        if return_attention_scores:
            specs.append(spec(*steps, source))
        if self.return_state:
            specs.extend(spec(batch, size) for size in self.cell.state_size)
            if attention.has_state:
                specs.append(spec(batch, source, dtype=attention.loop_dtype))
            if attention.needs_position:
                specs.append(spec(batch, dtype="int32"))
        return specs[0] if len(specs) == 1 else tuple(specs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "coverage_loss": self.coverage_loss,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AttentionDecoder":
        cell = keras.saving.deserialize_keras_object(config["cell"])
        with parts_as_configured():
            return cls(**{**config, "cell": cell})


def _refuse_options_of_rnn(kwargs: dict[str, Any]) -> None:
    reasons = {
        "stateful": "a decoder's state belongs to one target sentence and its memory, so nothing "
        "carries over from batch to batch; hand states over with return_state and initial_state",
        "go_backwards": "a decoder writes its target in order; reverse the target itself with "
        "keras.ops.flip, if right to left is what you want",
        "unroll": "an unrolled loop compiles for minutes and runs slower than a loop",
    }
    for name, reason in reasons.items():
        if kwargs.pop(name, False):
            raise ValueError(f"AttentionDecoder has no {name}: {reason}. Received: {name}=True")


def _last_kept(sequences: Tensor, mask: Tensor | None) -> Tensor:
    """`(b, t, d) -> (b, d)`: the last kept step; where none is, the first, which is zero then."""
    if mask is None:
        return sequences[:, -1]
    steps = ops.arange(ops.shape(mask)[1])
    last = ops.max(ops.where(mask, steps, 0), axis=1)
    return ops.squeeze(ops.take_along_axis(sequences, last[:, None, None], axis=1), 1)


def _positions(first: Tensor, steps: Any) -> Tensor:
    """The positions of `steps` steps, `(b, t)`, from that of the first, `(b,)`."""
    return first[:, None] + ops.arange(steps, dtype="int32")


def _fit(received: list[tuple], expected: list[tuple]) -> bool:
    """Whether shapes `(b, ...)` are the expected ones `(...)`, `None` for any size."""
    return len(received) == len(expected) and all(
        len(one) == 1 + len(shape)
        and all(None in pair or pair[0] == pair[1] for pair in zip(one[1:], shape, strict=True))
        for one, shape in zip(received, expected, strict=True)
    )


def _check_position(position: Tensor) -> None:
    # A float of 16 bits stops counting at 256 or 2048.
    dtype = keras.backend.standardize_dtype(position.dtype)
    if "int" not in dtype:
        raise ValueError(
            "The last state of `initial_state` is the position of the next step and must be of "
            f"integers. Received dtype: {dtype}"
        )
