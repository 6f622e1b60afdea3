"""Leases, and what stands on them: times for people, and how long it has stood, by a clock that nobody sets."""

import datetime
from collections.abc import Callable, Hashable
from typing import Any, Protocol

Object = dict[str, Any]


class Leases(Protocol):
    """What is needed of a connection to the API server."""

    async def get(self, kind: str, namespace: str, name: str) -> Object | None: ...
    async def create(self, content: Object) -> None: ...
    async def merge(self, live: Object, content: Object) -> None: ...


def stamp(now: datetime.datetime) -> str:
    """As Kubernetes writes a time with its microseconds."""
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Sightings:
    """What others wrote, and when that was first seen. `passing`: seconds that pass."""

    def __init__(self, passing: Callable[[], float]) -> None:
        self._passing = passing
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def unchanged(self, what: Hashable, value: object) -> float:
        """Seconds since `what` was first seen to have this value."""
        now = self._passing()
        seen = self._seen.get(what)
        if seen is None or seen[0] != value:
            self._seen[what] = seen = value, now
        return now - seen[1]

    def forget(self, what: Hashable) -> None:
        """It is seen anew the next time."""
        self._seen.pop(what, None)
