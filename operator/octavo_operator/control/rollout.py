"""When the pod template that a service is to have is written to its workload."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from octavo_operator.api import Key, LLMService
from octavo_operator.cluster import Refused
from octavo_operator.control.claims import Claims
from octavo_operator.control.provenance import Provenance, Way, held, marked, way
from octavo_operator.control.turns import Turns
from octavo_operator.kinds import SERVICE_LABEL
from octavo_operator.settings import Settings
from octavo_operator.status.rollout import Rollout

Object = dict[str, Any]


class Workloads(Protocol):
    """What is needed of a connection to the API server."""

    async def workloads(self, namespace: str | None) -> list[Object]: ...


async def arranged(
    turns: Turns, service: LLMService, settings: Settings, workload: Object, live: Object | None
) -> tuple[Object, str | None]:
    """The workload as it is to be written now, and what its pod template waits for, in words. `workload`: as it is
    to be in the end; `live`: the service's own."""
    key = service.key
    wanted = Provenance.of(service, settings, workload)
    if live is None:
        turns.leave(key)
        return marked(workload, wanted), None
    known, in_turn = Provenance.read(live), is_in_turn(live)
    how = way(live, workload, wanted)
    # Where nothing answers, nothing can be taken from anybody.
    queues = how is Way.IN_TURN and Rollout.of(live).ready > 0
    if in_turn:
        turns.has(key)
    elif not queues:
        turns.leave(key)
    if queues and not await turns.take(key):
        return held(workload, live, known), turns.words()
    if how is Way.NEXT_TIME:
        return held(workload, live, known and replace(known, in_turn=in_turn)), None
    return marked(workload, replace(wanted, in_turn=in_turn or queues)), None


def is_in_turn(live: Object | None) -> bool:
    """Whether a workload rolls out what the operator brings, and has not come to the end of that."""
    known = Provenance.read(live) if live is not None else None
    return known is not None and known.in_turn and not Rollout.of(live).is_complete


async def under_way(cluster: Workloads, claims: Claims, namespaces: Sequence[str]) -> list[Key]:
    """The services whose turn it is, of those that this installation serves. `namespaces`: that it may serve; none:
    all."""
    found = []
    places: list[str | None] = [*namespaces] or [None]
    for place in places:
        try:
            found_here = await cluster.workloads(place)
        except Refused:
            continue  # it is not there, or not served
        for live in filter(is_in_turn, found_here):
            key = live["metadata"]["namespace"], live["metadata"]["labels"][SERVICE_LABEL]
            if (await claims.of(key[0])).holder == claims.installation:
                found.append(key)
    return found
