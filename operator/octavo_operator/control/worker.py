"""One asyncio task per LLMService: wake-ups that come while it works become one more round, failures are retried with
growing pauses, and now and then it looks without being woken.

Keyed by name, not by uid: a service that is deleted and made again is served by the same task, so that no two tasks
ever write the same objects.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable

from octavo_operator.api import Key
from octavo_operator.cluster import Stale
from octavo_operator.control import metrics_endpoint
from octavo_operator.control.operator import Operator
from octavo_operator.control.reconcile import Outcome, one_line

logger = logging.getLogger(__name__)

# Seconds to the next look, unless something wakes it, after the first such outcome; twice that after the second, and so
# on. None: the round failed.
_AGAIN: dict[Outcome | None, float] = {None: 0.2, Outcome.FAILED: 0.2, Outcome.BLOCKED: 1.0, Outcome.WAITING: 3.0}
_LAST_RETRY = 30.0
_REPAIRS_AT_ONCE = 5
# A round asks for ten objects at once. When hundreds of services wake together, as at the start, their requests would
# wait for each other longer than one may take, and fail.
_ROUNDS_AT_ONCE = 16
_GATHER = 0.1  # events come in bursts: a rollout changes pods, ReplicaSets and endpoints within milliseconds


# As the metric names them.
_RESULTS = {
    Outcome.GONE: "gone",
    Outcome.SETTLED: "settled",
    Outcome.WAITING: "settled",
    Outcome.REPAIRED: "settled",
    Outcome.ELSEWHERE: "elsewhere",
    Outcome.BLOCKED: "blocked",
    Outcome.FAILED: "error",
}


class Workers:
    """The running tasks. `reconcile` does one round; `resync` is in seconds."""

    def __init__(self, reconcile: Callable[[str, str], Awaitable[Outcome]], resync: float) -> None:
        self._reconcile = reconcile
        self._resync = resync
        self._awake: dict[Key, asyncio.Event] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_ROUNDS_AT_ONCE)

    def wake(self, namespace: str, name: str) -> None:
        """Something about this service may have changed."""
        key = (namespace, name)
        if key not in self._tasks:
            self._awake[key] = asyncio.Event()
            self._tasks[key] = asyncio.create_task(self._work(key), name=f"llmservice {namespace}/{name}")
        self._awake[key].set()

    def namespaces(self) -> set[str]:
        """Where there are services."""
        return {namespace for namespace, _ in self._tasks}

    def wake_all(self, namespace: str | None) -> None:
        """Something about every service of a namespace, or of all, may have changed."""
        for key in list(self._tasks):
            if namespace in (None, key[0]):
                self.wake(*key)

    def forget(self, namespace: str | None) -> list[Key]:
        """The namespace is not served any more, or none is: end the tasks of its services; which these are."""
        services = [key for key in self._tasks if namespace in (None, key[0])]
        for key in services:
            # At once: a task that is ended before it began never takes itself off, and its service would stay unserved.
            self._tasks.pop(key).cancel()
            del self._awake[key]
        return services

    async def stop(self) -> None:
        """End every task; a round that is cut short is made good by the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, key: Key) -> None:
        awake = self._awake[key]
        tries, repairs = 0, 0.0
        pause = self._resync
        try:
            while True:
                await _until(awake, pause)
                await asyncio.sleep(_GATHER)
                async with self._slots:
                    awake.clear()
                    outcome = await self._round(key)
                if outcome is Outcome.GONE and not awake.is_set():
                    return
                tries = tries + 1 if outcome in _AGAIN else 0
                repairs = repairs + 1 if outcome is Outcome.REPAIRED else max(0.0, repairs - 0.5)
                if repairs > _REPAIRS_AT_ONCE:
                    # Somebody writes it again and again: at this pace neither side is kept from its other work.
                    await asyncio.sleep(min(2 ** (repairs - _REPAIRS_AT_ONCE), _LAST_RETRY))
                first = _AGAIN.get(outcome)
                pause = min(first * 2 ** (tries - 1), _LAST_RETRY) if first else self._resync
                pause = min(pause * random.uniform(0.8, 1.2), self._resync)
        finally:
            if self._awake.get(key) is awake:  # else another task serves it by now
                del self._tasks[key], self._awake[key]

    async def _round(self, key: Key) -> Outcome | None:
        """The outcome of one round, None if it failed."""
        namespace, name = key
        began, result = time.monotonic(), "error"
        try:
            outcome = await self._reconcile(namespace, name)
            result = _RESULTS[outcome]
            return outcome
        except Stale as error:
            result = "stale"
            logger.debug("%s/%s: %s", namespace, name, error)
        except Exception as error:
            # The service itself cannot be read or told; nothing may end the task.
            logger.warning("%s/%s: will try again: %s", namespace, name, one_line(error))
            logger.debug("%s/%s", namespace, name, exc_info=True)
        finally:
            metrics_endpoint.reconciled(result, time.monotonic() - began)
        return None


def lose(workers: Workers, operator: Operator, namespace: str | None) -> None:
    """A namespace is not served any more, or none is: nothing is kept of its services, and none is looked at."""
    operator.turns.forget(namespace)  # first: a service that gives its turn back has the next one woken
    for service in workers.forget(namespace):
        operator.forget(service)


async def _until(awake: asyncio.Event, seconds: float) -> None:
    # Not asyncio.wait_for: Python 3.11's goes on, deaf, where it is cancelled in the moment in which the event comes.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await awake.wait()
