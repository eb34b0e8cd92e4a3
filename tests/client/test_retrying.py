import random

import pytest

from keras_luong_client import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    RetryPolicy,
    UnavailableError,
)
from keras_luong_client.retrying import with_retries


class Clock:
    """A time that passes only where it is told to, and notes the waits."""

    def __init__(self):
        self.now, self.waits = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


def failing(clock, *errors, takes=0.0):
    """A `send` that raises the errors in turn, then answers; it notes the seconds it was given."""
    left, waiting = [], list(errors)

    def send(seconds):
        left.append(seconds)
        clock.now += takes
        if waiting:
            raise waiting.pop(0)
        return "answer"

    send.left = left
    return send


def unavailable():
    return UnavailableError("UNAVAILABLE", "busy")


def retried(send, clock, timeout=10.0, draw=lambda: 1.0, **policy):
    return with_retries(
        send, timeout, RetryPolicy(**policy), clock=clock, sleep=clock.sleep, draw=draw
    )


def test_waits_double_up_to_the_longest():
    clock = Clock()
    send = failing(clock, *[unavailable() for _ in range(5)])
    options = {"max_attempts": 6, "initial_backoff": 0.5, "max_backoff": 3.0}
    assert retried(send, clock, timeout=100.0, **options) == "answer"
    assert clock.waits == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_waits_are_drawn():
    clock = Clock()
    send = failing(clock, unavailable(), unavailable())
    draws = iter([0.25, 0.0])
    retried(send, clock, draw=lambda: next(draws), initial_backoff=0.4)
    assert clock.waits == [0.1, 0.0]


def test_waits_spread_over_the_whole_range():
    clock = Clock()
    for _ in range(200):
        retried(failing(clock, unavailable()), clock, draw=random.random, initial_backoff=1.0)
    assert min(clock.waits) < 0.1 and max(clock.waits) > 0.9


def test_each_attempt_gets_what_is_left_of_the_time():
    clock = Clock()
    send = failing(clock, unavailable(), unavailable(), takes=2.0)
    retried(send, clock, timeout=10.0, initial_backoff=1.0)
    assert send.left == [10.0, 7.0, 3.0]  # after 2 + 1 and 2 + 1 + 2 + 2 seconds


def test_no_attempt_starts_after_the_deadline():
    clock = Clock()
    send = failing(clock, unavailable(), unavailable(), takes=4.0)
    with pytest.raises(UnavailableError, match=r"busy \(2 attempts\)"):
        retried(send, clock, timeout=10.0, initial_backoff=1.0)
    assert send.left == [10.0, 5.0] and clock.waits == [1.0]


def test_no_time_is_a_deadline():
    clock = Clock()
    with pytest.raises(DeadlineError, match="within 0 s"):
        retried(failing(clock), clock, timeout=0.0)


@pytest.mark.parametrize("kind", [InvalidRequestError, NotFoundError, DeadlineError])
def test_other_errors_are_not_retried(kind):
    clock = Clock()
    send = failing(clock, kind("CODE", "no"))
    with pytest.raises(kind, match="CODE: no$"):
        retried(send, clock)
    assert len(send.left) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"initial_backoff": -1.0}, "initial_backoff"),
        ({"initial_backoff": 2.0, "max_backoff": 1.0}, "max_backoff"),
    ],
)
def test_bad_policies(options, message):
    with pytest.raises(ValueError, match=message):
        RetryPolicy(**options)
