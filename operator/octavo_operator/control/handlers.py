"""What the operator watches: any event on a service, or on an object that is labelled as a service's, wakes its worker.

Only event handlers: kopf's other kinds write annotations and a finalizer, and `kubectl delete` would hang once the
operator is gone.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import kopf

from octavo_operator.cluster import Refused, Trouble
from octavo_operator.control.signals import take_signals
from octavo_operator.control.worker import Workers
from octavo_operator.kinds import LLM_SERVICE, SERVICE_LABEL, Kind, path, watched
from octavo_operator.resources.model_download import CACHE_LABEL

logger = logging.getLogger(__name__)

# At start each kind is listed (events without a type), one after the other: what belongs to one service then arrives
# over a second or so, and is looked at once.
_LISTING = 1.0
_LOOK = 10.0  # seconds between two looks for kinds that are not watched, of each place about
_WATCH = "watcher for "  # how kopf begins the names of its tasks that watch


class Cluster(Protocol):
    """What watching needs of a connection to the API server."""

    async def read(self, path: str, **query: str) -> dict[str, Any] | None: ...


async def watch(
    workers: Workers, cluster: Cluster, namespace: str | None, stop: asyncio.Event, watching: asyncio.Event
) -> None:
    """Wake the workers of one namespace's services, or of all, until `stop`; raises what ends a watch before. Where
    kinds came that kopf does not watch, it begins anew."""
    await cluster.read(path(LLM_SERVICE.name, namespace), limit="1")  # kopf says that it watches before it has asked
    while await _watch(workers, cluster, namespace, stop, watching):
        # What happened between the watches, until each kind is listed again, is told by no event.
        asyncio.get_running_loop().call_later(2 * _LISTING, workers.wake_all, namespace)


async def _watch(
    workers: Workers, cluster: Cluster, namespace: str | None, stop: asyncio.Event, watching: asyncio.Event
) -> bool:
    """Watch until `stop`, or until there are kinds that are not watched: whether there are.

    kopf's own way to run these tasks ends every task of the loop with them, those of other namespaces too."""
    place: dict[str, Any] = {"clusterwide": True} if namespace is None else {"namespaces": [namespace]}
    spawned = await kopf.spawn_tasks(
        registry=_registry(workers),
        settings=_settings(watch_cluster=namespace is None),
        standalone=True,
        stop_flag=stop,
        ready_flag=watching,
        **place,
    )
    # kopf took them: it lets a signal end but the operator that started last, and nothing while that is ended itself.
    take_signals(stop)
    missing = asyncio.create_task(miss(cluster, namespace))
    tasks = [*spawned, missing]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    return missing in done and not stop.is_set()


async def miss(cluster: Cluster, namespace: str | None) -> None:
    """Return once there are kinds that are not watched, seen so in two looks: kopf may just be about to watch them.

    kopf asks which kinds there are when a definition is established, and what answers may learn of the definition a
    moment later. Without rights on the cluster it asks at its start alone."""
    former: set[str] = set()
    while True:
        await asyncio.sleep(_LOOK * random.uniform(0.8, 1.2))
        missed = {kind.name for kind in _unwatched(namespace) if await _is_there(cluster, kind, namespace)}
        if both := former & missed:
            logger.info("%s came meanwhile: all is watched anew", ", ".join(sorted(both)))
            return
        former = missed


def _unwatched(namespace: str | None) -> list[Kind]:
    """The kinds that kopf has no task to watch; none as long as it watches nothing yet."""
    running = {task.get_name() for task in asyncio.all_tasks()}
    kinds = [LLM_SERVICE, *watched()]
    found = [kind for kind in kinds if _task(kind, namespace) not in running]
    return found if len(found) < len(kinds) else []


def _task(kind: Kind, namespace: str | None) -> str:
    """The name of kopf's task that watches a kind."""
    return _WATCH + f"{kind.plural}.{kind.version}.{kind.group}".strip(".") + f"@{namespace}"


async def _is_there(cluster: Cluster, kind: Kind, namespace: str | None) -> bool:
    """Whether the API server knows the kind. A chart of an earlier version gives no right to kinds that came later."""
    try:
        return await cluster.read(path(kind.name, namespace), limit="1") is not None
    except (Refused, Trouble):
        return False


def hear_of_watches_once(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler of a loop. The API server may refuse all watches at once, as while it starts; the first of
    them ends `watch`, and kopf asks the others' tasks no more, of each of which asyncio would print a traceback."""
    task = context.get("future")
    if not (isinstance(task, asyncio.Task) and task.get_name().startswith(_WATCH)):
        loop.default_exception_handler(context)


def _registry(workers: Workers) -> kopf.OperatorRegistry:
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(kopf.login_via_client)

    @kopf.on.event(LLM_SERVICE.group, LLM_SERVICE.version, LLM_SERVICE.plural, registry=handlers)
    async def service_changed(namespace: str | None, name: str, **_: Any) -> None:
        workers.wake(str(namespace), name)

    for kind in watched():
        labels = {SERVICE_LABEL: kopf.PRESENT}

        @kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers, id=kind.plural, labels=labels)
        async def child_changed(type: str | None, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
            wake = partial(workers.wake, str(namespace), labels[SERVICE_LABEL])
            if CACHE_LABEL in labels:  # several services may wait for it
                wake = partial(workers.wake_all, str(namespace))
            if type is None:
                asyncio.get_running_loop().call_later(_LISTING, wake)
            else:
                wake()

    return handlers


class _NoDifferences(kopf.DiffBaseStorage):
    """Only handlers of changes ask what an object was before. kopf copies every object of every event for them twice,
    also where there are none: three quarters of what an event costs."""

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Nothing is known of before."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing is looked at."""
        return kopf.BodyEssence()


def _settings(*, watch_cluster: bool) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDifferences()
    # kopf would kill the process ten minutes after the watches of a place ended, though it goes on.
    settings.process.ultimate_exiting_timeout = None
    # Noticing that the CRD comes or changes takes rights on the whole cluster, which an operator for a few namespaces
    # is not given.
    settings.scanning.disabled = not watch_cluster
    settings.watching.server_timeout = 300
    settings.networking.error_backoffs = (1, 2, 4, 8)  # then the place is told as not served, and tried again
    for kind in watched():
        settings.watching.label_selectors[kind.plural] = SERVICE_LABEL
    return settings
