"""`octavo nginx`: a configuration of nginx in front of several servers."""

import re
from collections.abc import Sequence
from importlib.resources import files
from ipaddress import IPv6Address

from jinja2 import Environment, StrictUndefined

from octavo_runtime.config.units import parse_duration

_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
# What means something to nginx within a word, or ends it.
_NOT_IN_PATHS = re.compile(r"[\s\"'\\;{}$#\x00-\x1f\x7f]")
_SIZE_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_MAX_BODY_BYTES = 2**30
_READ_TIMEOUT_SECONDS = (1.0, 86_400.0)

_ERRORS = (
    (404, "not_found_error", "not_found", "no such endpoint"),
    (413, "invalid_request_error", "request_too_large", "the body must have at most {max_body} bytes"),
    (502, "server_error", "service_unavailable", "no server could be reached"),
    (504, "server_error", "deadline_exceeded", "no server answered in time"),
)


def run(
    backends: str,
    listen: str,
    tls_cert: str | None,
    tls_key: str | None,
    max_body: str,
    read_timeout: str,
    state: str | None,
) -> int:
    """Prints the configuration. ValueError, in one line, for what is out of bounds."""
    print(
        configuration(
            backends.split(","),
            listen=listen,
            tls_cert=tls_cert,
            tls_key=tls_key,
            max_body=max_body,
            read_timeout=read_timeout,
            state=state,
        ),
        end="",
    )
    return 0


def configuration(
    backends: Sequence[str],
    *,
    listen: str = "8080",
    tls_cert: str | None = None,
    tls_key: str | None = None,
    max_body: str = "16m",
    read_timeout: str = "600s",
    state: str | None = None,
) -> str:
    """The text of an nginx.conf.

    backends: HOST:PORT of each server. listen: PORT or ADDRESS:PORT. tls_cert, tls_key: PEM files, both or neither.
    max_body: bytes, or with k, m or g. read_timeout: a duration such as 600s. state: folder for nginx's pid and
    temporary files where it does not run as root. Raises ValueError for whatever breaks a rule, since text that reaches
    nginx unchecked could say anything."""
    if (tls_cert is None) != (tls_key is None):
        raise ValueError("tls_cert, tls_key: must be given both or neither")
    addresses = [_address("backends", one.strip()) for one in backends]
    for one in addresses:
        if addresses.count(one) > 1:
            raise ValueError(f"backends: must each be named once, got {one} twice")
    template = Environment(
        autoescape=False,  # noqa: S701 - nginx's syntax, not HTML; every value is checked
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).from_string(files("octavo_runtime.nginx").joinpath("nginx.conf.jinja").read_text())
    return template.render(
        backends=addresses,
        listen=_port("listen", listen) if listen.isdigit() else _address("listen", listen),
        tls_cert=None if tls_cert is None else _path("tls_cert", tls_cert),
        tls_key=None if tls_key is None else _path("tls_key", tls_key),
        max_body=_size(max_body),
        read_timeout=_timeout(read_timeout),
        state=None if state is None else _path("state", state),
        errors=[(*error, message.format(max_body=max_body)) for *error, message in _ERRORS],
    )


def _address(name: str, text: str) -> str:
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        try:
            IPv6Address(host[1:-1].partition("%")[0])
            valid = "%" not in host
        except ValueError:
            valid = False
    else:
        valid = len(host) <= 253 and _HOST.fullmatch(host) is not None
    if not valid or not port.isdigit():
        raise ValueError(f"{name}: must be HOST:PORT, such as 10.0.0.1:8000 or [::1]:8000, got {text!r:.100}")
    return f"{host}:{_port(name, port)}"


def _port(name: str, text: str) -> int:
    port = int(text) if text.isascii() and len(text) <= 5 else 0
    if not 1 <= port <= 65535:
        raise ValueError(f"{name}: ports are from 1 to 65535, got {text!r:.100}")
    return port


def _path(name: str, text: str) -> str:
    path = text.rstrip("/")
    if not path.startswith("/") or _NOT_IN_PATHS.search(path):
        raise ValueError(
            f"{name}: must be an absolute path below /, without spaces, quotes and any of \\;{{}}$#, got {text!r}"
        )
    return path


def _size(text: str) -> str:
    match = re.fullmatch(r"([0-9]{1,10})([kmg]?)", text)
    size = int(match[1]) * _SIZE_UNITS[match[2]] if match else 0
    if not 1 <= size <= _MAX_BODY_BYTES:  # to nginx 0 means no bound
        raise ValueError(f"max_body: must be from 1 to 1g bytes, such as 16m, got {text!r:.100}")
    return text


def _timeout(text: str) -> str:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ValueError(f"read_timeout: {error}") from None
    least, most = _READ_TIMEOUT_SECONDS
    if not least <= seconds <= most:
        raise ValueError(f"read_timeout: must be from 1s to 24h, got {text!r:.100}")
    return f"{round(seconds * 1000)}ms"
