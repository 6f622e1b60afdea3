"""Reading files over HTTP from any offset, and what answers mean."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx

from octavo_runtime.models.sources.snapshot import Bytes, Interrupted

_TIMEOUT = httpx.Timeout(60, connect=15)


def client() -> httpx.Client:
    """A client for downloads: follows redirects (an Authorization header goes to the first host alone)."""
    return httpx.Client(follow_redirects=True, timeout=_TIMEOUT)


@contextmanager
def read(
    asking: httpx.Client,
    url: str,
    headers: Mapping[str, str],
    offset: int,
    check: Callable[[httpx.Response], None],
    size: int | None = None,
) -> Iterator[Bytes]:
    """The content behind a URL from `offset` on, to the end of its `size` where that is told: some servers take no open
    range. `check` raises for an answer that is none."""
    last = "" if size is None else size - 1
    # A compressed answer would have another length and other offsets.
    wanted = {**headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-{last}"} if offset else {})
    with reaching(url), asking.stream("GET", url, headers=wanted) as response:
        check(response)
        yield Bytes(offset if response.status_code == 206 else 0, response.iter_raw())


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Errors of the network, as Interrupted."""
    try:
        yield
    except httpx.TransportError as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Interrupted(f"no answer from {httpx.URL(url).host}: {words}") from None


def interruption(response: httpx.Response, who: str) -> Interrupted | None:
    """What a status says that passes: too many requests, or trouble of the server's."""
    status = response.status_code
    if status != 429 and status < 500:
        return None
    said = "too many requests" if status == 429 else "trouble of its own"
    return Interrupted(f"{who} answers HTTP {status} ({said})", wait(response.headers.get("Retry-After")))


def wait(said: str | None) -> float | None:
    """The seconds in a Retry-After header; None where there is none, or a date."""
    return float(said) if said and said.strip().isdigit() else None
