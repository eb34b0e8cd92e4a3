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
# About as many weights as one block holds: 16 MiB in float32.
_BLOCK = 2**22
# The backward pass, which holds more beside them, takes blocks of a fourth of that: smaller ones
# take more time, and larger ones more memory.
_SHARE = 4
# In at most as many blocks, each a tensor of its own, it adds up the gradient for the query.
_SUMS = 8


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
    groups, _ = _division(query)
    whole = _Blocks(key, groups, 1)
    rows = _Blocks(query, groups, 1).of_weights(whole, _BLOCK)
    queries, keys, values = rows.split(query), whole.split(key), whole.split(value)
    masks = None if mask is None else whole.split(ops.expand_dims(mask, -1))

    def body(index: Tensor, contexts: Tensor, log_sums: Tensor) -> tuple:
        group = index // rows.count
        own_mask = None if masks is None else whole.read(masks, group)[..., 0]
        logits = _logits(rows.read(queries, index), whole.read(keys, group), own_mask)
        peak = ops.max(logits, axis=-1, keepdims=True, initial=lowest(logits))
        weights = ops.exp(logits - peak)
        if own_mask is not None:
            weights = ops.where(ops.expand_dims(own_mask, 1), weights, 0.0)
        total = ops.sum(weights, axis=-1, keepdims=True)
        is_empty = ops.equal(total, 0)
        total = ops.where(is_empty, 1.0, total)
        own = ops.matmul(ops.cast(weights / total, value.dtype), whole.read(values, group))
        # Where nothing is kept, any finite sum makes zeros of the lowest logits.
        log_sum = ops.where(is_empty, 0.0, peak + ops.log(total))
        contexts = _write(contexts, index, own)
        return _after(index, contexts), contexts, _write(log_sums, index, log_sum)

    contexts = rows.zeros(value.shape[-1], value.dtype, once=query)
    log_sums = float32_at_least(rows.zeros(1, query.dtype, once=query))
    contexts, log_sums = _for_each(rows.total, body, (contexts, log_sums))
    return rows.join(contexts), rows.join(log_sums)


def _backward(
    inputs: _Inputs, context: Tensor, log_sums: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for query, key and value, by blocks of keys, and for each by blocks of queries.

    With P the weights, O the context and dO the gradient above: `dV = P^T dO`, `dP = dO V^T`,
    `dS = P (dP - rowsum(dO O))`, `dK = dS^T Q`, `dQ = dS K`.
    """
    query, key, value, mask = inputs
    wide = log_sums.dtype
    delta = ops.sum(ops.cast(upstream * context, wide), axis=-1, keepdims=True)
    rows = _Blocks(query, *_division(query))
    columns = _Blocks(key, rows.groups, 1).of_weights(rows, _BLOCK // _SHARE)
    of_rows = [rows.split(one) for one in (query, upstream, log_sums, delta)]
    keys, values = columns.split(key), columns.split(value)
    kept = columns.kept() if mask is None else columns.split(ops.expand_dims(mask, -1))

    def part(index: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple:
        """What a block of queries and one of keys add to the gradients of each other."""
        query, upstream, log_sums, delta = (rows.read(one, index) for one in of_rows)
        weights = ops.exp(_logits(query, key, mask) - log_sums)
        for_weights = ops.cast(ops.einsum("bte,bse->bts", upstream, value), wide)
        for_logits = ops.cast(weights * (for_weights - delta), key.dtype)
        weights = ops.cast(weights, value.dtype)
        # Not `einsum`: TensorFlow's adds up in 16 bits on processors without AVX-512.
        for_key = ops.matmul(ops.transpose(for_logits, (0, 2, 1)), query)
        for_value = ops.matmul(ops.transpose(weights, (0, 2, 1)), upstream)
        return for_key, for_value, ops.matmul(for_logits, key)

    def body(turn: Tensor, for_keys: Tensor, for_values: Tensor, for_queries: tuple) -> tuple:
        # One block of each group after the other, which is the order of `for_queries`.
        group = turn % rows.groups
        index = group * columns.count + turn // rows.groups
        own_key, own_value = columns.read(keys, index), columns.read(values, index)
        own_mask = None if kept is None else columns.read(kept, index)[..., 0]

        def add(turn: Tensor, for_key: Tensor, for_value: Tensor, for_queries: tuple) -> tuple:
            sums = (for_key, for_value, for_queries[0])
            parts = part(group * rows.count + turn, own_key, own_value, own_mask)
            more = [one + ops.cast(new, wide) for one, new in zip(sums, parts, strict=True)]
            # The sum for these queries goes last, and is first again when it is their turn: none
            # has to be written into a tensor of them all.
            return _after(turn, *more), *more[:2], (*for_queries[1:], more[2])

        start = [_zeros(ops.shape(one), wide, once=one) for one in (own_key, own_value)]
        for_key, for_value, for_queries = _for_each(rows.count, add, (*start, for_queries))
        for_keys = _write(for_keys, index, ops.cast(for_key, key.dtype))
        for_values = _write(for_values, index, ops.cast(for_value, value.dtype))
        return _after(turn, for_key, for_value), for_keys, for_values, for_queries

    shape = (*rows.shape, query.shape[-1])
    for_queries = tuple(_zeros(shape, wide, once=upstream) for _ in range(rows.total))
    # Every block of keys and values is written over: what stands there first need not be zeros.
    start = (keys, values, for_queries)
    for_keys, for_values, for_queries = _for_each(columns.total, body, start)
    for_query = ops.stack([ops.cast(one, query.dtype) for one in for_queries])
    return rows.join(for_query), columns.join(for_keys), columns.join(for_values)


def _logits(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    # Not a product with a transposed key, which would be a copy of it.
    logits = float32_at_least(ops.einsum("btd,bsd->bts", query, key))
    return logits if mask is None else ops.where(ops.expand_dims(mask, 1), logits, lowest(logits))


def _for_each(count: Any, body: Callable, start: tuple) -> tuple:
    """Runs `body(index, *variables)` for every index below `count`."""
    _, *variables = ops.while_loop(lambda index, *_: index < count, body, (0, *start))
    return tuple(variables)


def _after(index: Tensor, *tensors: Tensor) -> Tensor:
    """The next index, once the tensors are there.

    TensorFlow runs up to ten turns of a loop at a time where it can, each with its own weights.
    """
    return sum(map(_zero, tensors), start=index + 1)


def _zero(once: Tensor) -> Tensor:
    """The number 0, once the tensor is there."""
    first = once[(slice(1),) * len(once.shape)]
    # The smaller one of 0 and 0 or 1: a dependence that no optimizer takes away.
    return ops.minimum(0, ops.cast(ops.any(ops.isnan(first)), "int32"))


def _zeros(shape: tuple, dtype: str, once: Tensor) -> Tensor:
    """Zeros, made once the tensor is there: TensorFlow would keep constant ones forever."""
    return ops.broadcast_to(ops.cast(_zero(once), dtype), shape)


def _write(blocks: Tensor, index: Tensor, block: Tensor) -> Tensor:
    """The blocks with one in its place.

    With `where`, the one way that TensorFlow writes in place: `scatter_update` makes a copy there,
    and `slice_update` is an XLA op, which TF Serving refuses.
    """
    places = ops.arange(ops.shape(blocks)[0], dtype="int32")[:, None, None]
    block = ops.reshape(block, (1, -1, blocks.shape[-1]))
    return ops.where(ops.equal(places, index), block, blocks)


def _division(query: Tensor) -> tuple[int, int]:
    """Into how many groups of sentences, and blocks of each, the backward pass divides queries.

    Equal ones, `_SUMS` together at most; one where a size is unknown.
    """
    batch, target = query.shape[:2]
    if not batch or not target:
        return 1, 1
    groups = _divisor(batch, _SUMS)
    return groups, _divisor(target, _SUMS // groups)


def _divisor(number: int, largest: int) -> int:
    return next(one for one in range(largest, 0, -1) if number % one == 0)


def _larger(one: Any, other: Any) -> Any:
    are_numbers = isinstance(one, int) and isinstance(other, int)
    return max(one, other) if are_numbers else ops.maximum(one, other)


class _Blocks:
    """Tensors `(b, length, d)` in blocks: `(groups count, b / groups size, d)`.

    Each group of sentences has as many blocks, the last one with zeros after the end. Sizes are
    numbers, or tensors where they are unknown while tracing.
    """

    def __init__(self, tensor: Tensor, groups: int, count: Any) -> None:
        batch, self.length = ops.shape(tensor)[:2]
        self.tensor, self.groups, self.count = tensor, groups, count
        self.total = groups * count
        self.shape = (batch // groups, (self.length + count - 1) // count)

    def of_weights(self, other: "_Blocks", weights: int) -> "_Blocks":
        """The same in so many blocks that each makes about as many weights with another's."""
        batch, length = self.shape
        size = _larger(1, weights // _larger(1, batch * other.shape[1]))
        return _Blocks(self.tensor, self.groups, _larger(1, (length + size - 1) // size))

    @property
    def is_flat(self) -> bool:
        """Whether the elements stand in the same order in blocks: then nothing is copied."""
        return any(isinstance(one, int) and one == 1 for one in (self.shape[0], self.count))

    @property
    def is_even(self) -> bool:
        """Whether it is known that nothing stands after the end."""
        after = self.count * self.shape[1] - self.length
        return isinstance(after, int) and after == 0

    def split(self, tensor: Tensor) -> Tensor:
        """`(b, length, d)` in blocks."""
        (batch, size), depth = self.shape, tensor.shape[-1]
        if not self.is_even:
            missing = (batch * self.groups, self.count * size - self.length, depth)
            tensor = ops.concatenate([tensor, ops.zeros(missing, tensor.dtype)], axis=1)
        if not self.is_flat:
            tensor = ops.reshape(tensor, (self.groups, batch, self.count, size, depth))
            tensor = ops.transpose(tensor, (0, 2, 1, 3, 4))
        return ops.reshape(tensor, (self.total, batch * size, depth))

    def read(self, blocks: Tensor, index: Tensor) -> Tensor:
        """The block `(b / groups, size, d)` of that index: on TensorFlow a part, not a copy."""
        return ops.reshape(blocks[index], (*self.shape, blocks.shape[-1]))

    def zeros(self, depth: int, dtype: str, once: Tensor) -> Tensor:
        """Blocks of zeros."""
        return _zeros((self.total, self.shape[0] * self.shape[1], depth), dtype, once)

    def join(self, blocks: Tensor) -> Tensor:
        """Blocks as `(b, length, d)`."""
        (batch, size), depth = self.shape, blocks.shape[-1]
        if not self.is_flat:
            blocks = ops.reshape(blocks, (self.groups, self.count, batch, size, depth))
            blocks = ops.transpose(blocks, (0, 2, 1, 3, 4))
        joined = ops.reshape(blocks, (self.groups * batch, self.count * size, depth))
        return joined if self.is_even else joined[:, : self.length]

    def kept(self) -> Tensor | None:
        """Boolean blocks of depth 1: what stands before the end; `None` if all does."""
        if self.is_even:
            return None
        ones = ops.ones((self.groups * self.shape[0], self.length, 1), "bool")
        return self.split(ones)
