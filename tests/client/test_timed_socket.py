"""Connecting to a host with several addresses. What drips or has no end: `test_rest_client.py`."""

import socket
import time

import pytest

from keras_luong_client import timed_socket


@pytest.fixture
def addresses(monkeypatch):
    """Makes every host have the given addresses, and lists the timeouts of the calls to them."""
    timeouts = []
    connect = socket.create_connection

    def create_connection(address, timeout):
        timeouts.append(timeout)
        if address[0] == "silent":
            time.sleep(timeout)
            raise TimeoutError
        return connect(address, timeout)

    def give(*hosts):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in hosts]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **options: found)
        return timeouts

    monkeypatch.setattr(socket, "create_connection", create_connection)
    return give


def test_the_addresses_of_a_host_share_the_deadline(addresses):
    timeouts = addresses(*["silent"] * 50)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        timed_socket.connected("host", 80, None, began + 0.1)
    assert time.monotonic() - began < 1 and len(timeouts) == 1


def test_a_host_without_an_address_is_named(addresses):
    addresses()
    with pytest.raises(OSError, match="host has no address"):
        timed_socket.connected("host", 80, None, time.monotonic() + 1)


def test_the_next_address_is_asked_when_one_refuses():
    # ::1, where there is IPv6, refuses.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with timed_socket.connected("localhost", port, None, time.monotonic() + 5) as found:
            assert found.getpeername() == ("127.0.0.1", port)
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
