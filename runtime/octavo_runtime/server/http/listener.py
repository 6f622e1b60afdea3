"""The socket that a server listens on, and its address."""

import socket

from octavo_runtime.config.server import ServerConfig

ANY_IPV6 = "::"
ANY_IPV4 = "0.0.0.0"  # noqa: S104


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket. `::` is every address of this machine, of IPv6 and of IPv4, and those of IPv4 alone where the
    kernel has no IPv6. `shared`: other processes of this user may listen there too. Raises OSError."""
    dual = host == ANY_IPV6 and socket.has_dualstack_ipv6()
    if host == ANY_IPV6 and not dual:
        host = ANY_IPV4
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048, reuse_port=shared, dualstack_ipv6=dual)


def address(server: ServerConfig, listener: socket.socket) -> str:
    """Where clients find the API, such as http://127.0.0.1:8000/v1."""
    scheme = "http" if server.tls_cert is None else "https"
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}/v1"
