"""Services take turns with what the operator brings, such as a new runtime image. So many at a time at most; one that
does not come to its end keeps its turn, so that a bad image stops there and the others serve on as they do.

Whose turn it is stands on the workloads (see provenance), and is read from there at the start."""

import logging
from collections.abc import Awaitable, Callable, Iterable

from octavo_operator.api import Key

logger = logging.getLogger(__name__)


class Turns:
    """`under_way`: the services whose turn it was when the operator started; `wake` has a service looked at again."""

    def __init__(
        self, at_once: int, under_way: Callable[[], Awaitable[Iterable[Key]]], wake: Callable[[str, str], None]
    ) -> None:
        self._at_once = at_once
        self._under_way = under_way
        self._wake = wake
        self._has_read = False
        self._rolling: set[Key] = set()
        self._waiting: dict[Key, None] = {}  # in the order in which they came

    async def take(self, key: Key) -> bool:
        """Whether it is a service's turn; if not, it is woken when it may be."""
        if not self._has_read:
            self._rolling |= set(await self._under_way())
            self._has_read = True
        if key not in self._rolling and self._free() > 0:
            self.has(key)
            logger.info("%s/%s: its turn to roll out what the operator brings; %d wait", *key, len(self._waiting))
        if key in self._rolling:
            return True
        self._waiting.setdefault(key)
        return False

    def has(self, key: Key) -> None:
        """It is the turn of this service, as its workload says."""
        self._waiting.pop(key, None)
        self._rolling.add(key)

    def leave(self, key: Key) -> None:
        """A service wants no turn, or has had it."""
        if key not in self._rolling and key not in self._waiting:
            return
        self._rolling.discard(key)
        self._waiting.pop(key, None)
        self._wake_next()

    def forget(self, namespace: str | None) -> None:
        """The namespace is not served any more, or none is: its services are not woken."""
        for key in [key for key in (*self._rolling, *self._waiting) if namespace in (None, key[0])]:
            self._rolling.discard(key)
            self._waiting.pop(key, None)
        self._wake_next()

    def words(self) -> str:
        """What those that wait are told. By numbers: names of services are their namespaces' own."""
        if self._at_once == 0:
            return "none has a turn, since rollouts.atOnce of the chart is 0"
        return f"{_services(len(self._rolling), 'has its turn', 'have their turn')}, {len(self._waiting)} in all wait"

    def _wake_next(self) -> None:
        for waiting in list(self._waiting)[: max(0, self._free())]:
            self._wake(*waiting)

    def _free(self) -> int:
        return self._at_once - len(self._rolling)


def _services(number: int, one: str, several: str) -> str:
    return f"1 service {one}" if number == 1 else f"{number} services {several}"
