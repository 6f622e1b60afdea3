"""The servers that a client may ask, and which of them it asks next."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit

from octavo_runtime.client.breaker import Breaker


@dataclass(eq=False)
class Endpoint:
    """One server. url: without /v1 and without a slash at its end; in_flight: requests of this client that it works on;
    not_before: when it welcomes requests again (its Retry-After), in seconds of the client's clock."""

    url: str
    breaker: Breaker
    in_flight: int = 0
    not_before: float = 0.0

    def held(self, now: float) -> float:
        """Seconds for which the server asked not to be asked."""
        return max(self.not_before - now, 0.0)


def base_url(text: str, name: str, like: str = "http://localhost:8000") -> str:
    """A server's address without /v1. ValueError, about `name` and with an example, unless it is one of http or
    https."""
    url = text.rstrip("/").removesuffix("/v1").rstrip("/")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")  # as the system is asked for it
    except ValueError:
        valid = False
    # urlsplit drops line breaks and takes other signs as they are, which no request can hold.
    if not valid or parts.query or parts.fragment or " " in text or not text.isprintable():
        raise ValueError(f"{name}: must be like {like}, got {text!r}")
    return url


def checked_key(api_key: str) -> str:
    """`api_key` itself. ValueError, without the key, where no header can hold it."""
    if not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("api_key: must be printable ASCII")
    return api_key


def choose(endpoints: Sequence[Endpoint], tried: set[Endpoint], now: float, random: Random) -> Endpoint | None:
    """The endpoint with the fewest requests of this client, chance deciding between equals. One that this request has
    not `tried` goes before one that it has, and one that may be asked now before all that asked to be left alone for a
    while. None where every circuit is open."""
    admitted = [one for one in endpoints if one.breaker.admits(now)]
    order = {one: (one.held(now), one in tried, one.in_flight, random.random()) for one in admitted}
    return min(admitted, key=order.__getitem__, default=None)
