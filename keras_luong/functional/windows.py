"""Local attention: where the window stands, what it keeps, and how it weighs.

Positions count from 0 and need not be whole. A sentence's length is 1 + its last kept position, so
holes in a mask count as positions.

Reference:
    Luong, Pham, Manning 2015, [arXiv:1508.04025](https://arxiv.org/abs/1508.04025), section 3.2.
"""

from typing import Any

from keras import ops

from keras_luong.functional.tensors import float32_at_least, project, tanh

Tensor = Any


def sentence_lengths(mask: Tensor | None, value: Tensor) -> Tensor:
    """int32 `(b,)`: 1 + the last kept position of each row of a mask `(b, s)`; 0 without any.

    Args:
        mask: Boolean `(b, s)`, or `None` to keep every position.
        value: `(b, s, d)`, whose sizes stand in for a mask that is `None`.
    """
    batch, length = ops.shape(value)[:2]
    ends = ops.arange(1, length + 1, dtype="int32")
    longest = length if mask is None else ops.max(ops.where(mask, ends, 0), axis=-1, initial=0)
    # The sum for its shape: on torch the maximum of nothing has none.
    return ops.zeros((batch,), "int32") + longest


def predicted_centres(query: Tensor, kernel: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    """`p_t = S sigmoid(v_p . tanh(W_p h_t))`, equation 9.

    Args:
        query: `h_t`, `(b, t, d)`.
        kernel: `W_p`, `(d, u)`.
        v: `v_p`, `(u,)`.
        lengths: `S`, int32 `(b,)`.

    Returns:
        `(b, t)`, in float32 at least: 16 bits would not tell neighbours apart.
    """
    hidden = project(tanh(project(query, kernel)), ops.expand_dims(v, -1))
    share = ops.sigmoid(float32_at_least(ops.squeeze(hidden, -1)))
    return ops.cast(ops.expand_dims(lengths, -1), share.dtype) * share


def in_window(centres: Tensor, window_size: float, source_length: Any) -> Tensor:
    """Whether a position lies in `[p_t - D, p_t + D]`, both ends included.

    Args:
        centres: `p_t`, `(b, t)` or `(t,)`.
        window_size: `D`.
        source_length: Length `s` of the source axis.

    Returns:
        Boolean `(b, t, s)` or `(t, s)`.
    """
    return ops.abs(_distances(centres, source_length)) <= window_size


def gaussian(centres: Tensor, window_size: float, source_length: Any) -> Tensor:
    """`exp(-(s - p_t)^2 / (2 sigma^2))` with `sigma = D / 2`: the factor of equation 10.

    Args:
        centres: `p_t`, `(b, t)`.
        window_size: `D`.
        source_length: Length `s` of the source axis.

    Returns:
        `(b, t, s)`.
    """
    sigma = window_size / 2.0
    return ops.exp(-ops.square(_distances(centres, source_length)) / (2.0 * sigma**2))


def _distances(centres: Tensor, source_length: Any) -> Tensor:
    centres = float32_at_least(centres)
    positions = ops.cast(ops.arange(source_length, dtype="int32"), centres.dtype)
    return positions - ops.expand_dims(centres, -1)
