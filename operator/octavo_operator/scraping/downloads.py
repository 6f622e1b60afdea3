"""How far downloads to caches are, as their pods say on a port of their own: they are asked every few seconds while a
service waits for one."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from octavo_operator.api import Key
from octavo_operator.resources.model_download import PROGRESS_PORT
from octavo_operator.scraping import asking

_AT_ONCE = 16
_AGAIN = 5.0  # seconds from one answer to the next
_FORGOTTEN = 120.0  # seconds after which a service that does not ask any more is not asked for


class Progress(BaseModel):
    """What the Job's pod says; `waits`: for what, in words."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    bytes: int | None = Field(None, ge=0)
    total: int | None = Field(None, ge=0)
    bytes_per_second: int | None = Field(None, ge=0)
    seconds_left: int | None = Field(None, ge=0)
    waits: str | None = Field(None, max_length=1000)


@dataclass
class _Source:
    url: str
    wanted: float  # when it was last asked for
    asked: float = float("-inf")
    said: Progress | None = None


class Downloads:
    """Of the services that wait for one. `clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sources: dict[Key, _Source] = {}
        self._any = asyncio.Event()

    def progress(self, key: Key, pod: Mapping[str, Any]) -> Progress | None:
        """What the pod that downloads for a service last said; None where it is yet to be asked."""
        host = asking.host(pod)
        if host is None or pod["status"].get("phase") != "Running":
            return None
        url = f"http://{host}:{PROGRESS_PORT}/progress"
        source = self._sources.get(key)
        if source is None or source.url != url:
            source = self._sources[key] = _Source(url, self._clock())
        source.wanted = self._clock()
        self._any.set()
        return source.said

    def forget(self, key: Key) -> None:
        """The service is gone, or its model is there."""
        self._sources.pop(key, None)

    async def keep(self, changed: Callable[[str, str], None]) -> None:
        """Ask, for ever. `changed` is called with each service (namespace, name) whose download has come further."""
        slots = asyncio.Semaphore(_AT_ONCE)
        async with asking.session() as session:
            while True:
                await self._any.wait()
                now = self._clock()
                for key in [key for key, source in self._sources.items() if now - source.wanted > _FORGOTTEN]:
                    self.forget(key)
                if not self._sources:
                    self._any.clear()
                    continue
                due = [(key, source) for key, source in self._sources.items() if now - source.asked >= _AGAIN]
                await asyncio.gather(*(_ask(session, slots, source, now) for _, source in due))
                for key, source in due:
                    if self._sources.get(key) is source:
                        changed(*key)
                await asyncio.sleep(1)


async def _ask(session: ClientSession, slots: asyncio.Semaphore, source: _Source, now: float) -> None:
    source.asked = now
    async with slots:
        try:
            source.said = Progress.model_validate_json(await asking.fetch(session, source.url))
        except (asking.Unreadable, TimeoutError, ClientError, OSError, ValidationError):
            return
