"""A connection that keeps one deadline, and brings a bounded number of bytes.

A socket's timeout holds for one read: a server that sends a byte now and then, in its status line,
headers, chunk sizes or trailers, keeps a reader for as long as it likes.
"""

import io
import socket
import ssl
import time
from typing import Any

from keras_luong_client.errors import ServingError

_BUFFER = 1 << 16


def connected(
    host: str, port: int, ssl_context: ssl.SSLContext | None, deadline: float
) -> socket.socket:
    """Connects to the first address of a host that takes the call, before the deadline.

    The system bounds how long it looks up the host's name.
    """
    failure: OSError = OSError(f"{host} has no address")
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            plain = socket.create_connection((str(address[0]), port), _seconds_until(deadline))
        except OSError as error:
            failure = error
        else:
            return _prepared(plain, host, ssl_context, deadline)
    raise failure


def _prepared(
    plain: socket.socket, host: str, ssl_context: ssl.SSLContext | None, deadline: float
) -> socket.socket:
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the body is sent after the head
    if ssl_context is None:
        return plain
    try:
        plain.settimeout(_seconds_until(deadline))
        return ssl_context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


class TimedSocket(io.RawIOBase):
    """A socket for one request of `http.client`, and its answer.

    Args:
        connection: The socket. It stays open.
        deadline: When the last byte must have come, by `time.monotonic`.
        max_bytes: The most bytes to receive.
    """

    def __init__(self, connection: socket.socket, deadline: float, max_bytes: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._received = 0

    def sendall(self, data: bytes) -> None:
        """Sends all of the data. Raises TimeoutError at the deadline."""
        left = memoryview(data)
        while left:
            self._connection.settimeout(_seconds_until(self._deadline))
            left = left[self._connection.send(left) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """What is received, as `http.client` reads it."""
        return io.BufferedReader(self, _BUFFER)

    def readable(self) -> bool:
        """True: it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Receives once. Raises TimeoutError at the deadline, ServingError for too many bytes."""
        self._connection.settimeout(_seconds_until(self._deadline))
        count = self._connection.recv_into(buffer)
        self._received += count
        if self._received > self._max_bytes:
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"The answer is larger than `max_answer_bytes`, {self._max_bytes}.",
            )
        return count

    def close(self) -> None:
        """Leaves the socket open, which the client keeps or closes."""


def _seconds_until(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
