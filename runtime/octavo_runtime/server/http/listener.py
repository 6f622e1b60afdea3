"""The socket that a server listens on, and its address."""

import socket

from octavo_runtime.config import ServerConfig


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def address(server: ServerConfig, listener: socket.socket) -> str:
    """Where clients find the API, such as http://127.0.0.1:8000/v1."""
    scheme = "http" if server.tls_cert is None else "https"
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}/v1"
