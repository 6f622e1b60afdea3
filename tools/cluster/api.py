"""The cluster's API server, asked over HTTPS with the administrator's certificate (standard library alone)."""

import http.client
import json
import ssl
from typing import Any

import network
import pki

SECONDS = 5.0


def get(path: str) -> Any:
    """The JSON object at `path`; None where there is none, or where nobody answers."""
    status, body = _ask(path)
    return json.loads(body) if status == 200 else None


def ready() -> bool:
    """Whether the API server answers and says that it is ready."""
    return _ask("/readyz")[0] == 200


def _ask(path: str) -> tuple[int, bytes]:
    try:
        context = ssl.create_default_context(cafile=str(pki.crt("ca")))
        context.load_cert_chain(pki.crt("admin"), pki.key("admin"))
        connection = http.client.HTTPSConnection(network.NODE_ADDRESS, pki.API_PORT, timeout=SECONDS, context=context)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return 0, b""
