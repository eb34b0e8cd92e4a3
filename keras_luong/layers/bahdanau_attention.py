"""`BahdanauAttention`: the additive attention of Bahdanau et al. 2015 for Keras 3."""

from typing import Any

import keras
from keras import ops

from keras_luong import functional
from keras_luong.checked_numbers import count_of
from keras_luong.layers.arguments import checked_flag
from keras_luong.layers.attention import AttentionMemory
from keras_luong.layers.scored_attention import ScoredAttention

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class BahdanauAttention(ScoredAttention):
    """Additive attention of a target state over source states.

    With `h_t` a query and `h_s` a key, the attention logits are `v . tanh(h_t W_q + h_s W_k)`, or,
    normalised, `(g v / |v|) . tanh(h_t W_q + h_s W_k + b)`; the scores `a_t(s)` their softmax over
    the kept source positions, and the result is the context `c_t = sum_s a_t(s) value_s`. The
    softmax is computed in float32 at least. Padding gets exactly 0, and its content does not
    matter; a source without a kept position gives zeros; so does a masked query.

    Args:
        units: Width of the hidden layer.
        normalize: Whether v is normalised, with a trained scalar g, initially `1 / sqrt(units)`,
            and a trained bias b, initially zeros, inside the tanh.
        use_coverage: Whether the sum of the scores of all earlier steps, times a trained vector, is
            one more summand inside the tanh.
        probability_fn: `"softmax"`, `"hardmax"` or `"sparsemax"`, as in `LuongAttention`.
        dropout: Fraction of the scores to drop in training.
        seed: Seed of the dropout.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        query: `(batch, target length, query depth)`, or one step `(batch, query depth)`.
        value: `(batch, source length, value depth)`.
        key: `(batch, source length, key depth)`. Defaults to `value`.
        query_mask: Boolean `(batch, target length)`, or `(batch,)` for one step.
        value_mask: Boolean `(batch, source length)`.
        state: With `use_coverage`, the coverage before the first query, `(batch, source length)`.
            Zeros by default. Add the scores to get the coverage after a step.
        return_attention_scores: Whether to return the scores too.
        training: Whether dropout is applied.

    Output shape:
        Context `(batch, target length, value depth)`, or `(batch, value depth)` for one step; with
        `return_attention_scores=True` also the scores `(batch, target length, source length)`, or
        `(batch, source length)`.

    Raises:
        ValueError: For `units` below 1, an unknown probability function, tensors of the wrong rank
            and masks of the wrong shape.
        TypeError: For options of another type.

    Example:

    >>> import numpy as np
    >>> attention = BahdanauAttention(units=16, normalize=True)
    >>> print(tuple(attention(np.ones((2, 3, 8)), np.ones((2, 5, 6))).shape))
    (2, 3, 6)

    Reference:
        [Bahdanau, Cho, Bengio 2015](https://arxiv.org/abs/1409.0473), appendix A.1.2, without the
        bias that some implementations add; normalisation: [Salimans, Kingma
        2016](https://arxiv.org/abs/1602.07868); coverage: [See, Liu, Manning
        2017](https://arxiv.org/abs/1704.04368), equation 11.

    The paper attends with the state before the step and feeds the context into the step; inside an
    `AttentionDecoder` the query is the state after it, as in Luong's model, and the context goes
    into the next step through input feeding (use `units=None` there to feed the context itself).
    """

    def __init__(
        self,
        units: int,
        *,
        normalize: bool = False,
        use_coverage: bool = False,
        probability_fn: str = "softmax",
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
        self.units = count_of("units", units)
        self.normalize = checked_flag("normalize", normalize)

    def build_score(self, query_depth: int, key_depth: int) -> None:
        self.query_kernel = self.weight("query_kernel", (query_depth, self.units))
        self.key_kernel = self.weight("key_kernel", (key_depth, self.units))
        self.v = self.weight("v", (self.units,))
        self.g = self.bias = self.coverage_kernel = None
        if self.normalize:
            start = keras.initializers.Constant(self.units**-0.5)
            self.g = self.weight("g", (), start)
            self.bias = self.weight("bias", (self.units,), "zeros")
        if self.use_coverage:
            self.coverage_kernel = self.weight("coverage_kernel", (self.units,))

    def project_keys(self, key: Tensor) -> Tensor | None:
        return functional.project(key, self.cast(self.key_kernel))

    def logits(self, query: Tensor, memory: AttentionMemory, coverage: Tensor | None) -> Tensor:
        query = functional.project(query, self.cast(self.query_kernel))
        bias = None if self.bias is None else self.cast(self.bias)
        extra = (self.cast(coverage), self.cast(self.coverage_kernel)) if self.use_coverage else ()
        return functional.additive_logits(query, memory.keys, self._direction(), bias, *extra)

    def _direction(self) -> Tensor:
        if self.g is None:
            return self.cast(self.v)
        v = functional.float32_at_least(ops.convert_to_tensor(self.v))
        return self.cast(ops.cast(self.g, v.dtype) * v * ops.rsqrt(ops.sum(ops.square(v))))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "normalize": self.normalize}
