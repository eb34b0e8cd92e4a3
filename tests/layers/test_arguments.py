"""Arguments of constructors as they are kept, and what raises."""

import numpy as np
import pytest

from keras_luong.layers.arguments import check_instance, checked_flag, checked_seed


@pytest.mark.parametrize(
    ("kept", "value", "kind"),
    [
        (checked_flag("copy", np.True_), True, bool),
        (checked_seed(np.int64(-5)), -5, int),
        (checked_seed(None), None, type(None)),
    ],
)
def test_what_is_kept(kept, value, kind):
    assert kept == value and type(kept) is kind


@pytest.mark.parametrize(
    ("check", "value", "error"),
    [
        *((checked_flag, value, TypeError) for value in (0, 1, "no", None)),
        (lambda name, value: check_instance(name, value, int), "1", TypeError),
        (lambda name, value: check_instance(name, value, int, optional=True), "1", TypeError),
    ],
)
def test_what_raises_names_the_argument_and_what_came(check, value, error):
    with pytest.raises(error, match=f"`option` must be .*Received: {value!r}"):
        check("option", value)


@pytest.mark.parametrize("seed", [0.5, "1", True])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(TypeError, match=f"`seed` must be an integer or None. Received: {seed!r}"):
        checked_seed(seed)
