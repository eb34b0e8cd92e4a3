"""Random numbers that depend on a seed alone.

`keras.random` takes a seed that is known while tracing, or a variable that every call moves on. A
seed that comes with a request, and a sample that does not depend on its batch mates, need neither.
"""

from typing import Any

from keras import ops

Tensor = Any

# Odd numbers, as int32, that spread counters over all bits.
_OF_SLOT, _OF_STEP = -1640531535, 668265263
# What a seed begins from: the mixing leaves 0 what it is.
_START = 374761393


def uniform(seeds: Tensor, slots: Tensor, step: Any) -> Tensor:
    """Uniform numbers in [0, 1), each a hash of a seed, a slot and a step.

    Args:
        seeds: int32 `(b, 1)`.
        slots: int32 `(1, k)`.
        step: int32 scalar.

    Returns:
        float32 `(b, k)`, multiples of 2^-24.

    Reference:
        The mixing is the 32-bit finalizer of MurmurHash3 (Appleby, 2011).
    """
    hashed = _mixed(ops.bitwise_xor(_mixed(seeds + _START), slots * _OF_SLOT))
    hashed = _mixed(ops.bitwise_xor(hashed, ops.cast(step, "int32") * _OF_STEP))
    return ops.cast(_shifted(hashed, 8), "float32") * 2.0**-24


def _mixed(bits: Tensor) -> Tensor:
    bits = ops.bitwise_xor(bits, _shifted(bits, 16)) * -2048144789
    bits = ops.bitwise_xor(bits, _shifted(bits, 13)) * -1028477387
    return ops.bitwise_xor(bits, _shifted(bits, 16))


def _shifted(bits: Tensor, places: int) -> Tensor:
    """A shift to the right that brings in zeros: that of int32 repeats the sign."""
    return ops.bitwise_and(ops.bitwise_right_shift(bits, places), 2 ** (32 - places) - 1)
