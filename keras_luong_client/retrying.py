"""Sending again what may be sent again, until a deadline."""

import dataclasses
import itertools
import random
import time
from collections.abc import Callable
from typing import TypeVar

from keras_luong_client.errors import DeadlineError, UnavailableError

Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How often a request is sent, and how long is waited in between.

    Before attempt n + 1 a client waits for a time drawn evenly from
    `[0, min(max_backoff, initial_backoff * 2 ** (n - 1))]` seconds. Since it is drawn, clients that
    a server turned away together do not come back together.

    Args:
        max_attempts: The most times that a request is sent; 1 for no retry.
        initial_backoff: The longest wait before the second attempt, in seconds.
        max_backoff: The longest wait there is, in seconds.

    Raises:
        ValueError: For numbers that are out of range.

    Example:

    >>> policy = RetryPolicy(initial_backoff=0.5, max_backoff=3.0)
    >>> [policy.longest_wait(attempt) for attempt in (1, 2, 3, 4, 5)]
    [0.5, 1.0, 2.0, 3.0, 3.0]

    Reference: "full jitter" of Marc Brooker, "Exponential Backoff And Jitter" (AWS, 2015).
    """

    max_attempts: int = 5
    initial_backoff: float = 0.2
    max_backoff: float = 5.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1. Received: {self.max_attempts}")
        if not 0 <= self.initial_backoff <= self.max_backoff:
            raise ValueError(
                "initial_backoff must be at least 0 and at most max_backoff. Received: "
                f"{self.initial_backoff} and {self.max_backoff}"
            )

    def longest_wait(self, attempt: int) -> float:
        """The longest wait after the given attempt, which counts from 1, in seconds."""
        # The exponent is bounded: 2.0 ** 1024 overflows.
        return min(self.max_backoff, self.initial_backoff * 2.0 ** min(attempt - 1, 64))


def with_retries(
    send: Callable[[float], Answer],
    timeout: float,
    policy: RetryPolicy,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    draw: Callable[[], float] = random.random,
) -> Answer:
    """Sends a request until it is answered, refused, or out of time.

    It is sent again after `UnavailableError` alone, so `send` must change nothing on the server: a
    prediction does not. No attempt starts after the deadline.

    Args:
        send: Sends the request, given the seconds that are left for it.
        timeout: Seconds for all attempts and the waits between them.
        policy: The `RetryPolicy`.
        clock: Tells the seconds since some moment.
        sleep: Waits for seconds.
        draw: Draws a number from `[0, 1)`.

    Returns:
        What `send` returned.

    Raises:
        DeadlineError: If the time ran out.
        UnavailableError: If no attempt is left, or no time for another.
    """
    deadline = clock() + timeout
    for attempt in itertools.count(1):
        left = deadline - clock()
        if left <= 0:
            raise DeadlineError("DEADLINE_EXCEEDED", f"No answer within {timeout:g} s.")
        try:
            return send(left)
        except UnavailableError as error:
            wait = draw() * policy.longest_wait(attempt)
            if attempt >= policy.max_attempts or clock() + wait >= deadline:
                attempts = "1 attempt" if attempt == 1 else f"{attempt} attempts"
                raise UnavailableError(error.code, f"{error.message} ({attempts})") from error
            sleep(wait)
    raise AssertionError("unreachable: the loop ends by return or raise")
