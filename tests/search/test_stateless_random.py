"""Random numbers from seeds, slots and steps: what they are, and that they look like chance."""

import numpy as np
import pytest
from keras import ops

from keras_luong.search.stateless_random import uniform
from tests.search.chance import chi_squared_limit, deviation

INT32 = 2**32


def drawn(seeds, slots, step):
    numbers = uniform(
        ops.convert_to_tensor(np.array(seeds, "int32")[:, None]),
        ops.convert_to_tensor(np.array(slots, "int32")[None]),
        ops.convert_to_tensor(step, "int32"),
    )
    numbers = ops.convert_to_numpy(numbers)
    assert numbers.dtype == "float32" and numbers.shape == (len(seeds), len(slots))
    return numbers


def mixed(bits):
    """The finalizer of MurmurHash3, on unsigned integers."""
    bits = (bits ^ bits >> 16) * 0x85EBCA6B % INT32
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 % INT32
    return bits ^ bits >> 16


def test_the_numbers_are_the_same_everywhere():
    seeds, slots = [0, 1, -1, 2**31 - 1, -(2**31), 12345], [0, 1, 7, 999]
    for step in (0, 1, 63):
        expected = [
            [
                (mixed(mixed(mixed((seed + 374761393) % INT32) ^ slot * 0x9E3779B1 % INT32)
                       ^ step * 0x27D4EB2F % INT32) >> 8) / 2**24
                for slot in slots
            ]
            for seed in seeds
        ]  # fmt: skip
        np.testing.assert_array_equal(drawn(seeds, slots, step), expected)


MANY = range(20000)
AXES = {
    "seeds": lambda: drawn(MANY, [0], 0)[:, 0],
    "slots": lambda: drawn([0], MANY, 0)[0],
    "steps": lambda: np.array([drawn([5], [0], step)[0, 0] for step in range(1500)]),
    "far_seeds": lambda: drawn(range(-(2**31), 2**31 - 1, 2**32 // 20000), [3], 2)[:, 0],
}


@pytest.mark.parametrize("axis", AXES)
def test_numbers_of_consecutive_places_are_uniform_and_independent(axis):
    numbers = AXES[axis]()
    assert (numbers >= 0).all() and (numbers < 1).all()
    counts = np.bincount((numbers * 64).astype(int), minlength=64)
    assert deviation(counts, np.full(64, 1 / 64)) < chi_squared_limit(63)
    # Each with the next: the frequencies of pairs are those of independent numbers.
    for distance in (1, 2, 16):
        pairs = (numbers[:-distance] * 8).astype(int) * 8 + (numbers[distance:] * 8).astype(int)
        counts = np.bincount(pairs, minlength=64)
        assert deviation(counts, np.full(64, 1 / 64)) < chi_squared_limit(63)
        # The standard error of a correlation of n independent pairs is 1 / sqrt(n).
        correlation = np.corrcoef(numbers[:-distance], numbers[distance:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(len(numbers))


def test_numbers_of_one_step_do_not_tell_those_of_the_next():
    first, second = (drawn(range(300), range(100), step).ravel() for step in (0, 1))
    pairs = (first * 16).astype(int) * 16 + (second * 16).astype(int)
    counts = np.bincount(pairs, minlength=256)
    assert deviation(counts, np.full(256, 1 / 256)) < chi_squared_limit(255)


def test_no_seed_begins_with_zero_all_along():
    # A hash that leaves 0 what it is would draw the first token for seed 0, slot 0, step 0.
    assert 0.001 < drawn([0], [0], 0)[0, 0] < 0.999
