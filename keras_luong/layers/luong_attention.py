"""`LuongAttention`: the attention layer of Luong et al. 2015 for Keras 3."""

from typing import Any

import keras
from keras import ops

from keras_luong import functional
from keras_luong.checked_numbers import at_least, count_of
from keras_luong.layers.arguments import checked_flag
from keras_luong.layers.attention import Attended, AttentionMemory, row_mask
from keras_luong.layers.checks import check_one_of
from keras_luong.layers.scored_attention import ScoredAttention

Tensor = Any
SCORE_MODES = ("dot", "general", "concat", "location", "tutorial")
WINDOWS = ("global", "local_m", "local_p")


@keras.saving.register_keras_serializable(package="keras_luong")
class LuongAttention(ScoredAttention):
    """Attention of a target state over source states, with the scores and windows of Luong et al.

    With `h_t` a query and `h_s` a key, the attention logits are

    - `"dot"`: `h_t . h_s`;
    - `"general"`: `h_t . (h_s W)`;
    - `"concat"`: `v . tanh(W [h_t; h_s])`;
    - `"location"`: `h_t W`, one logit a source position, whatever stands there;
    - `"tutorial"`: `v . (W_s h_t) + u . sigma(h_s)`, a position's matrix and a source's own weight;

    the scores `a_t(s)` their softmax over the kept source positions, and the result is the context
    `c_t = sum_s a_t(s) value_s`. The softmax is computed in float32 at least. Padding gets exactly
    0, and its content (NaN included) does not matter; a source without a kept position gives zero
    scores and a zero context; so does a masked query.

    A window limits the softmax to source positions s near a centre, both ends included:

    - `"global"`: all of them;
    - `"local_m"`: `[t - D, t + D]` for the query of position t (monotonic alignment);
    - `"local_p"`: `[p_t - D, p_t + D]` with `p_t = S sigmoid(v_p . tanh(W_p h_t))` (predictive
      alignment), S being 1 + the last kept position; the scores are then multiplied by
      `exp(-(s - p_t)^2 / (2 sigma^2))`, `sigma = D / 2`.

    Positions count from 0. A window without a kept position gives zeros.

    Args:
        score_mode: One of `"dot"`, `"general"`, `"concat"`, `"location"`, `"tutorial"`.
        window: One of `"global"`, `"local_m"`, `"local_p"`.
        window_size: D, in source positions, for the local windows. Defaults to 10 there.
        units: Width of the hidden layer of `"concat"` or `"tutorial"`. Defaults to the depth of the
            query.
        max_source_length: Length of the longest source for `"location"` and `"tutorial"`, which
            need it.
        use_scale: Whether a trained scalar, initially 1, multiplies the logits.
        use_bias: Whether a bias stands inside the tanh of `"concat"` or on the logits of
            `"location"`. The paper has none, and the other scores have no place for one.
        use_coverage: Whether the sum of the scores of all earlier steps, times a trained vector, is
            one more summand inside the tanh of `"concat"`.
        probability_fn: `"softmax"`; `"hardmax"`, 1 at the first maximum, which passes no gradient
            to the logits; or `"sparsemax"`.
        score_activation: `sigma` of `"tutorial"`. Defaults to `"sigmoid"`.
        dropout: Fraction of the scores to drop in training. Inside an `AttentionDecoder`, and with
            coverage, the mask is drawn once a sequence, as for recurrent cells.
        seed: Seed of the dropout.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        query: `(batch, target length, query depth)`, or one step `(batch, query depth)`.
        value: `(batch, source length, value depth)`.
        key: `(batch, source length, key depth)`. Defaults to `value`.
        query_mask: Boolean `(batch, target length)`, or `(batch,)` for one step.
        value_mask: Boolean `(batch, source length)`.
        query_position: Where the queries stand, for `"local_m"`: `(batch, target length)` or
            `(target length,)`, by default 0, 1, 2 and so on, masked queries counted; for one step
            `(batch,)` or a number, without which the step is refused. Need not be whole.
        state: With `use_coverage`, the coverage before the first query, `(batch, source length)`.
            Zeros by default. Add the scores to get the coverage after a step.
        return_attention_scores: Whether to return the scores too.
        training: Whether dropout is applied.

    Output shape:
        Context `(batch, target length, value depth)`, or `(batch, value depth)` for one step; with
        `return_attention_scores=True` also the scores `(batch, target length, source length)`, or
        `(batch, source length)`.

    Raises:
        ValueError: For an unknown score, window or probability function, an option that the score
            or window does not have, unequal depths for `"dot"`, tensors of the wrong rank, masks of
            the wrong shape, and a source longer than `max_source_length`.
        TypeError: For options of another type.

    Example:

    >>> import numpy as np
    >>> attention = LuongAttention(score_mode="dot")
    >>> context, scores = attention(
    ...     np.ones((2, 3, 8)), np.ones((2, 5, 8)), return_attention_scores=True
    ... )
    >>> print(tuple(context.shape), tuple(scores.shape))
    (2, 3, 8) (2, 3, 5)
    >>> attention = LuongAttention("general", window="local_p", window_size=2)
    >>> print(tuple(attention(np.ones((2, 3, 8)), np.ones((2, 5, 6))).shape))
    (2, 3, 6)

    Long sequences: `"dot"` and `"general"` with the global window and softmax, without dropout in
    training, compute the context a block of queries at a time once `batch x target length x source
    length` reaches 2^24 or a length is unknown while tracing, unless the scores are asked for.
    Results and gradients are the same; memory grows with the lengths, not with their product. So
    does that of an `AttentionDecoder` without input feeding.

    Reference:
        [Luong, Pham, Manning 2015](https://arxiv.org/abs/1508.04025), sections 3.1 and 3.2,
        equations 7 to 10; sparsemax: [Martins, Astudillo 2016](https://arxiv.org/abs/1602.02068);
        coverage: [See, Liu, Manning 2017](https://arxiv.org/abs/1704.04368), equation 11.

    Choices that the paper leaves open: its concat has one W for `[h_t; h_s]`; the two blocks are
    two weights here, `query_kernel` and `key_kernel`, since the product is the sum of two
    projections. It does not say whether a window's ends belong to it (here they do), whether p_t is
    rounded (it is not, so that the gradient goes through the window's factor alone), whether the
    softmax runs inside the window only (it does), whether the scores of `"local_p"` are made to
    sum to 1 again (they are not), nor how wide W_p is (as wide as the query).
    """

    def __init__(
        self,
        score_mode: str = "general",
        *,
        window: str = "global",
        window_size: float | None = None,
        units: int | None = None,
        max_source_length: int | None = None,
        use_scale: bool = False,
        use_bias: bool = False,
        use_coverage: bool = False,
        probability_fn: str = "softmax",
        score_activation: Any = None,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            use_coverage=use_coverage,
            probability_fn=probability_fn,
            dropout=dropout,
            seed=seed,
            **kwargs,
        )
        check_one_of("score_mode", score_mode, SCORE_MODES)
        check_one_of("window", window, WINDOWS)
        _check_score(score_mode, units, max_source_length, score_activation)
        use_bias = checked_flag("use_bias", use_bias)
        _check_additions(score_mode, use_bias, self.use_coverage)
        self.score_mode = score_mode
        self.window = window
        self.window_size = _checked_window_size(window, window_size)
        self.units = None if units is None else count_of("units", units)
        if max_source_length is not None:
            self.max_source_length = count_of("max_source_length", max_source_length)
        self.use_scale = checked_flag("use_scale", use_scale)
        self.use_bias = use_bias
        if score_mode == "tutorial" and score_activation is None:
            score_activation = "sigmoid"
        self.score_activation = keras.activations.get(score_activation)

    @property
    def needs_position(self) -> bool:
        return self.window == "local_m"

    # -- weights --------------------------------------------------------------------------------

    def build_score(self, query_depth: int, key_depth: int) -> None:
        self.scale = self.weight("scale", (), "ones") if self.use_scale else None
        self.bias = self.coverage_kernel = None
        _BUILDERS[self.score_mode](self, query_depth, key_depth)
        if self.window == "local_p":
            self.position_kernel = self.weight("position_kernel", (query_depth, query_depth))
            self.position_v = self.weight("position_v", (query_depth,))

    def _build_dot(self, query_depth: int, key_depth: int) -> None:
        if query_depth != key_depth:
            raise ValueError(
                'score_mode="dot" needs a query and a key of equal depth. Received query depth '
                f'{query_depth} and key depth {key_depth}; score_mode="general" takes any depths.'
            )

    def _build_general(self, query_depth: int, key_depth: int) -> None:
        self.kernel = self.weight("kernel", (key_depth, query_depth))

    def _build_concat(self, query_depth: int, key_depth: int) -> None:
        units = self.units or query_depth
        self.query_kernel = self.weight("query_kernel", (query_depth, units))
        self.key_kernel = self.weight("key_kernel", (key_depth, units))
        self.v = self.weight("v", (units,))
        if self.use_bias:
            self.bias = self.weight("bias", (units,), "zeros")
        if self.use_coverage:
            self.coverage_kernel = self.weight("coverage_kernel", (units,))

    def _build_location(self, query_depth: int, key_depth: int) -> None:
        self.kernel = self.weight("kernel", (query_depth, self.max_source_length))
        if self.use_bias:
            self.bias = self.weight("bias", (self.max_source_length,), "zeros")

    def _build_tutorial(self, query_depth: int, key_depth: int) -> None:
        units = self.units or query_depth
        self.kernel = self.weight("kernel", (self.max_source_length, query_depth, units))
        self.v = self.weight("v", (units,))
        self.u = self.weight("u", (key_depth,))

    # -- logits ---------------------------------------------------------------------------------

    def project_keys(self, key: Tensor) -> Tensor | None:
        if self.score_mode == "location":
            return None
        if self.score_mode == "dot":
            return key
        if self.score_mode == "tutorial":
            u = ops.expand_dims(self.cast(self.u), -1)
            return functional.project(functional.activate(self.score_activation, key), u)
        kernel = self.kernel if self.score_mode == "general" else self.key_kernel
        return functional.project(key, self.cast(kernel))

    def logits(self, query: Tensor, memory: AttentionMemory, coverage: Tensor | None) -> Tensor:
        logits = self._unscaled_logits(query, memory, coverage)
        return logits if self.scale is None else logits * self.cast(self.scale)

    def _unscaled_logits(
        self, query: Tensor, memory: AttentionMemory, coverage: Tensor | None
    ) -> Tensor:
        bias = None if self.bias is None else self.cast(self.bias)
        length = ops.shape(memory.values)[1]
        if self.score_mode == "location":
            return functional.location_logits(query, self.cast(self.kernel), length, bias)
        if self.score_mode == "tutorial":
            # v . (W_s h_t) = (v W_s) . h_t: a location score whose kernel is a product.
            kernel = functional.project(self.cast(self.kernel), self.cast(self.v)[:, None])
            kernel = ops.transpose(ops.squeeze(kernel, -1))
            of_position = functional.location_logits(query, kernel, length)
            return of_position + ops.swapaxes(memory.keys, 1, 2)
        if self.score_mode == "concat":
            query = functional.project(query, self.cast(self.query_kernel))
            extra = (
                (self.cast(coverage), self.cast(self.coverage_kernel)) if self.use_coverage else ()
            )
            return functional.additive_logits(query, memory.keys, self.cast(self.v), bias, *extra)
        return functional.dot_logits(query, memory.keys)

    # -- scores ---------------------------------------------------------------------------------

    def prepare(
        self,
        value: Tensor,
        key: Tensor | None = None,
        value_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> AttentionMemory:
        memory = super().prepare(value, key, value_mask, training)
        if self.window != "local_p":
            return memory
        return memory._replace(lengths=functional.sentence_lengths(value_mask, value))

    def probabilities(
        self,
        logits: Tensor,
        query: Tensor,
        memory: AttentionMemory,
        query_position: Tensor | None,
    ) -> Tensor:
        scores_of = functional.PROBABILITY_FNS[self.probability_fn]
        mask = row_mask(memory)
        if self.window == "global" or self.window_size is None:
            return scores_of(logits, mask)
        length = ops.shape(memory.values)[1]
        centres = self._centres(query, memory, query_position)
        inside = functional.in_window(centres, self.window_size, length)
        scores = scores_of(logits, inside if mask is None else ops.logical_and(inside, mask))
        if self.window == "local_m":
            return scores
        factors = functional.gaussian(centres, self.window_size, length)
        return scores * ops.cast(factors, scores.dtype)

    def _centres(
        self, query: Tensor, memory: AttentionMemory, query_position: Tensor | None
    ) -> Tensor:
        if self.window == "local_m":
            return query_position
        kernel, v = self.cast(self.position_kernel), self.cast(self.position_v)
        return functional.predicted_centres(query, kernel, v, memory.lengths)

    def attend(
        self,
        query: Tensor,
        memory: AttentionMemory,
        query_mask: Tensor | None = None,
        query_position: Tensor | None = None,
        state: Tensor | None = None,
        noise: Tensor | None = None,
        return_attention_scores: bool = True,
    ) -> Attended:
        if not return_attention_scores and self._is_long(query, memory):
            return self._in_blocks(query, memory, query_mask)
        return super().attend(
            query, memory, query_mask, query_position, state, noise, return_attention_scores
        )

    def _is_long(self, query: Tensor, memory: AttentionMemory) -> bool:
        return (
            self.score_mode in ("dot", "general")
            and self.window == "global"
            and self.probability_fn == "softmax"
            and memory.dropout_mask is None
            and functional.is_long(query, memory.keys)
        )

    def _in_blocks(
        self, query: Tensor, memory: AttentionMemory, query_mask: Tensor | None
    ) -> Attended:
        query = self.cast(functional.zero_masked(query, query_mask))
        query = query if self.scale is None else query * self.cast(self.scale)
        context = functional.long_attention(query, memory.keys, memory.values, memory.mask)
        return Attended(functional.zero_masked(context, query_mask), None, None)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "score_mode": self.score_mode,
            "window": self.window,
            "window_size": self.window_size,
            "units": self.units,
            "max_source_length": self.max_source_length,
            "use_scale": self.use_scale,
            "use_bias": self.use_bias,
            "score_activation": None
            if self.score_mode != "tutorial"
            else keras.activations.serialize(self.score_activation),
        }


_BUILDERS = {
    "dot": LuongAttention._build_dot,
    "general": LuongAttention._build_general,
    "concat": LuongAttention._build_concat,
    "location": LuongAttention._build_location,
    "tutorial": LuongAttention._build_tutorial,
}


def _check_score(
    score_mode: str, units: int | None, max_source_length: int | None, score_activation: Any
) -> None:
    if units is not None and score_mode not in ("concat", "tutorial"):
        raise ValueError(
            f'units belongs to score_mode="concat" and "tutorial". Received: {score_mode!r}'
        )
    if (max_source_length is not None) != (score_mode in ("location", "tutorial")):
        raise ValueError(
            'max_source_length belongs to score_mode="location" and "tutorial", which need it. '
            f"Received: score_mode={score_mode!r}, max_source_length={max_source_length}"
        )
    if score_activation is not None and score_mode != "tutorial":
        raise ValueError(
            f'score_activation belongs to score_mode="tutorial". Received: {score_mode!r}'
        )


def _check_additions(score_mode: str, use_bias: bool, use_coverage: bool) -> None:
    if use_bias and score_mode not in ("concat", "location"):
        raise ValueError(
            'use_bias is for score_mode "concat" and "location"; the other scores have no bias. '
            f"Received: {score_mode!r}"
        )
    if use_coverage and score_mode != "concat":
        raise ValueError(
            'use_coverage is for score_mode="concat", whose tanh has a place for it. '
            f"Received: {score_mode!r}"
        )


def _checked_window_size(window: str, window_size: Any) -> float | None:
    if window != "global":
        return 10.0 if window_size is None else at_least("window_size", window_size, 1)
    if window_size is not None:
        raise ValueError(
            f'window_size belongs to the windows "local_m" and "local_p". Received: {window_size}'
        )
    return None
