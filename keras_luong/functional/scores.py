"""Attention logits: how well a source position fits a query, before any softmax.

Reference:
    Luong, Pham, Manning 2015, [arXiv:1508.04025](https://arxiv.org/abs/1508.04025), section 3.1;
    Bahdanau, Cho, Bengio 2015, [arXiv:1409.0473](https://arxiv.org/abs/1409.0473), appendix A.1.2.
"""

from typing import Any

from keras import ops

from keras_luong.functional.tensors import project, tanh

Tensor = Any


def dot_logits(query: Tensor, key: Tensor) -> Tensor:
    """`h_t . h_s`: query `(b, t, d)`, key `(b, s, d)`, returns `(b, t, s)`."""
    return ops.matmul(query, ops.swapaxes(key, -1, -2))


def additive_logits(
    projected_query: Tensor,
    projected_key: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    coverage: Tensor | None = None,
    coverage_kernel: Tensor | None = None,
) -> Tensor:
    """`v . tanh(h_t W_query + h_s W_key + b)`: Luong's concat, and Bahdanau's score.

    The product of a concatenation by one matrix is taken as the sum of two projections.

    Args:
        projected_query: `h_t W_query`, `(b, t, u)`.
        projected_key: `h_s W_key`, `(b, s, u)`.
        v: `(u,)`.
        bias: `(u,)` or `None`.
        coverage: What earlier steps attended to, `(b, t, s)`, or `None`. Times `coverage_kernel` it
            is one more summand inside the tanh (See et al. 2017, equation 11).
        coverage_kernel: `(u,)`, with `coverage`.

    Returns:
        `(b, t, s)`.
    """
    if bias is not None:
        projected_query = projected_query + bias
    hidden = ops.expand_dims(projected_query, 2) + ops.expand_dims(projected_key, 1)
    if coverage is not None:
        hidden = hidden + ops.expand_dims(coverage, -1) * coverage_kernel
    return ops.squeeze(project(tanh(hidden), ops.expand_dims(v, -1)), -1)


def location_logits(
    query: Tensor, kernel: Tensor, source_length: Any, bias: Tensor | None = None
) -> Tensor:
    """`h_t W`, cut to the source at hand.

    Args:
        query: `(b, t, d)`.
        kernel: `(d, max_source_length)`.
        source_length: Length `s` of the source axis, at most `max_source_length`.
        bias: `(max_source_length,)` or `None`.

    Returns:
        `(b, t, s)`.
    """
    logits = project(query, kernel)
    logits = logits if bias is None else logits + bias
    return logits[..., :source_length]
