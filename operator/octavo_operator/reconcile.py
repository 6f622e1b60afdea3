"""Makes the cluster hold what an LLMService asks for. Idempotent: run again, it finds nothing to do."""

import asyncio
import datetime
import logging
from enum import Enum
from typing import Any, Protocol

from octavo_operator import conditions, resources
from octavo_operator.api import KIND, InvalidSpec, LLMService, parse
from octavo_operator.cluster import FIELD_MANAGER, Applied, Notice, Refused
from octavo_operator.conditions import NAME_CONFLICT, PASSING, REFUSED, SERVING, Obstacle
from octavo_operator.drift import holds, stamp
from octavo_operator.settings import Settings

logger = logging.getLogger(__name__)

Object = dict[str, Any]
Observed = dict[tuple[str, str], Object | None]  # (kind, name) -> the live object


class Cluster(Protocol):
    """What reconciling needs of cluster.Cluster."""

    async def get(self, kind: str, namespace: str, name: str) -> Object | None: ...
    async def pods(self, namespace: str, service_name: str) -> list[Object]: ...
    async def apply(self, desired: Object, live: Object | None) -> Applied: ...
    async def hand_over_replicas(self, deployment: Object, replicas: int) -> None: ...
    async def delete(self, live: Object) -> None: ...
    async def write_status(self, service: Object, status: Object) -> None: ...
    async def notify(self, service: Object, notice: Notice) -> None: ...


class Outcome(Enum):
    GONE = "the service is gone; its objects go with it"
    SETTLED = "nothing to do until something changes"
    BLOCKED = "something that is not watched must change first: look again soon"


async def reconcile(cluster: Cluster, settings: Settings, namespace: str, name: str) -> Outcome:
    """One round: read everything, write what differs, say how it stands. Raises what the API server's trouble raises;
    the next round starts from what is then there."""
    body = await cluster.get(KIND, namespace, name)
    if body is None or "deletionTimestamp" in body["metadata"]:
        return Outcome.GONE
    observed, pods = await asyncio.gather(_observe(cluster, namespace, name), cluster.pods(namespace, name))

    service: LLMService | None = None
    obstacle: Obstacle | None = None
    notices: list[Notice] = []
    try:
        service = parse(body)
        obstacle = _conflict(service, observed)
        if obstacle is None:
            await _apply(cluster, service, settings, observed, notices)
    except InvalidSpec as error:
        obstacle = Obstacle(conditions.INVALID_SPEC, str(error))
    except Refused as error:
        obstacle = Obstacle(REFUSED, str(error))

    deployment = observed["Deployment", name]
    if deployment is not None and not _owns(body["metadata"]["uid"], deployment):
        deployment, pods = None, []
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = conditions.status(body, service, obstacle, deployment, pods, now)
    notices += _turn(body.get("status", {}), status)
    if status != body.get("status"):
        await cluster.write_status(body, status)
    for notice in notices:
        logger.info("%s/%s: %s: %s", namespace, name, notice.reason, notice.message)
        await cluster.notify(body, notice)
    return Outcome.BLOCKED if obstacle and obstacle.reason != conditions.INVALID_SPEC else Outcome.SETTLED


async def _observe(cluster: Cluster, namespace: str, name: str) -> Observed:
    owned = resources.names(name)
    found = await asyncio.gather(*(cluster.get(kind, namespace, child) for kind, child in owned))
    return dict(zip(owned, found, strict=True))


def _conflict(service: LLMService, observed: Observed) -> Obstacle | None:
    """The first object that stands where the service's own would go."""
    for (kind, name), live in observed.items():
        if live is None or _owns(service.uid, live):
            continue
        owners = live["metadata"].get("ownerReferences", [])
        whose = f"{owners[0]['kind']} {owners[0]['name']}" if owners else "another"
        if any(owner["kind"] == KIND and owner["name"] == service.name for owner in owners):
            message = f"{kind} {name} of a former LLMService {service.name} is still being removed"
        else:
            message = f"{kind} {name} exists and is {whose}'s; delete it or give the LLMService another name"
        return Obstacle(NAME_CONFLICT, message, valid=True)
    return None


def _owns(uid: str, live: Object) -> bool:
    return any(owner["uid"] == uid for owner in live["metadata"].get("ownerReferences", []))


async def _apply(
    cluster: Cluster, service: LLMService, settings: Settings, observed: Observed, notices: list[Notice]
) -> None:
    """Write what differs. `observed` and `notices` grow with what was done, also when the API server refuses one."""
    wanted = {(item["kind"], item["metadata"]["name"]): stamp(item) for item in resources.build(service, settings)}
    for key, desired in wanted.items():
        live = observed[key]
        if live is not None and holds(live, desired):
            continue
        if live is not None and service.spec.autoscaling is not None and _holds_replicas(live):
            await cluster.hand_over_replicas(live, _replicas_to_start_from(service, live))
        try:
            applied = await cluster.apply(desired, live)
        except Refused as error:
            raise Refused(f"{key[0]} {key[1]}: {error}") from None
        observed[key] = applied.object
        if applied.change:
            notices.append(Notice(applied.change, f"{applied.change.lower()} {key[0]} {key[1]}"))
    for key, live in observed.items():
        if key not in wanted and live is not None and "deletionTimestamp" not in live["metadata"]:
            await cluster.delete(live)
            notices.append(Notice("Deleted", f"deleted {key[0]} {key[1]}"))


def _holds_replicas(live: Object) -> bool:
    """Whether the operator is who says how many replicas a Deployment has."""
    return live["kind"] == "Deployment" and any(
        entry["manager"] == FIELD_MANAGER and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in live["metadata"].get("managedFields", [])
    )


def _replicas_to_start_from(service: LLMService, live: Object) -> int:
    """Where the autoscaler takes over; it stays away from a Deployment of 0 replicas."""
    assert service.spec.autoscaling is not None
    bounds = service.spec.autoscaling
    present: int = live["spec"].get("replicas", 1)
    return max(bounds.min_replicas, min(bounds.max_replicas, present))


def _turn(former: Object, status: Object) -> list[Notice]:
    """An event where Ready took another turn."""
    before, after = conditions.of(former, "Ready"), conditions.of(status, "Ready")
    assert after is not None
    if before is not None and (before["status"], before["reason"]) == (after["status"], after["reason"]):
        return []
    warning = after["reason"] != SERVING and after["reason"] not in PASSING
    return [Notice(after["reason"], after["message"], warning=warning)]
