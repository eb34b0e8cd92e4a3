"""Attention over long sequences, a block of queries at a time.

`softmax(query key^T) value` without the `(t, s)` weights of all steps: the forward pass holds those
of one block, and so does the backward pass, which computes them again from the logarithm of each
row's sum. What remains is as large as queries, keys and values.

Reference:
    [Rabe, Staats 2021](https://arxiv.org/abs/2112.05682) for the memory; [Dao et al.
    2022](https://arxiv.org/abs/2205.14135), appendix B.2, for the gradient.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from keras_luong.functional.tensors import float32_at_least, lowest

Tensor = Any

# From this many weights (batch x target x source) on: 64 MiB of them in float32.
LONG_FROM = 2**24
# About as many weights as one block holds: 16 MiB in float32. Half of it takes a tenth more time.
_BLOCK = 2**22


def is_long(query: Tensor, key: Tensor) -> bool:
    """Whether `batch x target x source` reaches 2^24, or may, since a size is unknown."""
    sizes = (*query.shape[:2], key.shape[1])
    # Not left to a condition in the graph, which would trace both ways: XLA has no gradient for it.
    return None in sizes or math.prod(sizes) >= LONG_FROM


def long_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """`softmax(query key^T) value`, over kept positions only, in little memory.

    Args:
        query: `(b, t, d)`.
        key: `(b, s, d)`.
        value: `(b, s, e)`.
        mask: Boolean `(b, s)`, or `None`.

    Returns:
        `(b, t, e)` in the dtype of `value`; zeros where nothing is kept. It can be differentiated
        once, with respect to query, key and value.
    """

    @ops.custom_gradient
    def attend(query: Tensor, key: Tensor, value: Tensor, kept: Tensor) -> Any:
        inputs = _Inputs(query, key, value, None if mask is None else kept > 0.5)
        context, log_sums = _forward(inputs)

        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> tuple:
            upstream = arguments[0] if upstream is None else upstream
            return (*_backward(inputs, context, log_sums, upstream), ops.zeros_like(kept))

        return context, gradient

    # The mask as a float: JAX wants a gradient of the same type for every argument.
    kept = ops.zeros((1, 1)) if mask is None else ops.cast(mask, "float32")
    return attend(query, key, value, kept)


class _Inputs(NamedTuple):
    """Query `(b, t, d)`, key `(b, s, d)`, value `(b, s, e)`, boolean mask `(b, s)` or `None`."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None


def _forward(inputs: _Inputs) -> tuple[Tensor, Tensor]:
    """The context `(b, t, e)`, and the logarithm of each row's sum `(b, t, 1)`.

    By blocks of queries: whole rows of weights, whose sums need not be put together from parts.
    """
    query, key, value, mask = inputs
    blocks = _Blocks(query, ops.shape(key)[1])
    queries = blocks.split(query)

    def body(index: Tensor, contexts: Tensor, log_sums: Tensor) -> tuple:
        logits = _logits(blocks.read(queries, index), key, mask)
        peak = ops.max(logits, axis=-1, keepdims=True, initial=lowest(logits))
        weights = ops.exp(logits - peak)
        if mask is not None:
            weights = ops.where(ops.expand_dims(mask, 1), weights, 0.0)
        total = ops.sum(weights, axis=-1, keepdims=True)
        is_empty = ops.equal(total, 0)
        total = ops.where(is_empty, 1.0, total)
        own = ops.matmul(ops.cast(weights / total, value.dtype), value)
        # Where nothing is kept, any finite sum makes zeros of the lowest logits.
        log_sum = ops.where(is_empty, 0.0, peak + ops.log(total))
        contexts = blocks.write(contexts, index, own)
        return _after(index, contexts), contexts, blocks.write(log_sums, index, log_sum)

    start = (blocks.zeros(value), float32_at_least(blocks.zeros(query[..., :1])))
    contexts, log_sums = _for_each(blocks.count, body, start)
    return blocks.join(contexts), blocks.join(log_sums)


def _backward(
    inputs: _Inputs, context: Tensor, log_sums: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for query, key and value, by blocks of keys: one sum over blocks instead of two.

    With P the weights, O the context and dO the gradient above: `dV = P^T dO`, `dP = dO V^T`,
    `dS = P (dP - rowsum(dO O))`, `dK = dS^T Q`, `dQ = dS K`.
    """
    query, key, value, mask = inputs
    blocks = _Blocks(key, ops.shape(query)[1])
    keys, values = blocks.split(key), blocks.split(value)
    kept = blocks.kept() if mask is None else blocks.split(ops.expand_dims(mask, -1))
    delta = ops.sum(float32_at_least(upstream * context), axis=-1, keepdims=True)

    def body(index: Tensor, for_query: Tensor, for_keys: Tensor, for_values: Tensor) -> tuple:
        own_key, own_value = blocks.read(keys, index), blocks.read(values, index)
        own_mask = None if kept is None else blocks.read(kept, index)[..., 0]
        weights = ops.exp(_logits(query, own_key, own_mask) - log_sums)
        for_weights = float32_at_least(ops.einsum("bte,bse->bts", upstream, own_value))
        for_logits = ops.cast(weights * (for_weights - delta), key.dtype)
        weights = ops.cast(weights, value.dtype)
        for_query = for_query + float32_at_least(ops.matmul(for_logits, own_key))
        for_key = ops.einsum("bts,btd->bsd", for_logits, query)
        for_value = ops.einsum("bts,bte->bse", weights, upstream)
        return (
            _after(index, for_query),
            for_query,
            blocks.write(for_keys, index, for_key),
            blocks.write(for_values, index, for_value),
        )

    # Every block of keys and values is written over: what stands there first need not be zeros.
    start = (float32_at_least(ops.zeros_like(query)), keys, values)
    for_query, for_keys, for_values = _for_each(blocks.count, body, start)
    return ops.cast(for_query, query.dtype), blocks.join(for_keys), blocks.join(for_values)


def _logits(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    # Not a product with a transposed key, which would be a copy of it.
    logits = float32_at_least(ops.einsum("btd,bsd->bts", query, key))
    return logits if mask is None else ops.where(ops.expand_dims(mask, 1), logits, lowest(logits))


def _for_each(count: Any, body: Callable, start: tuple) -> tuple:
    """Runs `body(index, *variables)` for every index below `count`."""
    _, *variables = ops.while_loop(lambda index, *_: index < count, body, (0, *start))
    return tuple(variables)


def _after(index: Tensor, tensor: Tensor) -> Tensor:
    """The next index, once the tensor is there.

    TensorFlow runs up to ten turns of a loop at a time where it can, each with its own weights.
    """
    first = tensor[(slice(1),) * len(tensor.shape)]
    # 0 or 1, so never the larger one: a dependence that no optimizer takes away.
    return ops.maximum(index + 1, ops.cast(ops.any(ops.isnan(first)), "int32"))


class _Blocks:
    """Axis 1 of tensors `(b, length, d)` in blocks `(b, count, size, d)`, zeros after the end.

    A block has as many rows as make about `_BLOCK` weights with all of the other side. Sizes are
    numbers, or tensors where they are unknown while tracing.
    """

    def __init__(self, tensor: Tensor, other_length: Any) -> None:
        self.batch, self.length = ops.shape(tensor)[:2]
        weights_of_a_row = self.batch * other_length
        self.is_known = all(isinstance(one, int) for one in (self.length, weights_of_a_row))
        larger, smaller = (max, min) if self.is_known else (ops.maximum, ops.minimum)
        self.size = larger(1, smaller(self.length, _BLOCK // larger(1, weights_of_a_row)))
        self.count = larger(1, (self.length + self.size - 1) // self.size)

    @property
    def is_even(self) -> bool:
        """Whether it is known that nothing stands after the end."""
        return self.is_known and self.length == self.count * self.size

    def split(self, tensor: Tensor) -> Tensor:
        """`(b, length, d)` in blocks."""
        depth = tensor.shape[-1]
        if not self.is_even:
            missing = (self.batch, self.count * self.size - self.length, depth)
            tensor = ops.concatenate([tensor, ops.zeros(missing, tensor.dtype)], axis=1)
        return ops.reshape(tensor, (self.batch, self.count, self.size, depth))

    def join(self, blocks: Tensor) -> Tensor:
        """Blocks as `(b, length, d)`."""
        joined = ops.reshape(blocks, (self.batch, self.count * self.size, blocks.shape[-1]))
        return joined if self.is_even else joined[:, : self.length]

    def zeros(self, like: Tensor) -> Tensor:
        """Blocks of zeros as deep as another tensor."""
        return ops.zeros((self.batch, self.count, self.size, like.shape[-1]), like.dtype)

    def kept(self) -> Tensor | None:
        """Boolean blocks of depth 1: what stands before the end; `None` if all does."""
        return None if self.is_even else self.split(ops.ones((self.batch, self.length, 1), "bool"))

    def read(self, blocks: Tensor, index: Tensor) -> Tensor:
        """The block `(b, size, d)` of that index."""
        return ops.take(blocks, index, axis=1)

    def write(self, blocks: Tensor, index: Tensor, block: Tensor) -> Tensor:
        """The blocks with one in its place.

        With `where`, the one way that TensorFlow writes in place: `scatter_update` makes two copies
        there, and `slice_update` is an XLA op, which TF Serving refuses.
        """
        places = ops.arange(self.count, dtype="int32")[None, :, None, None]
        return ops.where(ops.equal(places, index), ops.expand_dims(block, 1), blocks)
