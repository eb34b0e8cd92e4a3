"""`Seq2Seq`: encoder, attention decoder and vocabulary in one `keras.Model`."""

import warnings
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_luong.checked_numbers import at_least, fraction_of
from keras_luong.functional import IdRange, float32_at_least
from keras_luong.ids import PADDING_ID
from keras_luong.layers import (
    AttentionDecoder,
    AttentionMemory,
    CopyMechanism,
    ScheduledSampling,
)
from keras_luong.layers.arguments import check_instance, checked_flag
from keras_luong.layers.freezing import freeze_parts, parts_as_configured
from keras_luong.models.checked_training import CheckedTraining
from keras_luong.models.compiled import CompiledFunctions
from keras_luong.models.forced_decoding import DecoderWithScores, ForcedDecoding, Rates
from keras_luong.models.generation import Generation
from keras_luong.models.head_checks import check_gives_logits, check_head
from keras_luong.models.id_ranges import check_embedded, source_ids, target_ids
from keras_luong.models.made_of_layers import MadeOfLayers, check_options, check_positions
from keras_luong.models.memory_mask import check_encoder, check_memory
from keras_luong.models.seq2seq_with_scores import Seq2SeqWithScores
from keras_luong.models.shared_layers import deserialized_parts, serialized_parts
from keras_luong.models.step_checks import check_steps_of_embedding, check_steps_of_head
from keras_luong.models.vocabulary_product import (
    check_gathered,
    vocabulary_product,
    whole_product,
)
from keras_luong.models.xla_advice import xla_advice

Tensor = Any
_QUANTIZATION_MODES = ("int8", "int4")
_PARTS = (
    "encoder",
    "target_embedding",
    "decoder",
    "head",
    "copy_mechanism",
    "scheduled_sampling",
)


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
class Seq2Seq(MadeOfLayers, Generation, CheckedTraining, keras.Model):
    """A sequence-to-sequence model: source ids and target ids in, logits of the next ids out.

    A functional `keras.Model`: `compile`, `fit`, `evaluate` and `.keras` files work as they do for
    any other. Id 0 is padding and masked on both sides. For teacher forcing the target begins with
    the start id, and the labels end with the end id: `fit` takes
    `((source + [end], [start] + target), target + [end])`.

    Args:
        encoder: Model or layer from source ids `(b, s)` to the memory `(b, s, d)`, or to a list of
            the memory and the decoder's flat initial states, as `rnn_encoder` makes it. Where the
            memory carries a Keras mask, it says which positions are kept, and it may be shorter
            than the source, as from a pyramid; without one, id 0 is padding. The memory stands in
            the order of the source.
        target_embedding: Layer from target ids `(b, t)` to `(b, t, d)`, each step by itself.
        decoder: An `AttentionDecoder` with `return_sequences=True` and `return_state=False`.
        head: Layer from attention vectors `(b, t, d)` to logits `(b, t, v)`, each step by itself: a
            `Dense`, a `TimeDistributed`, a `Sequential` or a functional model, with no softmax or
            sigmoid at its end. `None` ties it to the target embedding, which must be a
            `keras.layers.ReversibleEmbedding` as deep as the attention vector.
        copy_mechanism: A `CopyMechanism`, so that words of the source can be written whether or not
            the head knows them. The model then puts out log-probabilities, which training and
            searches take for logits. It needs the attention scores of every step, so with input
            feeding training runs in the slower loop of `AttentionDecoder`.
        scheduled_sampling: A `ScheduledSampling`, so that in training the decoder reads words of
            its own among the true ones.
        dropout: Fraction dropped from target embeddings and attention vectors in training.
        variational_dropout: Whether `dropout` drops by one mask a sequence, the same at every step,
            and not anew at each.
        word_dropout: Fraction of the target words that training replaces by the unknown id, as
            input: they stay what is to be written.
        consistency: Weight of how far apart two passes of training, which drop differently, may be
            in what they predict: R-Drop of [Wu and others 2021](https://arxiv.org/abs/2106.14448),
            whose alpha is twice as much. The loss is the mean of both passes, plus this times their
            symmetric divergence, averaged over the tokens. A step takes twice as long. It needs
            `MaskedCrossentropy`, or a loss with its `divergence`.
        **kwargs: `name` and `trainable` of `keras.Model`.

    Call arguments:
        inputs: `(source, target)`, int32 `(b, s)` and `(b, t)`.

    Output shape:
        Logits `(b, t, vocabulary)`, the unknown words of a copy mechanism counted.

    Raises:
        ValueError: For parts that do not fit together and options out of range; for a head or a
            target embedding that does not treat every step by itself, and a head that returns
            probabilities; for an encoder that is stateful, whose memory is not of rank 3, stands
            in reverse, or has another length than the source and carries no mask. For ids that the
            model does not have: at once in arrays, and wherever values are known; where a compiled
            step cannot raise, `fit` raises at the end of the epoch, whose loss is NaN.
        TypeError: For parts and options of another type.

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
        *others: Any,
        copy_mechanism: CopyMechanism | None = None,
        scheduled_sampling: ScheduledSampling | None = None,
        dropout: float = 0.0,
        variational_dropout: bool = False,
        word_dropout: float = 0.0,
        consistency: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_positions("Seq2Seq takes `encoder`, `target_embedding`, `decoder` and `head`", others)
        check_options("Seq2Seq", kwargs)
        check_instance("copy_mechanism", copy_mechanism, CopyMechanism, optional=True)
        check_instance("scheduled_sampling", scheduled_sampling, ScheduledSampling, optional=True)
        dropout = fraction_of("dropout", dropout)
        word_dropout = fraction_of("word_dropout", word_dropout)
        variational_dropout = checked_flag("variational_dropout", variational_dropout)
        consistency = at_least("consistency", consistency, 0)
        _check_parts(encoder, target_embedding, decoder, head)
        check_head(head)
        _check_losses(decoder, scheduled_sampling)
        _check_consistency(consistency, scheduled_sampling)
        source = keras.Input((None,), dtype="int32", name="source")
        target = keras.Input((None,), dtype="int32", name="target")
        rates = Rates(dropout, variational_dropout, word_dropout)
        forced = ForcedDecoding(target_embedding, decoder, head, copy_mechanism, rates)
        encoded = _memory_and_states(encoder(_known_source(copy_mechanism, source)))
        check_memory(encoder, encoded[0])
        check_encoder(encoder, needs_every_id=copy_mechanism is not None)
        logits, _ = forced(source, *encoded, target)
        check_steps_of_head(head, decoder.cell.output_size)
        check_gives_logits(head, decoder.cell.output_size)
        check_embedded(target_embedding, copy_mechanism, logits.shape[-1])
        super().__init__(inputs=[source, target], outputs=logits, **kwargs)
        self.encoder = encoder
        self.target_embedding = target_embedding
        self.decoder = decoder
        self.head = head
        self.copy_mechanism = copy_mechanism
        self.scheduled_sampling = scheduled_sampling
        self.dropout = dropout
        self.variational_dropout = variational_dropout
        self.word_dropout = word_dropout
        self.consistency = consistency
        self._forced = forced
        self._searches = CompiledFunctions()
        freeze_parts(self)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Tensor:
        self.check_ids(inputs)
        if not training or self.scheduled_sampling is None:
            return super().call(inputs, training=training, mask=mask)
        names = [one.name for one in self.inputs]
        source, target = map(inputs.get, names) if isinstance(inputs, dict) else inputs
        encoded = self._encoded(source, training=True)

        def predict(words: Tensor) -> Tensor:
            return self._forced(source, *encoded, target, words=words, training=False)[0]

        words = self.scheduled_sampling(target, predict=predict)
        return self._forced(source, *encoded, target, words=words, training=True)[0]

    @property
    def jit_compile(self) -> Any:
        """Whether training is compiled by XLA.

        Where a layer does not allow it, `compile(jit_compile=True)` warns and says what to write in
        the place of that layer. Keras then trains without XLA.
        """
        return keras.Model.jit_compile.fget(self)

    # Not in `compile`: Keras does not compile a model that it loads whose class has its own.
    @jit_compile.setter
    def jit_compile(self, value: Any) -> None:
        with xla_advice(self, value):
            keras.Model.jit_compile.fset(self, value)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The loss of a batch, a scalar; in training with `consistency`, that of two passes.

        Args:
            x: `(source, target)`, of which the second pass is made.
            y: int32 `(b, t)`, the labels.
            y_pred: Logits `(b, t, v)`, of the first pass.
            sample_weight: As the compiled loss takes it.
            training: Whether the second pass is made at all.

        Raises:
            ValueError: For a compiled loss without `divergence`.
        """
        # Here, not in `train_step`, which each backend writes its own way.
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training or not self.consistency:
            return loss
        if not hasattr(self.loss, "divergence"):
            raise ValueError(
                "A model with consistency needs a loss that says how far two predictions are "
                f"apart, as MaskedCrossentropy does. Received: loss={self.loss!r}"
            )
        other = self(x, training=True)
        of_other = super().compute_loss(x, y, other, sample_weight, training)
        apart = self.loss.divergence(y, y_pred, other, sample_weight)
        return 0.5 * (loss + of_other) + self.consistency * apart

    def with_attention_scores(self) -> Seq2SeqWithScores:
        """The same layers as a model that is trained on where it looks too.

        Returns:
            A `Seq2SeqWithScores` from source and target ids to `[logits, attention scores (b, t,
            s)]`, uncompiled. It shares all weights with this one. With scores there is no fast
            loop, and it is trained on one pass, whatever `consistency` is.

        Raises:
            ValueError: For a model with scheduled sampling, which reads words that no alignment is
                given for.
        """
        return Seq2SeqWithScores(self, name=f"{self.name}_with_scores")

    def forced_with_scores(self) -> list[Any]:
        """The symbolic `[logits, attention scores]` of the model's inputs.

        Raises:
            ValueError: As `with_attention_scores`.
        """
        if self.scheduled_sampling is not None:
            raise ValueError(
                "with_attention_scores is for models without scheduled sampling. Received: "
                f"{self.scheduled_sampling!r}"
            )
        source, target = self.inputs
        rates = Rates(*(getattr(self, name) for name in Rates._fields))
        decoder = DecoderWithScores(self.decoder)
        parts = self.target_embedding, decoder, self.head, self.copy_mechanism
        encoded = _memory_and_states(self.encoder(_known_source(self.copy_mechanism, source)))
        return list(
            ForcedDecoding(*parts, rates)(source, *encoded, target, return_attention_scores=True)
        )

    @property
    def max_source_length(self) -> int | None:
        """Length of the longest source (end token included) that the model takes, if it has one."""
        return self.decoder.cell.attention.max_source_length

    @property
    def vocabulary_size(self) -> int:
        """Number of target ids."""
        return self.output.shape[-1]

    @property
    def source_vocabulary_size(self) -> int | None:
        """Number of source ids, those of unknown words included, if it can be seen."""
        return self.id_ranges[0].size

    @property
    def id_ranges(self) -> tuple[IdRange, IdRange]:
        """The ids of source and target that the model reads."""
        copying = self.copy_mechanism
        return source_ids(self.encoder, copying), target_ids(self.target_embedding, copying)

    @property
    def is_quantized(self) -> bool:
        """Whether some weights are integers, as `quantize` makes them."""
        return any(variable.dtype == "int8" for variable in self.weights)

    def encode(self, source: Tensor) -> tuple[AttentionMemory, Any]:
        """Reads source ids `(b, s)`: the prepared memory, and the decoder's initial state."""
        memory, states = self._encoded(source)
        prepared = self.decoder.cell.prepare(memory, self._forced.memory_mask(memory, source))
        if self.copy_mechanism is not None:
            prepared = prepared._replace(copied_ids=self.copy_mechanism.copied_ids(source))
        return prepared, states

    def attended_mask(self, memory: AttentionMemory) -> Tensor | None:
        """The positions that attention scores are of, boolean `(b, s)`."""
        return memory.mask

    def _encoded(self, source: Tensor, training: bool = False) -> tuple[Tensor, Any]:
        read = _known_source(self.copy_mechanism, source)
        return _memory_and_states(self.encoder(read, training=training))

    def initial_state(self, states: Any, memory: AttentionMemory) -> list[Tensor]:
        """The state a search starts from: flat, each `(b, 1, ...)`, the step's index last."""
        flat = self.decoder.cell.initial_states(memory, states)
        position = self.decoder.cell.initial_position(memory, states)[:, None]
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
            ids,
            state,
            memory,
            lambda vectors: whole_product(
                self.head, self.target_embedding, vectors, training=False
            ),
        )

    def check_shortlist(self) -> None:
        """Raises a `ValueError` if the model cannot decode with a `Shortlist`: see `step_among`."""
        _check_known_words(self.copy_mechanism)
        check_gathered(self.head, self.target_embedding)

    def step_among(self, word_ids: Tensor) -> Any:
        """`step` among some ids alone: with their logits, which are minus infinity where ruled out.

        It takes `(memory, allowed)` in the place of the memory: which of the ids each sentence may
        hold, boolean `(b, n)`.

        Args:
            word_ids: int32 `(n,)`.

        Raises:
            ValueError: For a head that is no `keras.layers.Dense`, quantized weights whose columns
                cannot be taken one by one, and a copy mechanism with ids for unknown words.
        """
        self.check_shortlist()
        product_of = vocabulary_product(self.head, self.target_embedding, word_ids)

        def step(ids: Tensor, state: list[Tensor], shared: tuple[Any, Tensor]) -> tuple:
            memory, allowed = shared
            if self.copy_mechanism is not None:
                places = _places_among(memory.copied_ids, word_ids, allowed)
                memory = memory._replace(copied_ids=places)
            return self._advanced(ids, state, memory, product_of, allowed)

        return step

    def _advanced(
        self,
        ids: Tensor,
        state: list[Tensor],
        memory: AttentionMemory,
        product_of: Any,
        allowed: Tensor | None = None,
    ) -> tuple:
        batch, beams = ops.shape(ids)[0], ops.shape(ids)[1]
        if self.copy_mechanism is not None:
            ids = self.copy_mechanism.known_target(ids)
        # As in training, embedding and head see sequences: of one step, a row per hypothesis.
        words = self.target_embedding(ops.reshape(ids, (-1, 1)), training=False)
        # Reshaped after the embedding, so that no mask of it stays: a search has its own.
        inputs, *flat, position = (
            ops.reshape(part, (-1, ops.shape(part)[-1])) for part in (words, *state)
        )
        vectors, flat, scores = self.decoder.cell(
            inputs,
            flat,
            memory=memory,
            query_position=position,
            return_attention_scores=True,
            training=False,
        )
        logits, vectors, scores, *state = (
            ops.reshape(part, (batch, beams, ops.shape(part)[-1]))
            for part in (product_of(vectors[:, None]), vectors, scores, *flat, position + 1)
        )
        if allowed is not None:
            logits = ops.where(allowed[:, None], logits, -float("inf"))
        if self.copy_mechanism is not None:
            logits = self.copy_mechanism(logits, vectors, scores, memory.values, memory.copied_ids)
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
        self.check_ids((source, target_in))
        IdRange("target_out", self.vocabulary_size).check(target_out)
        logits, attention_scores = self._forced(
            source,
            *self._encoded(source),
            target_in,
            return_attention_scores=True,
            training=False,
        )
        log_probs = ops.log_softmax(float32_at_least(logits), axis=-1)
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
        """All parts and options; layers that parts share are shared by what is made of it."""
        config = serialized_parts({name: getattr(self, name) for name in _PARTS})
        numbers = {name: getattr(self, name) for name in (*Rates._fields, "consistency")}
        return {**config, **numbers, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Seq2Seq":
        # A model that was saved before there was such a part has none.
        parts = deserialized_parts({name: config.get(name) for name in _PARTS}, custom_objects)
        with parts_as_configured():
            return cls(**{**config, **parts})


def _memory_and_states(outputs: Any) -> tuple[Tensor, list[Tensor] | None]:
    if not isinstance(outputs, list | tuple):
        return outputs, None
    memory, *states = outputs
    return memory, states or None


def _known_source(copy_mechanism: CopyMechanism | None, source: Tensor) -> Tensor:
    """What the encoder reads."""
    return source if copy_mechanism is None else copy_mechanism.known_source(source)


def _places_among(ids: Tensor, word_ids: Tensor, allowed: Tensor) -> Tensor:
    """Where ids `(b, s)` stand among increasing ids `(n,)`; -1 for those that are not allowed."""
    places = ops.cast(ops.searchsorted(word_ids, ops.reshape(ids, (-1,))), "int32")
    places = ops.minimum(ops.reshape(places, ops.shape(ids)), ops.shape(word_ids)[0] - 1)
    is_there = ops.equal(ops.take(word_ids, places), ids)
    is_there = ops.logical_and(is_there, ops.take_along_axis(allowed, places, axis=1))
    return ops.where(is_there, places, -1)


def _check_known_words(copy_mechanism: CopyMechanism | None) -> None:
    if copy_mechanism is not None and copy_mechanism.max_unknown_words:
        raise ValueError(
            "A shortlist is of words that the vocabulary has, so it needs a copy mechanism with "
            f"max_unknown_words=0. Received: {copy_mechanism.max_unknown_words}"
        )


def _check_losses(decoder: AttentionDecoder, scheduled_sampling: Any) -> None:
    if scheduled_sampling is not None and decoder.coverage_loss:
        raise ValueError(
            "A decoder that runs several times in a step would add its coverage loss as often: "
            "with scheduled_sampling it needs coverage_loss=0. Received: "
            f"{decoder.coverage_loss}"
        )


def _check_consistency(consistency: float, scheduled_sampling: Any) -> None:
    if consistency and scheduled_sampling is not None:
        raise ValueError(
            "Scheduled sampling counts a step for each of the two passes of consistency: one of "
            f"them must be left out. Received: consistency={consistency} and {scheduled_sampling!r}"
        )


def _check_parts(encoder: Any, target_embedding: Any, decoder: Any, head: Any) -> None:
    if not callable(encoder) or isinstance(encoder, type):
        raise TypeError(
            "`encoder` must be a model or a layer from source ids to the memory. Received: "
            f"{encoder!r}"
        )
    if not isinstance(decoder, AttentionDecoder) or (
        decoder.return_state or not decoder.return_sequences
    ):
        raise ValueError(
            "`decoder` must be an AttentionDecoder with return_sequences=True and "
            f"return_state=False. Received: {decoder!r}"
        )
    check_steps_of_embedding(target_embedding)
    check_instance("head", head, keras.Layer, optional=True)
    if head is not None:
        return
    depth, tied = decoder.cell.units, getattr(target_embedding, "output_dim", None)
    if not isinstance(target_embedding, keras.layers.ReversibleEmbedding) or tied != depth:
        raise ValueError(
            "head=None ties the vocabulary product to the target embedding, which must then be a "
            f"keras.layers.ReversibleEmbedding as deep as the attention vector ({depth}). "
            f"Received: {target_embedding!r} of depth {tied}"
        )
