"""Asks a pod over HTTP by its address, bounded in time and in size."""

from collections.abc import Mapping
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from octavo_operator.status.condition import is_true

SECONDS = 5.0
_MAX_BYTES = 2 * 2**20
AT_ONCE = 64


class Unreadable(RuntimeError):
    """A pod's answer is not what was asked for; says why, as what the pod does."""


def host(pod: Mapping[str, Any]) -> str | None:
    """A pod's address as it stands in a URL; None before it has one."""
    address = pod.get("status", {}).get("podIP")
    if not address:
        return None
    return f"[{address}]" if ":" in address else str(address)


def metrics_url(pod: Mapping[str, Any]) -> str | None:
    """Where a pod's annotations say that its metrics are; None while it is not ready."""
    at = host(pod)
    if at is None or not is_true(pod["status"], "Ready"):
        return None
    said = {key.removeprefix("prometheus.io/"): value for key, value in pod["metadata"].get("annotations", {}).items()}
    path = "/" + said.get("path", "metrics").removeprefix("/")
    return f"{said.get('scheme', 'http')}://{at}:{said.get('port', '8000')}{path}"


def session() -> ClientSession:
    """What `fetch` asks with."""
    # As kubelet's probes: the certificate is made for the names that clients use, and pods are asked by address.
    connector = TCPConnector(ssl=False, limit=AT_ONCE)
    plain = {"Accept": "text/plain", "Accept-Encoding": "identity"}
    return ClientSession(
        connector=connector, timeout=ClientTimeout(total=SECONDS), headers=plain, auto_decompress=False
    )


async def fetch(session: ClientSession, url: str) -> str:
    """The text that a pod answers with; Unreadable where the answer is another."""
    async with session.get(url, allow_redirects=False) as response:
        if response.status in (401, 403):
            raise Unreadable(f"asks for an API key on {url}: take --guard-metrics out of the spec")
        if response.status != 200:
            raise Unreadable(f"answers on {url} with HTTP status {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_chunked(2**16):
            body += chunk
            if len(body) > _MAX_BYTES:
                raise Unreadable(f"answers on {url} with more than {_MAX_BYTES} bytes")
        return body.decode("utf-8", errors="replace")
