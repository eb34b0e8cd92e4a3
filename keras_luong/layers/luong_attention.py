"""`LuongAttention`: the attention layer of Luong et al. 2015 for Keras 3."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_luong import functional
from keras_luong.layers.checks import check_mask, check_rank, refuse_list, refuse_mask

Tensor = Any
SCORE_MODES = ("dot", "general", "concat", "location")


class AttentionMemory(NamedTuple):
    """What attention needs of a source, prepared once a sentence.

    Attributes:
        values: `(b, s, value depth)`, zeros at padding.
        keys: Projected keys: `(b, s, query depth)` for dot and general, `(b, s, units)` for concat,
            `None` for location, which does not look at the source.
        mask: Boolean `(b, s)`, or `None` to keep every position.
        dropout_mask: Factors for the scores, broadcastable to `(b, t, s)`, or `None`.
    """

    values: Tensor
    keys: Tensor | None
    mask: Tensor | None
    dropout_mask: Tensor | None = None


@keras.saving.register_keras_serializable(package="keras_luong")
class LuongAttention(keras.layers.Layer):
    """Attention of a target state over source states, with the four scores of Luong et al. 2015.

    With `h_t` a query and `h_s` a key, the attention logits are

    - `"dot"`: `h_t . h_s`;
    - `"general"`: `h_t . (h_s W)`;
    - `"concat"`: `v . tanh(W [h_t; h_s])`;
    - `"location"`: `h_t W`, one logit a source position, whatever stands there;

    the scores `a_t(s)` their softmax over the kept source positions, and the result is the context
    `c_t = sum_s a_t(s) value_s`. The softmax is computed in float32 at least. Padding gets exactly
    0, and its content (NaN included) does not matter; a source without a kept position gives zero
    scores and a zero context; so does a masked query.

    Args:
        score_mode: One of `"dot"`, `"general"`, `"concat"`, `"location"`.
        units: Width of the hidden layer of `"concat"`. Defaults to the depth of the query.
        max_source_length: Length of the longest source for `"location"`, which needs it.
        use_scale: Whether a trained scalar, initially 1, multiplies the logits.
        use_bias: Whether a bias stands inside the tanh of `"concat"` or on the logits of
            `"location"`. The paper has none, and the other scores have no place for one.
        dropout: Fraction of the scores to drop in training. Inside an `AttentionDecoder` the mask
            is drawn once a sequence, as for recurrent cells.
        seed: Seed of the dropout.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        query: `(batch, target length, query depth)`, or one step `(batch, query depth)`.
        value: `(batch, source length, value depth)`.
        key: `(batch, source length, key depth)`. Defaults to `value`.
        query_mask: Boolean `(batch, target length)`, or `(batch,)` for one step.
        value_mask: Boolean `(batch, source length)`.
        return_attention_scores: Whether to return the scores too.
        training: Whether dropout is applied.

    Output shape:
        Context `(batch, target length, value depth)`, or `(batch, value depth)` for one step; with
        `return_attention_scores=True` also the scores `(batch, target length, source length)`, or
        `(batch, source length)`.

    Raises:
        ValueError: For an unknown score, an option that the score does not have, unequal depths
            for `"dot"`, tensors of the wrong rank, masks of the wrong shape, and a source longer
            than `max_source_length`.

    Example:

    >>> import numpy as np
    >>> attention = LuongAttention(score_mode="dot")
    >>> context, scores = attention(
    ...     np.ones((2, 3, 8)), np.ones((2, 5, 8)), return_attention_scores=True
    ... )
    >>> print(tuple(context.shape), tuple(scores.shape))
    (2, 3, 8) (2, 3, 5)

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025), section 3.1, equations 7 and
        8. The paper's concat has one W for `[h_t; h_s]`; its two blocks are two weights here,
        `query_kernel` and `key_kernel`, since the product is the sum of two projections.
    """

    def __init__(
        self,
        score_mode: str = "general",
        *,
        units: int | None = None,
        max_source_length: int | None = None,
        use_scale: bool = False,
        use_bias: bool = False,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_options(score_mode, units, max_source_length, use_bias, dropout)
        self.score_mode = score_mode
        self.units = units
        self.max_source_length = max_source_length
        self.use_scale = use_scale
        self.use_bias = use_bias
        self.dropout = dropout
        self.seed = seed
        self.supports_masking = True
        if dropout:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        query_depth, key_depth = query_shape[-1], (key_shape or value_shape)[-1]
        self.scale = self._weight("scale", (), "ones") if self.use_scale else None
        self.bias = None
        if self.score_mode == "dot" and query_depth != key_depth:
            raise ValueError(
                'score_mode="dot" needs a query and a key of equal depth. Received query depth '
                f'{query_depth} and key depth {key_depth}; score_mode="general" takes any depths.'
            )
        if self.score_mode == "general":
            self.kernel = self._weight("kernel", (key_depth, query_depth))
        elif self.score_mode == "concat":
            units = self.units or query_depth
            self.query_kernel = self._weight("query_kernel", (query_depth, units))
            self.key_kernel = self._weight("key_kernel", (key_depth, units))
            # A kernel of one column: the initializer needs the fan-in, the maths needs a vector.
            limit = (3.0 / units) ** 0.5
            initializer = keras.initializers.RandomUniform(-limit, limit, seed=self.seed)
            self.v = self._weight("v", (units,), initializer)
            self.bias = self._weight("bias", (units,), "zeros") if self.use_bias else None
        elif self.score_mode == "location":
            self.kernel = self._weight("kernel", (query_depth, self.max_source_length))
            if self.use_bias:
                self.bias = self._weight("bias", (self.max_source_length,), "zeros")

    def _weight(self, name: str, shape: tuple, initializer: Any = "glorot_uniform") -> Any:
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def __call__(self, query: Tensor, *args: Any, **kwargs: Any) -> Any:
        call = "layer(query, value, query_mask=..., value_mask=...)"
        refuse_list(self, query, call)
        refuse_mask(self, kwargs, call)
        return super().__call__(query, *args, **kwargs)

    def call(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        self._check_call(query, value, key, query_mask, value_mask)
        one_step = len(query.shape) == 2
        if one_step:
            query = ops.expand_dims(query, 1)
            query_mask = None if query_mask is None else ops.expand_dims(query_mask, 1)
        memory = self.prepare(value, key, value_mask)
        if training and self.dropout:
            shape = (ops.shape(query)[0], ops.shape(query)[1], ops.shape(value)[1])
            memory = memory._replace(dropout_mask=self._draw_dropout(shape))
        context, scores = self.attend(query, memory, query_mask)
        if one_step:
            context, scores = ops.squeeze(context, 1), ops.squeeze(scores, 1)
        return (context, scores) if return_attention_scores else context

    def prepare(
        self,
        value: Tensor,
        key: Tensor | None = None,
        value_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> AttentionMemory:
        """Does once a sentence what does not depend on the query: masks values, projects keys.

        Args:
            value: `(batch, source length, value depth)`.
            key: `(batch, source length, key depth)`. Defaults to `value`.
            value_mask: Boolean `(batch, source length)`, or `None`.
            training: Whether to draw dropout factors, one set for all target steps.

        Returns:
            An `AttentionMemory` for `attend`.
        """
        self.check_source_length(value.shape[1])
        value = ops.cast(functional.zero_masked(value, value_mask), self.compute_dtype)
        if key is not None:
            key = ops.cast(functional.zero_masked(key, value_mask), self.compute_dtype)
        keys = self._project_keys(value if key is None else key)
        dropout_mask = None
        if training and self.dropout:
            dropout_mask = self._draw_dropout((ops.shape(value)[0], 1, ops.shape(value)[1]))
        return AttentionMemory(value, keys, value_mask, dropout_mask)

    def attend(
        self, query: Tensor, memory: AttentionMemory, query_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Context and scores of queries over a prepared memory.

        Args:
            query: `(batch, target length, query depth)`.
            memory: What `prepare` returned.
            query_mask: Boolean `(batch, target length)`, or `None`.

        Returns:
            `(context, scores)`: `(batch, target length, value depth)` and `(batch, target length,
            source length)`, both in the layer's compute dtype.
        """
        query = ops.cast(functional.zero_masked(query, query_mask), self.compute_dtype)
        logits = self._logits(query, memory)
        if self.scale is not None:
            logits = logits * self._cast(self.scale)
        mask = None if memory.mask is None else ops.expand_dims(memory.mask, 1)
        scores = functional.masked_softmax(logits, mask)
        scores = ops.cast(functional.zero_masked(scores, query_mask), self.compute_dtype)
        weights = scores if memory.dropout_mask is None else scores * memory.dropout_mask
        return functional.weighted_sum(weights, memory.values), scores

    def _project_keys(self, key: Tensor) -> Tensor | None:
        if self.score_mode == "location":
            return None
        if self.score_mode == "dot":
            return key
        kernel = self.kernel if self.score_mode == "general" else self.key_kernel
        return functional.project(key, self._cast(kernel))

    def _logits(self, query: Tensor, memory: AttentionMemory) -> Tensor:
        bias = None if self.bias is None else self._cast(self.bias)
        if self.score_mode == "location":
            length = ops.shape(memory.values)[1]
            return functional.location_logits(query, self._cast(self.kernel), length, bias)
        if self.score_mode == "concat":
            query = functional.project(query, self._cast(self.query_kernel))
            return functional.concat_logits(query, memory.keys, self._cast(self.v), bias)
        return functional.dot_logits(query, memory.keys)

    def _cast(self, weight: Any) -> Tensor:
        # Explicit, since `prepare` and `attend` also run outside `__call__` and its autocast scope.
        return ops.cast(weight, self.compute_dtype)

    def _draw_dropout(self, shape: tuple) -> Tensor:
        ones = ops.ones(shape, self.compute_dtype)
        return keras.random.dropout(ones, self.dropout, seed=self.seed_generator)

    def _check_call(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None,
        query_mask: Tensor | None,
        value_mask: Tensor | None,
    ) -> None:
        check_rank(self, "query", query, (2, 3))
        check_rank(self, "value", value, (3,))
        if key is not None:
            check_rank(self, "key", key, (3,))
        check_mask(self, "query_mask", query_mask, query.shape[:-1])
        check_mask(self, "value_mask", value_mask, value.shape[:-1])

    def check_source_length(self, length: int | None) -> None:
        """Refuses a source whose length is known and too long for a location score."""
        longest = self.max_source_length
        if longest is not None and length is not None and length > longest:
            raise ValueError(
                f"A location score built for max_source_length={longest} was given "
                f"a source of length {length}. Shorten the source or build the layer for more."
            )

    def compute_output_spec(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        self._check_call(query, value, key, query_mask, value_mask)
        self.check_source_length(value.shape[1])
        target = tuple(query.shape[:-1])
        context = keras.KerasTensor((*target, value.shape[-1]), dtype=self.compute_dtype)
        if not return_attention_scores:
            return context
        return context, keras.KerasTensor((*target, value.shape[1]), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "score_mode": self.score_mode,
            "units": self.units,
            "max_source_length": self.max_source_length,
            "use_scale": self.use_scale,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "seed": self.seed,
        }


def _check_options(
    score_mode: str,
    units: int | None,
    max_source_length: int | None,
    use_bias: bool,
    dropout: float,
) -> None:
    if score_mode not in SCORE_MODES:
        raise ValueError(f"score_mode must be one of {SCORE_MODES}. Received: {score_mode!r}")
    if units is not None and score_mode != "concat":
        raise ValueError(f'units belongs to score_mode="concat". Received: {score_mode!r}')
    if units is not None and units < 1:
        raise ValueError(f"units must be at least 1. Received: {units}")
    if (max_source_length is not None) != (score_mode == "location"):
        raise ValueError(
            'max_source_length belongs to score_mode="location", which needs it. Received: '
            f"score_mode={score_mode!r}, max_source_length={max_source_length}"
        )
    if max_source_length is not None and max_source_length < 1:
        raise ValueError(f"max_source_length must be at least 1. Received: {max_source_length}")
    if use_bias and score_mode not in ("concat", "location"):
        raise ValueError(
            'use_bias is for score_mode "concat" and "location"; the other scores have no bias. '
            f"Received: {score_mode!r}"
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1). Received: {dropout}")
