"""How many tokens the KV caches of pods hold, as they say themselves: a pod is asked once, soon after it is ready."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession
from prometheus_client.parser import text_string_to_metric_families

from octavo_operator.api import Key
from octavo_operator.scraping import asking
from octavo_operator.scraping.asking import metrics_url
from octavo_runtime.protocol.metrics import CACHE_CONFIG_INFO

_AT_ONCE = 16
_AGAIN = 300.0  # seconds after which a pod that said nothing is asked again


@dataclass(frozen=True)
class _Asked:
    """What a pod said at a time of the clock, None if nothing."""

    pod: str
    tokens: int | None
    at: float


class Measurements:
    """Of one pod of each service, the newest that is ready. `clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[Key, _Asked] = {}
        self._wanted: dict[Key, tuple[str, str]] = {}  # the pod to ask, and where
        self._any = asyncio.Event()

    def tokens(self, key: Key, pods: Iterable[Mapping[str, Any]]) -> int | None:
        """What the newest ready pod of a service said; None where there is none, or it is yet to be asked."""
        ready = [(pod, url) for pod in pods if "deletionTimestamp" not in pod["metadata"] and (url := metrics_url(pod))]
        if not ready:
            return None
        pod, url = max(ready, key=lambda each: str(each[0]["metadata"].get("creationTimestamp", "")))
        uid, asked = str(pod["metadata"].get("uid", "")), self._asked.get(key)
        if asked is not None and asked.pod == uid and (asked.tokens or self._clock() - asked.at < _AGAIN):
            return asked.tokens
        self._wanted[key] = uid, url
        self._any.set()
        return None

    def forget(self, key: Key) -> None:
        """The service is gone."""
        self._asked.pop(key, None)
        self._wanted.pop(key, None)

    async def keep(self, changed: Callable[[str, str], None]) -> None:
        """Ask, for ever. `changed` is called with each service (namespace, name) whose pod has answered."""
        slots = asyncio.Semaphore(_AT_ONCE)
        async with asking.session() as session, asyncio.TaskGroup() as tasks:
            while True:
                await self._any.wait()
                self._any.clear()
                wanted, self._wanted = self._wanted, {}
                for key, (pod, url) in wanted.items():
                    self._asked[key] = _Asked(pod, None, self._clock())
                    tasks.create_task(self._ask(session, slots, key, pod, url, changed))

    async def _ask(
        self,
        session: ClientSession,
        slots: asyncio.Semaphore,
        key: Key,
        pod: str,
        url: str,
        changed: Callable[[str, str], None],
    ) -> None:
        async with slots:
            try:
                tokens = read(await asking.fetch(session, url))
            except (asking.Unreadable, TimeoutError, ClientError, OSError, ValueError):
                return
        asked = self._asked.get(key)
        if tokens is not None and asked is not None and asked.pod == pod:  # else it was forgotten meanwhile
            self._asked[key] = _Asked(pod, tokens, self._clock())
            changed(*key)


def read(text: str) -> int | None:
    """Tokens that the KV cache holds, in Prometheus' text format; None where it does not say. ValueError where it is
    no such text."""
    lines = [line for line in text.splitlines() if line.startswith(CACHE_CONFIG_INFO.name)]
    for family in text_string_to_metric_families("\n".join(lines[:1]) + "\n"):
        for sample in family.samples:
            tokens = int(sample.labels.get("block_size", 0)) * int(sample.labels.get("num_gpu_blocks", 0))
            return tokens or None
    return None
