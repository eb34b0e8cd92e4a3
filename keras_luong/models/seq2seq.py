"""`Seq2Seq`: encoder, attention decoder and vocabulary in one `keras.Model`."""

import warnings
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_luong.functional import float32_at_least
from keras_luong.ids import PADDING_ID
from keras_luong.layers import AttentionDecoder, AttentionMemory, WordDropout
from keras_luong.models.compiled import CompiledFunctions
from keras_luong.models.dropout import dropout_class
from keras_luong.models.generation import Generation
from keras_luong.models.vocabulary_product import vocabulary_product

Tensor = Any
_QUANTIZATION_MODES = ("int8", "int4")
_PARTS = ("encoder", "target_embedding", "decoder", "head")
_ENCODER_LAYER = "encoder_layer"


class ScoredTarget(NamedTuple):
    """What a model says of given targets.

    Attributes:
        log_probs: `(b,)`, the sum over the tokens.
        token_log_probs: `(b, t)`, each token's, the end token's included; 0 at padding.
        attention_scores: `(b, t, s)`, zeros at padding.
    """

    log_probs: Tensor
    token_log_probs: Tensor
    attention_scores: Tensor


@keras.saving.register_keras_serializable(package="keras_luong")
class Seq2Seq(Generation, keras.Model):
    """A sequence-to-sequence model: source ids and target ids in, logits of the next ids out.

    A functional `keras.Model`: `compile`, `fit`, `evaluate` and `.keras` files work as they do for
    any other. Id 0 is padding and masked on both sides. For teacher forcing the target begins with
    the start id, and the labels end with the end id: `fit` takes
    `((source + [end], [start] + target), target + [end])`.

    Args:
        encoder: Model or layer from source ids `(b, s)` to the memory `(b, s, d)`, or to a list of
            the memory and the decoder's flat initial states, as `rnn_encoder` makes it.
        target_embedding: Embedding layer of the target ids.
        decoder: An `AttentionDecoder` with `return_sequences=True` and `return_state=False`.
        head: Layer from attention vectors to logits. `None` ties it to the target embedding, which
            must be a `keras.layers.ReversibleEmbedding` as deep as the attention vector.
        dropout: Fraction dropped from target embeddings and attention vectors in training.
        variational_dropout: Whether `dropout` drops by one mask a sequence, the same at every step,
            and not anew at each.
        word_dropout: Fraction of the target words that training replaces by the unknown id, as
            input: they stay what is to be written.
        **kwargs: `name` and the like of `keras.Model`.

    Call arguments:
        inputs: `(source, target)`, int32 `(b, s)` and `(b, t)`.

    Output shape:
        Logits `(b, t, vocabulary)`.

    Example:

    >>> import numpy as np
    >>> from keras_luong import luong_seq2seq
    >>> model = luong_seq2seq(50, 60, units=8)
    >>> logits = model((np.array([[5, 6, 3]]), np.array([[2, 7, 8, 9]])))
    >>> print(tuple(logits.shape))
    (1, 4, 60)
    >>> print(tuple(model.generate(np.array([[5, 6, 3]]), max_length=7).ids.shape))
    (1, 1, 7)

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025).
    """

    def __init__(
        self,
        encoder: Any,
        target_embedding: keras.layers.Layer,
        decoder: AttentionDecoder,
        head: keras.layers.Layer | None = None,
        *,
        dropout: float = 0.0,
        variational_dropout: bool = False,
        word_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        _check_parts(target_embedding, decoder, head)
        source = keras.Input((None,), dtype="int32", name="source")
        target = keras.Input((None,), dtype="int32", name="target")
        rates = _Rates(dropout, variational_dropout, word_dropout)
        parts = encoder, target_embedding, decoder, head
        logits, _ = _trained_outputs(source, target, *parts, rates)
        super().__init__(inputs=[source, target], outputs=logits, **kwargs)
        self.encoder = encoder
        self.target_embedding = target_embedding
        self.decoder = decoder
        self.head = head
        self.dropout = dropout
        self.variational_dropout = variational_dropout
        self.word_dropout = word_dropout
        self._searches = CompiledFunctions()

    def with_attention_scores(self) -> keras.Model:
        """The same layers as a model that is trained on where it looks too.

        Returns:
            A `keras.Model` from source and target ids to `[logits, attention scores (b, t, s)]`,
            uncompiled. It shares all weights with this one. With scores there is no fast loop.
        """
        source, target = self.inputs
        outputs = _trained_outputs(
            source,
            target,
            self.encoder,
            self.target_embedding,
            _DecoderWithScores(self.decoder),
            self.head,
            _Rates(*(getattr(self, name) for name in _Rates._fields)),
        )
        return keras.Model([source, target], list(outputs), name=f"{self.name}_with_scores")

    @property
    def max_source_length(self) -> int | None:
        """Length of the longest source (end token included) that the model takes, if it has one."""
        return self.decoder.cell.attention.max_source_length

    @property
    def vocabulary_size(self) -> int:
        """Number of target ids."""
        return self.output.shape[-1]

    @property
    def is_quantized(self) -> bool:
        """Whether some weights are integers, as `quantize` makes them."""
        return any(variable.dtype == "int8" for variable in self.weights)

    def encode(self, source: Tensor) -> tuple[AttentionMemory, Any]:
        """Reads source ids `(b, s)`: the prepared memory, and the decoder's initial state."""
        memory, states = _memory_and_states(self.encoder(source, training=False))
        mask = ops.not_equal(source, PADDING_ID)
        return self.decoder.cell.prepare(memory, mask), states

    def initial_state(self, states: Any, memory: AttentionMemory) -> list[Tensor]:
        """The state a search starts from: flat, each `(b, 1, ...)`, the step's index last."""
        flat = self.decoder.cell.initial_states(memory, states)
        position = ops.zeros_like(flat[0][:, :1], dtype="int32")
        return [ops.expand_dims(state, 1) for state in [*flat, position]]

    def step(
        self, ids: Tensor, state: list[Tensor], memory: AttentionMemory
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """One step of decoding for `k` hypotheses a sentence. Pure: nothing is kept on the model.

        Args:
            ids: int32 `(b, k)`, the last token of every hypothesis.
            state: Tensors `(b, k, d)`.
            memory: What `encode` returned; leads with `b`, whatever `k` is.

        Returns:
            `(logits (b, k, v), new state, attention scores (b, k, s))`.
        """
        return self._advanced(
            ids, state, memory, lambda vector: _logits(self.head, self.target_embedding, vector)
        )

    def step_among(self, word_ids: Tensor) -> Any:
        """`step` among some ids alone: with their logits, which are minus infinity where ruled out.

        It takes `(memory, allowed)` in the place of the memory: which of the ids each sentence may
        hold, boolean `(b, n)`.

        Args:
            word_ids: int32 `(n,)`.

        Raises:
            ValueError: For a head that is no `keras.layers.Dense`, and quantized weights whose
                columns cannot be taken one by one.
        """
        logits_among = vocabulary_product(self.head, self.target_embedding, word_ids)

        def step(ids: Tensor, state: list[Tensor], shared: tuple[Any, Tensor]) -> tuple:
            memory, allowed = shared
            logits, state, scores = self._advanced(ids, state, memory, logits_among)
            return ops.where(allowed[:, None], logits, -float("inf")), state, scores

        return step

    def _advanced(self, ids: Tensor, state: list[Tensor], memory: Any, logits_of: Any) -> tuple:
        batch, beams = ops.shape(ids)[0], ops.shape(ids)[1]
        *flat, position = (ops.reshape(part, (-1, ops.shape(part)[-1])) for part in state)
        inputs = self.target_embedding(ops.reshape(ids, (-1,)))
        vector, flat, scores = self.decoder.cell(
            inputs,
            flat,
            memory=memory,
            query_position=position,
            return_attention_scores=True,
            training=False,
        )
        logits, scores, *state = (
            ops.reshape(part, (batch, beams, ops.shape(part)[-1]))
            for part in (logits_of(vector), scores, *flat, position + 1)
        )
        return logits, state, scores

    def score(self, source: Tensor, target_in: Tensor, target_out: Tensor) -> ScoredTarget:
        """What the model says of a given target: forced decoding.

        Args:
            source: int32 `(b, s)`.
            target_in: int32 `(b, t)`, `[start] + target`.
            target_out: int32 `(b, t)`, `target + [end]`.

        Returns:
            A `ScoredTarget`, zeros at padding.
        """
        memory, initial_state = _memory_and_states(self.encoder(source, training=False))
        vectors, attention_scores = self.decoder(
            self.target_embedding(target_in),
            memory,
            initial_state=initial_state,
            sequences_mask=ops.not_equal(target_in, PADDING_ID),
            memory_mask=ops.not_equal(source, PADDING_ID),
            return_attention_scores=True,
            training=False,
        )
        logits = float32_at_least(_logits(self.head, self.target_embedding, vectors))
        log_probs = ops.log_softmax(logits, axis=-1)
        picked = ops.take_along_axis(log_probs, target_out[..., None], axis=-1)
        of_tokens = ops.where(ops.equal(target_out, PADDING_ID), 0.0, ops.squeeze(picked, -1))
        return ScoredTarget(ops.sum(of_tokens, axis=-1), of_tokens, attention_scores)

    def quantize(
        self, mode: str | None = None, config: Any = None, filters: Any = None, **kwargs: Any
    ) -> None:
        """Quantizes the weights of embeddings and dense layers, to be smaller for inference.

        Embeddings (the tied vocabulary product with them), the head and the bridges keep their
        weights as integers, with a float scale for each row or column. The kernels of recurrent
        cells, attention and the attention vector stay floats: Keras' own cells have no such mode.
        What was trained so far is kept, the optimizer is not: the model is no longer compiled.
        Integers have no gradient to train them further.

        Args:
            mode: `"int8"` or `"int4"`.
            config: `keras.quantizers.Int8QuantizationConfig` or its like for 4 bits. By default
                `"int8"` rounds what is multiplied with the weights too, and multiplies integers.
                Where those products are slow, as in TensorFlow on processors,
                `Int8QuantizationConfig(activation_quantizer=None)` multiplies floats.
            filters: Which layers, as in `keras.Model.quantize`.
            **kwargs: As in `keras.Model.quantize`.

        Raises:
            ValueError: For another mode, and a layer that is quantized already.
        """
        if mode not in _QUANTIZATION_MODES:
            raise ValueError(f"mode must be one of {_QUANTIZATION_MODES}. Received: {mode!r}")
        with warnings.catch_warnings():
            # One for every layer without such a mode, dropout and input included.
            warnings.filterwarnings("ignore", ".*`quantize` method", UserWarning)
            super().quantize(mode, config=config, filters=filters, **kwargs)
        self.compiled, self.optimizer = False, None

    def get_config(self) -> dict[str, Any]:
        config = {name: _serialized(getattr(self, name), self.encoder) for name in _PARTS}
        rates = {name: getattr(self, name) for name in _Rates._fields}
        return {**config, **rates, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Seq2Seq":
        parts: dict[str, Any] = {}
        for name in _PARTS:
            parts[name] = _deserialized(config[name], parts.get("encoder"), custom_objects)
        return cls(**{**config, **parts})


class _DecoderWithScores(keras.layers.Layer):
    """A decoder that puts out its scores: a layer of its own for a second functional model.

    There Keras counts on as many outputs at every call of a layer as at its first.
    """

    def __init__(self, decoder: AttentionDecoder) -> None:
        super().__init__(dtype=decoder.dtype_policy)
        self.decoder = decoder
        self.built = True

    def call(
        self,
        sequences: Tensor,
        memory: Tensor,
        initial_state: Any = None,
        sequences_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        return self.decoder(
            sequences,
            memory,
            initial_state=initial_state,
            sequences_mask=sequences_mask,
            memory_mask=memory_mask,
            return_attention_scores=True,
            training=training,
        )


class _Rates(NamedTuple):
    """What is dropped in training."""

    dropout: float
    variational_dropout: bool
    word_dropout: float


def _trained_outputs(
    source: Tensor,
    target: Tensor,
    encoder: Any,
    target_embedding: Any,
    decoder: Any,
    head: Any,
    rates: _Rates,
) -> tuple[Tensor, Tensor | None]:
    """Logits with a target that is given, and the attention scores if the decoder has them."""
    memory, initial_state = _memory_and_states(encoder(source))
    drop = dropout_class(rates.variational_dropout)(rates.dropout)
    words = WordDropout(rates.word_dropout)(target) if rates.word_dropout else target
    outputs = decoder(
        drop(target_embedding(words)),
        memory,
        initial_state=initial_state,
        sequences_mask=ops.not_equal(target, PADDING_ID),
        memory_mask=ops.not_equal(source, PADDING_ID),
    )
    vectors, scores = outputs if isinstance(decoder, _DecoderWithScores) else (outputs, None)
    return _logits(head, target_embedding, drop(vectors)), scores


def _serialized(part: Any, encoder: Any) -> Any:
    if part is None:
        return None
    # One vocabulary, one embedding: it stands in the encoder's config, and must stay one layer.
    if any(layer is part for layer in getattr(encoder, "layers", [])):
        return {_ENCODER_LAYER: part.name}
    return keras.saving.serialize_keras_object(part)


def _deserialized(config: Any, encoder: Any, custom_objects: Any) -> Any:
    if config is None:
        return None
    if _ENCODER_LAYER in config:
        return encoder.get_layer(config[_ENCODER_LAYER])
    return keras.saving.deserialize_keras_object(config, custom_objects)


def _memory_and_states(outputs: Any) -> tuple[Tensor, list[Tensor] | None]:
    if not isinstance(outputs, list | tuple):
        return outputs, None
    memory, *states = outputs
    return memory, states or None


def _logits(head: Any, target_embedding: Any, vectors: Tensor) -> Tensor:
    return target_embedding(vectors, reverse=True) if head is None else head(vectors)


def _check_parts(target_embedding: Any, decoder: Any, head: Any) -> None:
    if not isinstance(decoder, AttentionDecoder) or (
        decoder.return_state or not decoder.return_sequences
    ):
        raise ValueError(
            "decoder must be an AttentionDecoder with return_sequences=True and "
            f"return_state=False. Received: {decoder!r}"
        )
    if head is not None:
        return
    depth, tied = decoder.cell.units, getattr(target_embedding, "output_dim", None)
    if not isinstance(target_embedding, keras.layers.ReversibleEmbedding) or tied != depth:
        raise ValueError(
            "head=None ties the vocabulary product to the target embedding, which must then be a "
            f"keras.layers.ReversibleEmbedding as deep as the attention vector ({depth}). "
            f"Received: {target_embedding!r} of depth {tied}"
        )
