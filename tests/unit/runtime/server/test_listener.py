"""Sockets of both families, for real."""

import resource
import socket

import pytest
from patience import PATIENCE

from octavo_runtime.server.http.connection import allow_open_files
from octavo_runtime.server.http.listener import listen

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no IPv6")


def answers(address: str, listener: socket.socket) -> bool:
    """Whether a client that calls this address reaches the listener."""
    port = listener.getsockname()[1]
    try:
        with socket.create_connection((address, port), timeout=PATIENCE) as client:
            accepted, _ = listener.accept()
            with accepted:
                client.sendall(b"x")
                return accepted.recv(1) == b"x"
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize(
    ("host", "ipv4", "ipv6"),
    [
        pytest.param("::", True, True, marks=needs_ipv6),
        pytest.param("::1", False, True, marks=needs_ipv6),
        ("0.0.0.0", True, False),
        ("127.0.0.1", True, False),
    ],
)
def test_an_address_is_reached_by_the_families_that_it_stands_for(host: str, ipv4: bool, ipv6: bool) -> None:
    with listen(host, 0) as listener:
        assert answers("127.0.0.1", listener) == ipv4
        if socket.has_dualstack_ipv6():
            assert answers("::1", listener) == ipv6


def test_every_address_is_that_of_ipv4_where_the_kernel_has_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen("::", 0) as listener:
        assert listener.family == socket.AF_INET
        assert answers("127.0.0.1", listener)


@pytest.mark.parametrize(("most", "told"), [(300, True), (4096, False), (resource.RLIM_INFINITY, False)])
def test_too_few_open_files_for_the_connections_are_told(most, told, monkeypatch, caplog):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, most))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: None)
    allow_open_files(4096)
    assert ("may have 300 open files (ulimit -Hn), fewer than --max-connections 4096" in caplog.text) == told
