"""Writes what a service is to have where what is there differs: what others wrote into an object is taken away, what is
wanted is applied, and what is not wanted any more is deleted."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from octavo_operator.api import LLMService
from octavo_operator.cluster import FIELD_MANAGER, Applied, Event, Refused
from octavo_operator.control import replicas
from octavo_operator.control.drift import holds, repaired
from octavo_operator.resources import workload
from octavo_operator.status.observation import AUTOSCALERS, Observation

Object = dict[str, Any]
Name = tuple[str, str]  # kind and name

_RUNNING = (*workload.KINDS, *AUTOSCALERS)  # what starts and replaces pods
_REACHING = ("Service", "NetworkPolicy", "PodDisruptionBudget")  # what tells the pods of one kind of workload by labels


class Cluster(Protocol):
    """What writing asks of the API server."""

    async def get(self, kind: str, namespace: str, name: str) -> Object | None: ...
    async def apply(self, desired: Object, live: Object | None) -> Applied: ...
    async def repair(self, live: Object, content: Object) -> None: ...
    async def hand_over_replicas(self, workload: Object, replicas: int) -> None: ...
    async def delete(self, live: Object) -> None: ...


@dataclass
class Changes:
    """What a round has written. It grows as the round goes on, so that whatever ends it can be told."""

    events: list[Event] = field(default_factory=list)
    repaired: bool = False

    def add(self, reason: str, said: str, name: Name) -> None:
        self.events.append(Event(reason, f"{said} {name[0]} {name[1]}"))


async def apply(
    cluster: Cluster, seen: Observation, wanted: Mapping[Name, Object], changes: Changes, *, held: bool
) -> None:
    """Write what differs, but for what starts pods where that is `held`. `seen` holds what is then there."""
    assert seen.service is not None, "the spec is valid"
    switches = _switches(seen, seen.service)
    kinds = (*_RUNNING, *_REACHING) if switches else _RUNNING
    kept = {name for name in seen.objects if name[0] in kinds} if held else set()
    unwanted = seen.objects.keys() - wanted.keys() - kept
    if seen.service.spec.autoscaling is not None:
        # KEDA does not take what another autoscaler scales.
        await _prune(cluster, seen, {name for name in unwanted if name[0] in AUTOSCALERS}, changes)
    # The pods that run lose nothing before what is to take their place is taken.
    names = sorted(wanted, key=lambda name: name[0] not in workload.KINDS) if switches else list(wanted)
    for name in names:
        if name not in kept:
            await _write(cluster, seen, name, wanted[name], changes)
    await _prune(cluster, seen, unwanted, changes)


def _switches(seen: Observation, service: LLMService) -> bool:
    """Whether pods run by a workload of the other kind, which what the spec says now would cut off or leave open."""
    return any(seen.own(kind) is not None for kind in workload.KINDS if kind != workload.kind(service))


async def _write(cluster: Cluster, seen: Observation, name: Name, desired: Object, changes: Changes) -> None:
    """Make one object what it is to be."""
    live, mended = seen.objects[name], False
    if live is not None and (content := repaired(live, desired, FIELD_MANAGER)) is not None:
        await _repair(cluster, name, live, content)
        changes.repaired = mended = True
        changes.add("Repaired", "took away what others wrote into", name)
        live = seen.objects[name] = await cluster.get(name[0], seen.namespace, name[1])
    if name[0] in workload.KINDS and live is not None and seen.service is not None:
        start = replicas.to_hand_over(seen.service, live)
        if start is not None:
            await cluster.hand_over_replicas(live, start)
            live = seen.objects[name] = await cluster.get(name[0], seen.namespace, name[1])
    is_held = live is not None and holds(live, desired)
    # What was mended is applied once more, since the record of who applied it went with what others wrote.
    if is_held and not mended:
        return
    try:
        applied = await cluster.apply(desired, live)
    except Refused as error:
        raise type(error)(f"{name[0]} {name[1]}: {error}") from None
    seen.objects[name] = applied.object
    if applied.change and not is_held:
        changes.add(applied.change, applied.change.lower(), name)


async def _repair(cluster: Cluster, name: Name, live: Object, content: Object) -> None:
    try:
        await cluster.repair(live, content)
    except Refused as error:
        raise type(error)(f"{name[0]} {name[1]}: what others wrote into it cannot be taken away: {error}") from None


async def _prune(cluster: Cluster, seen: Observation, unwanted: Set[Name], changes: Changes) -> None:
    """Delete what the service has and is not to have."""
    for name in sorted(unwanted):
        live = seen.own(*name)
        if live is not None and "deletionTimestamp" not in live["metadata"]:
            await cluster.delete(live)
            seen.objects[name] = None
            changes.add("Deleted", "deleted", name)
