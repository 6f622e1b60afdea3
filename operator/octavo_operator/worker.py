"""One asyncio task per LLMService: wake-ups that come while it works become one more round, failures are retried with
growing pauses, and now and then it looks without being woken.

Keyed by name, not by uid: a service that is deleted and made again is served by the same task, so that no two tasks
ever write the same objects.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from octavo_operator import metrics_endpoint
from octavo_operator.cluster import Stale
from octavo_operator.reconcile import Outcome

logger = logging.getLogger(__name__)

Key = tuple[str, str]  # namespace, name

_FIRST_RETRY = 0.2
_LAST_RETRY = 30.0
_BLOCKED_FIRST = 1.0
_GATHER = 0.1  # events come in bursts: a rollout changes pods, ReplicaSets and endpoints within milliseconds


class Workers:
    """The running tasks. `reconcile` does one round; `resync` is in seconds."""

    def __init__(self, reconcile: Callable[[str, str], Awaitable[Outcome]], resync: float) -> None:
        self._reconcile = reconcile
        self._resync = resync
        self._awake: dict[Key, asyncio.Event] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def wake(self, namespace: str, name: str) -> None:
        """Something about this service may have changed."""
        key = (namespace, name)
        if key not in self._tasks:
            self._awake[key] = asyncio.Event()
            self._tasks[key] = asyncio.create_task(self._work(key), name=f"llmservice {namespace}/{name}")
        self._awake[key].set()

    async def stop(self) -> None:
        """End every task; a round that is cut short is made good by the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, key: Key) -> None:
        awake = self._awake[key]
        failures = 0
        pause = self._resync
        try:
            while True:
                await _until(awake, pause)
                await asyncio.sleep(_GATHER)
                awake.clear()
                outcome = await self._round(key)
                if outcome is Outcome.GONE and not awake.is_set():
                    return
                failures = 0 if outcome in (Outcome.SETTLED, Outcome.GONE) else failures + 1
                if outcome is None:
                    pause = min(_FIRST_RETRY * 2 ** (failures - 1), _LAST_RETRY) * random.uniform(0.8, 1.2)
                elif outcome is Outcome.BLOCKED:
                    pause = min(_BLOCKED_FIRST * 2 ** (failures - 1), _LAST_RETRY)
                else:
                    pause = self._resync * random.uniform(0.8, 1.2)
        finally:
            self._tasks.pop(key, None)
            self._awake.pop(key, None)

    async def _round(self, key: Key) -> Outcome | None:
        """The outcome of one round, None if it failed."""
        namespace, name = key
        began, result = time.monotonic(), "error"
        try:
            outcome = await self._reconcile(namespace, name)
            result = outcome.name.lower()
            return outcome
        except Stale as error:
            result = "stale"
            logger.debug("%s/%s: %s", namespace, name, error)
        except Exception as error:
            # A round may fail in as many ways as the network and the API server; none may end the task.
            logger.warning("%s/%s: will try again: %s", namespace, name, _one_line(error))
            logger.debug("%s/%s", namespace, name, exc_info=True)
        finally:
            metrics_endpoint.reconciled(result, time.monotonic() - began)
        return None


async def _until(awake: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(awake.wait(), seconds)
    except TimeoutError:
        return


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
