"""Which names of this server a request may bear: a web page can make its own name mean 127.0.0.1 (DNS rebinding), and
is then of the same origin as a server there that asks for no keys."""

import ipaddress
from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from octavo_runtime.server.access.keys import ApiKeys
from octavo_runtime.server.http.errors import ApiError, error_response

_ANY = "*"


class HostNames:
    """ASGI middleware: where no key is asked for, answers 403 to a request for a name that is neither an IP address nor
    localhost nor one of `allowed`. `bound_to`: the address that the server listens on; where it is no loopback address
    others reach the server by names of their own, and any will do. on_rejected hears of each refusal."""

    def __init__(
        self, app: ASGIApp, *, keys: ApiKeys, bound_to: str, allowed: Iterable[str], on_rejected: Callable[[], None]
    ) -> None:
        self._app = app
        self._keys = keys
        self._allowed = {name.lower() for name in allowed}
        self._open = _ANY in self._allowed or not _is_this_machine(bound_to)
        self._on_rejected = on_rejected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 403 in its place (ASGI)."""
        if scope["type"] == "http" and not self._open and not self._keys.required:
            for header, value in scope["headers"]:
                if header == b"host" and not self._may_be_called(name := _name(value.decode("latin-1"))):
                    self._on_rejected()
                    await error_response(scope["path"], _foreign(name))(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _may_be_called(self, name: str) -> bool:
        return name in self._allowed or _is_address(name) or _is_localhost(name)


def _name(host: str) -> str:
    """A Host header's name, without port, brackets and the dot of the root."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".").lower()


def _is_this_machine(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback if _is_address(address) else _is_localhost(address)


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")  # RFC 6761: no name server is asked for them


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _foreign(name: str) -> ApiError:
    message = (
        "Host: must be localhost, an IP address or a name given by --allowed-host, for this server asks for no keys, "
        f"got {name!r:.100}"
    )
    return ApiError(403, message, code="host_not_allowed")
