"""Serves places, a namespace each or all at once, apart from each other: one that is deleted, absent or closed is told,
and looked at again now and then, while the others are served."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

logger = logging.getLogger(__name__)

Place = str | None  # a namespace; None: all of them
# Watches a place until `stop` is set, and raises what ends it before; sets the second event once it watches.
Watch = Callable[[Place, asyncio.Event, asyncio.Event], Awaitable[None]]

_FIRST_PAUSE = 1.0
_LAST_PAUSE = 60.0
_STEADY = 60.0  # seconds; what was served so long starts with a short pause again


class Places:
    """`lost` is called with a place that is not served any more, until it is again; `stop` is set once the process is
    told to end, which may be before anything is served."""

    def __init__(self, places: Sequence[str], watch: Watch, lost: Callable[[Place], None], stop: asyncio.Event) -> None:
        self._places: list[Place] = [*places] or [None]
        self._watch = watch
        self._lost = lost
        self._stop = stop
        self._troubles: dict[Place, str] = {}

    def troubles(self) -> dict[str, str]:
        """What keeps places from being served, by their names."""
        return {_name(place): trouble for place, trouble in self._troubles.items()}

    async def serve(self) -> None:
        """Serve every place until the process is told to end."""
        await asyncio.gather(*(self._serve(place) for place in self._places))

    async def _serve(self, place: Place) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            began = loop.time()
            watching = asyncio.Event()
            told = asyncio.create_task(self._tell_when_served(place, watching))
            try:
                await self._watch(place, self._stop, watching)
                self._stop.set()  # it was told to end, and with it all
                return
            except Exception as error:
                trouble = _words(error)
            finally:
                told.cancel()
            if self._stop.is_set():
                return
            self._lost(place)
            if loop.time() - began > _STEADY:
                pause = _FIRST_PAUSE
            if place not in self._troubles:
                logger.warning("%s cannot be served, and is looked at again: %s", _name(place), trouble)
            self._troubles[place] = trouble
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, _LAST_PAUSE)

    async def _tell_when_served(self, place: Place, watching: asyncio.Event) -> None:
        await watching.wait()
        if self._troubles.pop(place, None) is not None:
            logger.info("%s is served again", _name(place))


def _words(error: Exception) -> str:
    """What happened; kopf's errors bear the API server's whole answer beside its words."""
    said = error.args[0] if error.args else ""
    return " ".join(str(said).split())[:300] or type(error).__name__


def _name(place: Place) -> str:
    return f"namespace {place}" if place else "the cluster"
