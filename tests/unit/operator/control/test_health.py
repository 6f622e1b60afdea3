"""What the operator answers by HTTP, on sockets of both families."""

import asyncio
import socket
import urllib.request
from collections.abc import Iterator

import pytest
from live import free_port
from patience import PATIENCE

from octavo_operator.control import health, metrics_endpoint

ADDRESSES = ["127.0.0.1"] + (["[::1]"] if socket.has_dualstack_ipv6() else [])


def fetched(address: str, port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}:{port}{path}", timeout=PATIENCE) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def metrics_port() -> Iterator[int]:
    port = free_port()
    server, thread = metrics_endpoint.serve(port)
    yield port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("address", ADDRESSES)
def test_health_names_what_is_not_served(address: str) -> None:
    port = free_port()

    async def ask() -> str:
        async with health.answering(port, lambda: {"namespace a": "it is not there"}):
            return await asyncio.to_thread(fetched, address, port, "/healthz")

    assert asyncio.run(ask()) == '{"not served": {"namespace a": "it is not there"}}'


@pytest.mark.parametrize("address", ADDRESSES)
def test_metrics(address: str, metrics_port: int) -> None:
    metrics_endpoint.reconciled("settled", 0.25)
    assert 'octavo_operator_reconcile_seconds_count{result="settled"}' in fetched(address, metrics_port, "/metrics")
